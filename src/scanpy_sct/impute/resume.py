"""Keep an imputation that is under way on disk, so that it goes on after an interruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scanpy_sct.impute.fit import ImputationFit
from scanpy_sct.impute.recovery import Moments
from scanpy_sct.impute.storage import load_fit, save_fit
from scanpy_sct.run.collect import Rows

FIT = "fit.npz"
MOMENTS = "moments"


class Parts(Protocol):
    """What is needed of :class:`scanpy_sct.store.PartStore`."""

    @property
    def partial(self) -> Path:
        """Folder for small files."""
        ...

    def has_part(self, number: int) -> bool:
        """Return whether a part is complete."""
        ...

    def write_part(self, number: int, arrays: Mapping[str, Any]) -> None:
        """Write a part."""
        ...

    def read_part(self, number: int, names: Sequence[str]) -> dict[str, Any]:
        """Read some arrays of a part."""
        ...


@dataclass(frozen=True)
class ImputationStore:
    """The fit and the imputed blocks of one call."""

    parts: Parts

    def load_fit(self) -> ImputationFit | None:
        """Return the fit of an earlier run of the same call; None: there is none."""
        path = self.parts.partial / FIT
        return load_fit(path) if path.exists() else None

    def save_fit(self, fit: ImputationFit) -> None:
        """Keep the fit; the file appears when it is complete."""
        path = self.parts.partial / FIT
        unfinished = path.with_name(f"unfinished-{FIT}")
        save_fit(fit, unfinished)
        unfinished.replace(path)

    def has_block(self, number: int) -> bool:
        """Return whether a block was imputed before."""
        return self.parts.has_part(number)

    def write_block(self, number: int, tables: Mapping[str, Rows], moments: Moments) -> None:
        """Write the tables of the cells of a block, and its moments."""
        stacked = np.stack([getattr(moments, each.name) for each in fields(moments)])
        self.parts.write_part(number, {**tables, MOMENTS: stacked})

    def read_tables(self, number: int, names: Sequence[str]) -> dict[str, Rows]:
        """Read some tables of a block."""
        return self.parts.read_part(number, names)

    def read_moments(self, number: int) -> Moments:
        """Read the moments of a block."""
        return Moments(*self.parts.read_part(number, [MOMENTS])[MOMENTS])

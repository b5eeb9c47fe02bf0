"""Objects joined from several with different genes: find what each sample lacks, also where no samples are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.read.columns import index_of
from scanpy_sct.read.lacking import Counts, LackingTest, lacking_genes
from scanpy_sct.read.samples import dividing_columns, sample_columns

if TYPE_CHECKING:
    from anndata import AnnData

    from scanpy_sct.read.options import ReadOptions

MAX_GROUPS = 100
"""Most values of a column of `.obs` that may be samples."""
SAMPLES_NAMED = 5
"""Samples that a finding names."""
RUNS = 5
"""Runs of rows that are compared where nothing else tells samples apart."""
_NAME_ENDS, _NAME_STARTS = r"[-_.]([^-_.]+)$", r"^([^_:#]+)[_:#]"


@dataclass(frozen=True)
class Lacking:
    """Genes that some samples of an object lack, or seem to lack."""

    by_sample: np.ndarray | None = None
    """(n_samples, n_genes) bool; None: no sample is known to lack any."""
    partly: np.ndarray | None = None
    """(n_genes,) bool: genes that some samples lack, also where samples are only suspected; None: there are none."""
    finding: str = ""
    """What to tell the user."""


@dataclass(frozen=True)
class JoinedCells:
    """Cells of an object that may be joined from several."""

    test: LackingTest
    """Test of some of the cells."""
    rows: np.ndarray
    """Their rows in the object."""
    count: Callable[[np.ndarray], Counts]
    """Function of the sample of each cell of the object, that returns :func:`scanpy_sct.read.lacking.count_detected` of
    all cells; called only if some sample lacks genes."""

    def lacking(self, samples: np.ndarray, *, same_kinds: bool = False) -> np.ndarray | None:
        """Return the genes that each of the ``samples`` (n_cells,) lacks, (n_samples, n_genes) bool; None: none."""
        found = self.test.samples_that_lack(samples[self.rows], same_kinds=same_kinds)
        lacking = lacking_genes(*self.count(samples), found) if found else None
        return None if lacking is None or not lacking.any() else lacking


def find_lacking(cells: JoinedCells, samples: np.ndarray, sample_names: Sequence[str]) -> Lacking:
    """Find the genes that each sample lacks; ``samples`` (n_cells,) are numbers of ``sample_names``."""
    lacking = cells.lacking(samples)
    if lacking is None:
        return Lacking()
    numbers = lacking.sum(axis=1)
    named = [f"{sample_names[n]!r} ({numbers[n]:,})" for n in np.flatnonzero(numbers)]
    more = f" and {len(named) - SAMPLES_NAMED} more" if len(named) > SAMPLES_NAMED else ""
    text = (
        "Some samples have no count of genes that the other samples detect too often for chance, as after a join of "
        f"objects with different genes: {', '.join(named[:SAMPLES_NAMED])}{more}. These genes count as not measured "
        "in these samples, instead of as zero."
    )
    return Lacking(lacking, lacking.any(axis=0), text)


def suspect_lacking(cells: JoinedCells, adata: AnnData, options: ReadOptions) -> Lacking:
    """Look for what tells apart samples of which some lack genes, where ``options.library_key`` does not."""
    for suspect in _suspects(adata, options):
        codes, values = pd.factorize(suspect.values)
        if len(values) > MAX_GROUPS or (codes < 0).any():
            continue
        lacking = cells.lacking(codes, same_kinds=suspect.may_be_kinds)
        if lacking is not None:
            partly = lacking.any(axis=0)
            text = (
                f"{partly.sum():,} genes have no count in {suspect.where}, and the other cells detect them too often "
                "for chance, as after a join of objects with different genes. They are read as measured zeros; "
                f"{suspect.remedy}, so that they count as not measured where they are missing."
            )
            return Lacking(None, partly, text)
    return Lacking()


@dataclass(frozen=True)
class _Suspect:
    """A division of the cells that may be one into samples."""

    values: pd.Series
    where: str
    remedy: str
    may_be_kinds: bool = False
    """Whether these may be kinds of cells, such as clusters."""


def _suspects(adata: AnnData, options: ReadOptions) -> Iterator[_Suspect]:
    """Yield divisions of the cells, the likeliest first: columns named like samples, others, cell names, rows."""
    named = sample_columns(adata)
    columns = dividing_columns(adata.obs, adata.obs)
    for name in [*named, *(name for name in columns if name not in named)]:
        if name != options.library_key:
            where = f"cells with some values of {options.owner}.obs[{name!r}]"
            yield _Suspect(columns[name], where, f"pass library_key={name!r}", name not in named)
    if options.library_key is not None:
        return
    remedy = f"name the sample of each cell in a column of {options.owner}.obs and pass it as library_key="
    names = pd.Series(index_of(adata.obs).astype(str))
    by_name = _Suspect(names, f"cells of {options.owner} whose names start or end alike", remedy)
    yield replace(by_name, values=names.str.extract(_NAME_ENDS, expand=False))
    yield replace(by_name, values=names.str.extract(_NAME_STARTS, expand=False))
    runs = pd.Series(np.arange(len(names)) * RUNS // len(names))
    yield _Suspect(runs, f"some runs of rows of {options.owner}", remedy, may_be_kinds=True)

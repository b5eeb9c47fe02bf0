"""What to read of an AnnData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from scipy import sparse

GivenScale = Literal["auto", "counts", "log1p"]


@dataclass(frozen=True)
class ReadOptions:
    """Which parts of an AnnData to read."""

    layer: str | None = None
    """Layer with the expression; None: `X`."""
    library_key: str | None = None
    """Column of `.obs` with the sample of each cell; None: all cells are one sample."""
    gene_names: str | None = None
    """Column of `.var` with symbols or Ensembl ids; None: `.var_names`."""
    hide: str | sparse.spmatrix | None = None
    """Entries to hide, boolean (n_obs, n_vars), or the name of a layer that holds this."""
    scale: GivenScale = "auto"
    """What the values are; `"auto"`: it is found from the values."""
    normalise: bool = False
    """Whether values are converted to `log1p` of counts per 10,000, whatever their scale."""
    owner: Literal["adata", "reference"] = "adata"
    """The argument that holds the object, which messages name."""

    def __post_init__(self) -> None:
        if self.scale not in get_args(GivenScale):
            choices = ", ".join(map(repr, get_args(GivenScale)))
            msg = f"{self.scale_argument}={self.scale!r} must be one of {choices}."
            raise ValueError(msg)

    @property
    def scale_argument(self) -> str:
        """The argument that gives the scale, which messages name."""
        return argument_of(self.owner, "scale")


def argument_of(owner: str, argument: str) -> str:
    """Return the name of an argument that is about `adata` or about another object: `layer`, `reference_layer`."""
    return argument if owner == "adata" else f"{owner}_{argument}"

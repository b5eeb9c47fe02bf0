"""Read the sample of each cell."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype

from scanpy_sct.read.columns import as_series, check_is_name, read_column

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from anndata import AnnData

_SAMPLE_WORDS = (
    *("sample", "biosample", "library", "specimen", "biopsy", "section", "slice", "puck", "core", "capture area"),
    *("slide", "array", "chip", "orig ident", "gem group", "replicate", "rep", "lane", "channel", "run", "plate"),
    *("batch", "donor", "patient", "subject", "individual", "participant", "animal", "embryo", "organoid"),
    *("dataset", "study", "experiment", "image", "roi", "region of interest", "tma"),
    "run tissue",  # CosMx: `Run_Tissue_name` is the slide
    *("fov", "field of view"),
)
"""Words for a sample, of which the first that is found is named: a sample rather than its donor or a field of view."""
_WORDS_BEFORE = (
    *("tissue", "brain", "tma", "capture", "visium", "xenium", "cosmx", "merfish", "merscope", "10x", "sequencing"),
    *("seq", "biological", "technical", "bio", "tech", "sample", "library", "donor", "patient", "original", "orig"),
    *("study", "imaging", "experiment", "experimental", "human", "geo", "slide", "array", "preparation", "prep"),
)
_WORDS_AFTER = ("id", "ids", "key", "name", "names", "no", "nr", "number", "num", "label", "code", "index", "uuid")
MAX_SHARED_FRACTION = 0.1
"""Fraction of cells with the coordinates of another cell above which several sections are suspected."""


def read_samples(
    adata: AnnData, library_key: str | None = None, owner: str = "adata"
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read the sample of each cell from the column ``library_key``; None: all cells are one sample, `"all"`.

    Messages name the object ``owner``.

    Returns
    -------
    (n_obs,) integers, the sample of each cell; and the names of the samples, without categories that have no cells.

    Raises
    ------
    KeyError
        There is no such column.
    TypeError
        `library_key` is not a string.
    ValueError
        Some cells have no sample.
    """
    check_is_name("library_key", library_key)
    if library_key is None:
        return np.zeros(adata.n_obs, dtype=np.int64), ("all",)
    values = read_column(adata.obs, library_key, "library_key", f"{owner}.obs")
    n_missing = int(values.isna().sum())
    if n_missing:
        msg = (
            f"{owner}.obs[{library_key!r}] (library_key) is missing for {n_missing} of {adata.n_obs} cells. "
            "Give every cell a sample, or remove these cells."
        )
        raise ValueError(msg)
    samples = pd.Categorical(values).remove_unused_categories()
    return samples.codes.astype(np.int64), tuple(map(str, samples.categories))


def sample_columns(adata: AnnData) -> list[str]:
    """Return the columns of `adata.obs` that seem, by their names, to hold samples, and have more than one value.

    The likeliest come first.
    """
    ranks = {name: _rank(name) for name in adata.obs if isinstance(name, str)}
    named = sorted((name for name, rank in ranks.items() if rank is not None), key=lambda name: ranks[name])
    return list(dividing_columns(adata.obs, named))


def dividing_columns(table: Any, names: Iterable[Any]) -> dict[str, pd.Series]:
    """Return those of some columns of `.obs` that may divide the cells; others hold lists or have an ambiguous name."""
    columns = list(table)
    found = {name: as_series(table[name]) for name in names if isinstance(name, str) and columns.count(name) == 1}
    return {name: values for name, values in found.items() if _is_divided(values)}


@cache
def _rank(column: str) -> int | None:
    """Return the number of the word for samples in a name such as "tissue_section" or "SampleID"; None: there is none.

    A name with other words ("sample_quality", "n_samples", "core_score") means something else.
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", column).lower().split()
    while words and words[-1] in _WORDS_AFTER:
        words = words[:-1]
    for start in range(len(words)):
        if all(word in _WORDS_BEFORE for word in words[:start]):
            rank = _ranks().get("".join(words[start:]))
            if rank is not None:
                return rank
    return None


@cache
def _ranks() -> dict[str, int]:
    """Return the number of each word for samples, in singular and plural, also with a suffix and without a space."""
    words = {}
    for rank, text in enumerate(_SAMPLE_WORDS):
        word = text.replace(" ", "")
        for form in (word, f"{word}s", f"{word}es", f"{word[:-1]}ies"):
            words.update({form + suffix: rank for suffix in ("", *_WORDS_AFTER)})
    return words


def _is_divided(values: pd.Series) -> bool:
    """Return whether a column has several values, fewer than cells, and no decimal numbers."""
    is_decimal = is_float_dtype(values) and bool((values.dropna() % 1 != 0).any())
    try:
        return not is_decimal and 1 < values.nunique() < len(values)
    except TypeError:  # lists and arrays cannot be compared
        return False


def missed_samples(adata: AnnData, coordinates: np.ndarray | None, owner: str = "adata") -> str:
    """Return a warning if an object that is read without `library_key` seems to hold several samples; else "".

    ``coordinates`` come from :func:`scanpy_sct.read.coordinates.read_coordinates`.
    """
    columns = sample_columns(adata)
    signs = [f"{owner}.obs[{name!r}] has {as_series(adata.obs[name]).nunique()} values" for name in columns[:1]]
    n_shared = 0 if coordinates is None else _count_shared(coordinates)
    if n_shared > MAX_SHARED_FRACTION * adata.n_obs:
        signs.append(f"{n_shared:,} cells lie exactly where another does in {owner}.obsm['spatial']")
    if not signs:
        return ""
    fix = f"library_key={columns[0]!r}" if columns else "library_key='<the column of .obs with the sample>'"
    of = "" if owner == "adata" else f"of the {owner} "
    other = "" if columns else "; if these are not real coordinates, use bags='similar'"
    return f"All cells {of}are read as one sample, but {' and '.join(signs)}: for several samples pass {fix}{other}."


def _count_shared(coordinates: np.ndarray) -> int:
    """Count the cells that have the same coordinates as another one."""
    coordinates = np.ascontiguousarray(coordinates[np.isfinite(coordinates).all(axis=1)], dtype=np.float64)
    # Complex numbers are sorted many times faster than rows of two.
    _, counts = np.unique(coordinates.view(np.complex128), return_counts=True)
    return int(counts[counts > 1].sum())

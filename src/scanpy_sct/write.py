"""The only writer: puts results into an AnnData, under names that stand here and nowhere else.

Everything is checked before the first field is written, so a failing call leaves the object as it was. A view becomes
an object of its own when something is written to it: anndata does that, and says so with a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from scanpy_sct.storable import storable, storable_name


@dataclass(frozen=True)
class WriteOptions:
    """Where a result goes."""

    key_added: str
    """Name of the result."""
    copy: bool = False
    """Write to a copy, which is returned, and leave the object as it is."""


def guard(adata: AnnData, options: WriteOptions) -> None:
    """Raise an error, before anything is computed, if the result could not be written.

    Raises
    ------
    TypeError
        The key is not a string.
    ValueError
        No file could hold the key, another tool uses it, or the object is on disk and is to be copied.
    """
    key, uns = checked_key(options.key_added), getattr(adata, "uns", {})
    found = uns.get(key)
    is_ours = isinstance(found, Mapping) and "scanpy_sct" in found.get("versions", {})
    if found is not None and not is_ours:
        msg = (
            f"key_added={key!r}: adata.uns[{key!r}] already exists and was not written by scanpy_sct; choose another "
            "name."
        )
        raise ValueError(msg)
    if getattr(adata, "isbacked", False) and (options.copy or adata.is_view):
        what = "copy=True" if options.copy else "adata is a view"
        msg = f"{what}, and the matrix of adata is on disk (backed); give adata.to_memory()."
        raise ValueError(msg)


@dataclass(frozen=True)
class ImputationKeys:
    """Names of the fields of an imputation."""

    values: str
    """In `.layers`, and in `.uns` for the parameters."""
    imputed: str
    recovery: str
    """Both in `.var`."""
    unmeasured: str
    """In `.obsm`."""
    bins: str
    confidence: str
    """Both in `.layers`."""
    network_fraction: str
    source: str
    """Both in `.var`."""

    @classmethod
    def of(cls, key: str) -> ImputationKeys:
        """Names that belong to `key_added`."""
        suffixes = ("imputed", "recovery", "unmeasured", "bins", "confidence", "network_fraction", "source")
        return cls(checked_key(key), *(f"{key}_{suffix}" for suffix in suffixes))


@dataclass(frozen=True)
class AnnotationKeys:
    """Names of the fields of an annotation."""

    labels: str
    """In `.obs`, and in `.uns` for the parameters."""
    score: str
    novelty: str
    """Both in `.obs`."""
    probabilities: str
    """In `.obsm`."""

    @classmethod
    def of(cls, key: str) -> AnnotationKeys:
        """Names that belong to `key_added`."""
        return cls(checked_key(key), f"{key}_score", f"{key}_novelty", f"{key}_probs")


def write_imputation(
    adata: AnnData,
    key: str,
    *,
    layer: np.ndarray,
    imputed: np.ndarray,
    recovery: np.ndarray,
    params: Mapping[str, Any],
    network_fraction: np.ndarray | None = None,
    unmeasured: pd.DataFrame | None = None,
    bins: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write imputed expression.

    Optional fields of an earlier result under the same key are removed when this result does not have them, so that
    fields of two results never stand side by side.

    Parameters
    ----------
    adata
        Object to write to.
    key
        Name of the result.
    layer
        Expected expression, (n_obs, n_vars), on the log scale of the input; written as float32 to ``.layers[key]``.
    imputed
        Whether the network predicted the gene, (n_vars,); written as bool to ``.var[key + "_imputed"]``.
    recovery
        How well hidden observed values of the gene were predicted, (n_vars,); as float64 to
        ``.var[key + "_recovery"]``.
    params
        Arguments of the call; to ``.uns[key]["params"]``.
    network_fraction
        Fraction of the network in a blended prediction of whether the gene is expressed, (n_vars,), NaN where there is
        none; as float64 to ``.var[key + "_network_fraction"]``, and in words to ``.var[key + "_source"]``.
    unmeasured
        Expected expression of genes that were not measured, cells x genes; as float32 to
        ``.obsm[key + "_unmeasured"]``.
    bins
        Most probable bin, (n_obs, n_vars); as uint8 to ``.layers[key + "_bins"]``.
    confidence
        Probability of that bin, (n_obs, n_vars); as float32 to ``.layers[key + "_confidence"]``.
    details
        What else is worth keeping (model, genes, versions); beside ``"params"`` in ``.uns[key]``.

    Raises
    ------
    ValueError
        If a shape or an index does not fit `adata`.
    """
    keys = ImputationKeys.of(key)
    fields = [
        _Field("layers", keys.values, _matrix(adata, "layer", layer, np.float32)),
        _Field("layers", keys.bins, _matrix(adata, "bins", bins, np.uint8)),
        _Field("layers", keys.confidence, _matrix(adata, "confidence", confidence, np.float32)),
        _Field("obsm", keys.unmeasured, _table(adata, "unmeasured", unmeasured)),
        _Field("var", keys.imputed, _vector("imputed", imputed, adata.n_vars, bool)),
        _Field("var", keys.recovery, _vector("recovery", recovery, adata.n_vars, np.float64)),
        _Field("var", keys.network_fraction, _fraction(adata, network_fraction)),
        _Field("var", keys.source, _source(network_fraction)),
        _Field("uns", key, _record(params, details)),
    ]
    _write(adata, fields)


def write_embedding(
    adata: AnnData,
    key: str = "X_sct",
    *,
    values: np.ndarray,
    params: Mapping[str, Any],
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write one vector per cell.

    Parameters
    ----------
    adata
        Object to write to.
    key
        Name of the result.
    values
        Vectors of the cells, (n_obs, n_dimensions); written as float32 to ``.obsm[key]``.
    params
        Arguments of the call; to ``.uns[key]["params"]``.
    details
        What else is worth keeping (model, genes, versions); beside ``"params"`` in ``.uns[key]``.

    Raises
    ------
    ValueError
        If a shape does not fit `adata`.
    """
    checked_key(key)
    fields = [
        _Field("obsm", key, _vectors("values", values, adata.n_obs)),
        _Field("uns", key, _record(params, details)),
    ]
    _write(adata, fields)


def write_annotation(
    adata: AnnData,
    key: str = "sct_label",
    *,
    labels: pd.Categorical | pd.Series | np.ndarray,
    score: np.ndarray,
    probabilities: pd.DataFrame,
    params: Mapping[str, Any],
    novelty: np.ndarray | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write the name of each cell, how sure it is, and the probability of every name.

    Without `novelty`, that of an earlier result under the same key is removed.

    Parameters
    ----------
    adata
        Object to write to.
    key
        Name of the result.
    labels
        Names, (n_obs,); written as categorical to ``.obs[key]``.
    score
        Probability of the best name, (n_obs,); as float32 to ``.obs[key + "_score"]``.
    probabilities
        Probability of every name, cells x names; as float32 to ``.obsm[key + "_probs"]``. A ``/`` in a column name
        becomes ``|``, since neither h5ad nor zarr files can hold it; the labels keep theirs.
    params
        Arguments of the call; to ``.uns[key]["params"]``.
    novelty
        Probability that no name is right, (n_obs,); as float32 to ``.obs[key + "_novelty"]``.
    details
        What else is worth keeping (model, genes, versions); beside ``"params"`` in ``.uns[key]``.

    Raises
    ------
    ValueError
        If a shape or an index does not fit `adata`.
    """
    keys = AnnotationKeys.of(key)
    fields = [
        _Field("obs", keys.labels, _categories(adata, labels)),
        _Field("obs", keys.score, _vector("score", score, adata.n_obs, np.float32)),
        _Field("obs", keys.novelty, None if novelty is None else _vector("novelty", novelty, adata.n_obs, np.float32)),
        _Field("obsm", keys.probabilities, _table(adata, "probabilities", probabilities)),
        _Field("uns", key, _record(params, details)),
    ]
    _write(adata, fields)


class _Field(NamedTuple):
    """One thing to write, `adata.<container>[key] = value`; a value of None removes what stands there."""

    container: str
    key: str
    value: Any


def _write(adata: AnnData, fields: list[_Field]) -> None:
    for container, key, value in fields:
        if value is not None:
            getattr(adata, container)[key] = value
        elif key in getattr(adata, container):
            del getattr(adata, container)[key]


def checked_key(key: str) -> str:
    """Return the name of a result, or say why no file could hold it."""
    if not isinstance(key, str):
        msg = f"key_added={key!r} is not a str."
        raise TypeError(msg)
    if not key or "/" in key:
        msg = f"key_added={key!r} cannot be stored in a file; give a name of one or more characters without '/'."
        raise ValueError(msg)
    return key


def _checked_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if tuple(found) != expected:
        msg = f"{name} has shape {tuple(found)}, expected shape {expected}."
        raise ValueError(msg)


def _checked_rows(adata: AnnData, name: str, value: pd.DataFrame | pd.Series) -> None:
    if not value.index.equals(adata.obs_names):
        msg = f"{name} must have the cells of the object as its index, in the same order."
        raise ValueError(msg)


def _matrix(adata: AnnData, name: str, value: Any, dtype: type) -> Any:
    """Check a cells x genes matrix; dense, sparse and dask arrays stay what they are."""
    if value is None:
        return None
    _checked_shape(name, value.shape, adata.shape)
    return value if value.dtype == dtype else value.astype(dtype)


def _vector(name: str, value: Any, length: int, dtype: type) -> np.ndarray:
    value = np.asarray(value, dtype=dtype)
    _checked_shape(name, value.shape, (length,))
    return value


def _fraction(adata: AnnData, fraction: np.ndarray | None) -> np.ndarray | None:
    return None if fraction is None else _vector("network_fraction", fraction, adata.n_vars, np.float64)


def _source(fraction: np.ndarray | None) -> pd.Categorical | None:
    """Name the larger part of each gene's prediction."""
    if fraction is None:
        return None
    names = np.where(np.isnan(fraction), "none", np.where(np.asarray(fraction) >= 0.5, "network", "data"))
    return pd.Categorical(names, categories=["network", "data", "none"])


def _vectors(name: str, value: Any, n_rows: int) -> np.ndarray:
    value = np.asarray(value, dtype=np.float32)
    if value.ndim != 2 or len(value) != n_rows:
        msg = f"{name} has shape {value.shape}, expected shape ({n_rows}, dimensions)."
        raise ValueError(msg)
    return value


def _table(adata: AnnData, name: str, value: pd.DataFrame | None) -> pd.DataFrame | None:
    if value is None:
        return None
    _checked_rows(adata, name, value)
    columns = value.columns.map(storable_name)
    if not columns.is_unique:
        msg = f"{name} has columns that cannot be told apart: {sorted(set(columns[columns.duplicated()]))}."
        raise ValueError(msg)
    return value.set_axis(columns, axis="columns").astype(np.float32)


def _categories(adata: AnnData, labels: Any) -> pd.Categorical:
    if isinstance(labels, pd.Series):
        _checked_rows(adata, "labels", labels)
    labels = pd.Categorical(labels)
    _checked_shape("labels", labels.shape, (adata.n_obs,))
    # Files hold categories as text only; cluster numbers and the like become text here rather than an error there.
    return labels.rename_categories(labels.categories.astype(str))


def _record(params: Mapping[str, Any], details: Mapping[str, Any] | None) -> dict[str, Any]:
    return storable({**(details or {}), "params": params})

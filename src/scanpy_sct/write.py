"""The only writer of results into an AnnData; the names of all fields are defined here.

Everything is checked before the first field is written, so a failing call leaves the object as it was. anndata turns a
view that is written to into an object of its own, with a warning.

All writers take the object (``adata``), the name of the result (``key``), the arguments of the call (``params``, stored
in ``.uns[key]["params"]``) and more to record (``details``: model, genes, versions; beside ``"params"``). They raise a
ValueError if a shape or an index does not fit the object. Optional fields of an earlier result under the same key are
removed when this result does not have them, so that fields of two results never stand side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from scanpy_sct.keys import AnnotationKeys, ImputationKeys, Kind, checked_key, fields_of
from scanpy_sct.storable import storable, storable_name


@dataclass(frozen=True)
class WriteOptions:
    """Where a result goes."""

    key_added: str
    """Name of the result."""
    copy: bool = False
    """Write to a copy, which is returned, and leave the object as it is."""
    kind: Kind = "embedding"
    """What it is, which decides on its fields."""
    out: str | PathLike[str] | None = None
    """Store in which the result is collected; None: in memory."""


def guard(adata: AnnData, options: WriteOptions) -> None:
    """Raise an error, before anything is computed, if the result cannot be written.

    Raises
    ------
    TypeError
        The key is not a string.
    ValueError
        A file cannot store the key, the object has fields of this name that another tool wrote, the object is on disk
        and a copy is requested, or it was opened without the names of its cells.
    """
    key = checked_key(options.key_added)
    params = getattr(adata, "uns", {}).get(key)
    if not (isinstance(params, Mapping) and "scanpy_sct" in params.get("versions", {})):
        for container, name in fields_of(key, options.kind):
            if name in getattr(adata, container, ()):
                msg = (
                    f"key_added={key!r}: adata.{container}[{name!r}] already exists and was not written by scanpy_sct; "
                    "choose another name."
                )
                raise ValueError(msg)
    if getattr(adata, "isbacked", False) and (options.copy or adata.is_view):
        what = "copy=True" if options.copy else "adata is a view"
        msg = f"{what}, and the matrix of adata is on disk (backed); pass adata.to_memory()."
        raise ValueError(msg)
    obs = getattr(adata, "obs", None)
    if getattr(obs, "true_index_dim", None) != getattr(obs, "index_dim", None):
        # anndata could not load the tables that would be written.
        msg = (
            "adata was opened without the names of its cells (load_annotation_index=False); open it with "
            "load_annotation_index=True."
        )
        raise ValueError(msg)


def write_imputation(
    adata: AnnData,
    key: str,
    *,
    layer: Any,
    imputed: np.ndarray,
    recovery: np.ndarray,
    params: Mapping[str, Any],
    network_fraction: np.ndarray | None = None,
    unmeasured: pd.DataFrame | None = None,
    similarity: np.ndarray | None = None,
    bins: Any = None,
    confidence: Any = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write imputed expression.

    Parameters
    ----------
    layer
        (n_obs, n_vars) expected expression on the log scale of the input, dense, CSR or dask; as float32 to
        ``.layers[key]``. None: it is written by other means.
    imputed
        (n_vars,) whether the gene was predicted; as bool to ``.var[key + "_imputed"]``.
    recovery
        (n_vars,) correlation of predicted and observed values; as float64 to ``.var[key + "_recovery"]``.
    network_fraction
        (n_vars,) fraction of the network in the blended detection probability, NaN where there is none; as float64 to
        ``.var[key + "_network_fraction"]``, and as a category to ``.var[key + "_source"]``.
    unmeasured
        Cells x genes, expected expression of unmeasured genes; as float32 to ``.obsm[key + "_unmeasured"]``.
    similarity
        (n_obs,) similarity of each cell to the reference; as float32 to ``.obs[key + "_similarity"]``.
    bins
        (n_obs, n_vars) most probable bin; as uint8 to ``.layers[key + "_bins"]``.
    confidence
        (n_obs, n_vars) probability of that bin; as float32 to ``.layers[key + "_confidence"]``.
    """
    keys = ImputationKeys.of(key)
    fields = [
        _Field("layers", keys.values, _matrix(adata, "layer", layer, np.float32)),
        _Field("layers", keys.bins, _matrix(adata, "bins", bins, np.uint8)),
        _Field("layers", keys.confidence, _matrix(adata, "confidence", confidence, np.float32)),
        _Field("obsm", keys.unmeasured, _table(adata, "unmeasured", unmeasured)),
        _Field("obs", keys.similarity, _vector("similarity", similarity, adata.n_obs, np.float32)),
        _Field("var", keys.imputed, _vector("imputed", imputed, adata.n_vars, bool)),
        _Field("var", keys.recovery, _vector("recovery", recovery, adata.n_vars, np.float64)),
        _Field("var", keys.network_fraction, _vector("network_fraction", network_fraction, adata.n_vars, np.float64)),
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
    """Write one vector per cell, ``values`` (n_obs, n_dimensions), as float32 to ``.obsm[key]``."""
    checked_key(key)
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 2 or len(values) != adata.n_obs:
        msg = f"values has shape {values.shape}, expected shape ({adata.n_obs}, dimensions)."
        raise ValueError(msg)
    fields = [
        _Field("obsm", key, values),
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
    """Write the label of each cell and the probability of every label.

    Parameters
    ----------
    labels
        (n_obs,) labels; as categorical to ``.obs[key]``.
    score
        (n_obs,) probability of the most probable label; as float32 to ``.obs[key + "_score"]``.
    probabilities
        Cells x labels; as float32 to ``.obsm[key + "_probs"]``. A ``/`` in a column name becomes ``|``, since h5ad and
        zarr files cannot store it; the labels keep theirs.
    novelty
        (n_obs,) probability that no label is right; as float32 to ``.obs[key + "_novelty"]``.
    """
    keys = AnnotationKeys.of(key)
    fields = [
        _Field("obs", keys.labels, _categories(adata, labels)),
        _Field("obs", keys.score, _vector("score", score, adata.n_obs, np.float32)),
        _Field("obs", keys.novelty, _vector("novelty", novelty, adata.n_obs, np.float32)),
        _Field("obsm", keys.probabilities, _table(adata, "probabilities", probabilities)),
        _Field("uns", key, _record(params, details)),
    ]
    _write(adata, fields)


class _Field(NamedTuple):
    """Assignment ``adata.<container>[key] = value``; a value of None removes the field."""

    container: str
    key: str
    value: Any


def _write(adata: AnnData, fields: list[_Field]) -> None:
    for container, key, value in fields:
        target = getattr(adata, container)
        if value is not None:
            target[key] = value
        elif key in target:
            # The tables of a lazy object are xarray datasets in a wrapper that cannot delete.
            del (target.ds if hasattr(target, "ds") else target)[key]


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


def _vector(name: str, value: Any, length: int, dtype: type) -> np.ndarray | None:
    if value is None:
        return None
    value = np.asarray(value, dtype=dtype)
    _checked_shape(name, value.shape, (length,))
    return value


def _source(fraction: np.ndarray | None) -> pd.Categorical | None:
    """Category with the larger weight in each gene's prediction."""
    if fraction is None:
        return None
    names = np.where(np.isnan(fraction), "none", np.where(np.asarray(fraction) >= 0.5, "network", "data"))
    return pd.Categorical(names, categories=["network", "data", "none"])


def _table(adata: AnnData, name: str, value: pd.DataFrame | None) -> pd.DataFrame | None:
    if value is None:
        return None
    _checked_rows(adata, name, value)
    columns = value.columns.map(storable_name)
    if not columns.is_unique:
        msg = f"{name} has columns of the same name: {sorted(set(columns[columns.duplicated()]))}; rename them."
        raise ValueError(msg)
    return value.set_axis(columns, axis="columns").astype(np.float32)


def _categories(adata: AnnData, labels: Any) -> pd.Categorical:
    if isinstance(labels, pd.Series):
        _checked_rows(adata, "labels", labels)
    labels = pd.Categorical(labels)
    _checked_shape("labels", labels.shape, (adata.n_obs,))
    # Files store categories as strings only.
    return labels.rename_categories(labels.categories.astype(str))


def _record(params: Mapping[str, Any], details: Mapping[str, Any] | None) -> dict[str, Any]:
    return storable({**(details or {}), "params": params})

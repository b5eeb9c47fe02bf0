"""Find the imputed values of genes in an object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.storable import storable_name
from scanpy_sct.write import ImputationKeys


@dataclass(frozen=True)
class ImputedGenes:
    """Where the values of some imputed genes are stored."""

    names: list[str]
    """As requested, without duplicates."""
    columns: np.ndarray
    """(genes,) column of the layer, -1 for an unmeasured gene."""
    table_columns: np.ndarray
    """(genes,) column of the table of unmeasured genes, -1 for a measured gene."""


def find_imputed(adata: AnnData, genes: str | Sequence[str], key: str) -> ImputedGenes:
    """Find genes among the imputed ones, by their names in the object, by symbol or Ensembl id.

    Raises
    ------
    KeyError
        There is no such result, or one of the genes was not imputed.
    """
    keys = ImputationKeys.of(key)
    _check_result(adata, keys)
    names = list(dict.fromkeys([genes] if isinstance(genes, str) else genes))
    columns = np.flatnonzero(adata.var[keys.imputed].to_numpy(dtype=bool))
    table = adata.obsm[keys.unmeasured].columns if keys.unmeasured in adata.obsm else pd.Index([])
    index = _index_of(names, adata, key, columns, table)
    measured = index < len(columns)
    return ImputedGenes(
        names,
        np.where(measured, columns[np.where(measured, index, 0)] if len(columns) else -1, -1),
        np.where(measured, -1, index - len(columns)),
    )


def _check_result(adata: AnnData, keys: ImputationKeys) -> None:
    if keys.values in adata.layers and keys.imputed in adata.var:
        return
    found = [name for name in adata.layers if f"{name}_imputed" in adata.var]
    available = f"; available: {', '.join(map(repr, found))}" if found else ""
    msg = f"key={keys.values!r} is not an imputation of this object{available}; run sct.tl.impute(adata) first."
    raise KeyError(msg)


def _index_of(names: list[str], adata: AnnData, key: str, columns: np.ndarray, table: pd.Index) -> np.ndarray:
    """Return the index of each name among the imputed columns of the layer, followed by those of the table."""
    own = pd.Index([*adata.var_names[columns].astype(str), *table.astype(str)], dtype=object)
    index = _first_index(own, [storable_name(name) for name in names])
    missing = np.flatnonzero(index < 0)
    if len(missing):
        # Synonyms are compared by Ensembl id.
        column = adata.uns.get(key, {}).get("params", {}).get("gene_names", "none")
        read = adata.var[column] if column in adata.var else adata.var_names
        known = to_ensembl([*np.asarray(read, dtype=object)[columns], *table]).ensembl_ids
        requested = to_ensembl([names[number] for number in missing]).ensembl_ids
        found = _first_index(pd.Index(known, dtype=object), requested.tolist())
        index[missing] = np.where(requested == "", -1, found)
    absent = [name for name, number in zip(names, index, strict=True) if number < 0]
    if absent:
        msg = (
            f"genes={absent} are not among the {len(own):,} imputed genes of key={key!r}; request them when imputing: "
            f"sct.tl.impute(adata, genes={absent})."
        )
        raise KeyError(msg)
    return index


def _first_index(names: pd.Index, requested: Sequence[str]) -> np.ndarray:
    """Return the index of the first occurrence of each requested name, -1 where it is absent."""
    first = np.flatnonzero(~names.duplicated())
    number = names[first].get_indexer(pd.Index(requested, dtype=object))
    found = np.full(len(number), -1)
    found[number >= 0] = first[number[number >= 0]]
    return found

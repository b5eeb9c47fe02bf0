"""Find the imputed values of genes in an object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from anndata import AnnData

from scanpy_sct.get.advice import advise_genes, advise_impute
from scanpy_sct.keys import ImputationKeys
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.columns import as_series
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.storable import storable_name


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
    check_is_anndata(adata)
    keys = ImputationKeys.of(key)
    _check_result(adata, keys)
    names = list(dict.fromkeys([genes] if isinstance(genes, str) else genes))
    columns = np.flatnonzero(as_series(adata.var[keys.imputed]).to_numpy(dtype=bool))
    table = list(adata.obsm[keys.unmeasured]) if keys.unmeasured in adata.obsm else []
    index = _index_of(names, adata, key, columns, table)
    measured = index < len(columns)
    found = np.full(len(names), -1)
    found[measured] = columns[index[measured]]
    return ImputedGenes(names, found, np.where(measured, -1, index - len(columns)))


def _check_result(adata: AnnData, keys: ImputationKeys) -> None:
    if keys.values in adata.layers and keys.imputed in adata.var:
        return
    found = [name for name in adata.layers if f"{name}_imputed" in adata.var]
    available = f"; available: {', '.join(map(repr, found))}" if found else ""
    call = advise_impute(adata, keys.values)
    msg = f"key={keys.values!r} is not an imputation of this object{available}; run {call} first."
    raise KeyError(msg)


def _index_of(names: list[str], adata: AnnData, key: str, columns: np.ndarray, table: list[str]) -> np.ndarray:
    """Return the index of each name among the imputed columns of the layer, followed by those of the table."""
    by_name = _first_index([*adata.var_names[columns], *table])
    index = [by_name.get(storable_name(name), -1) for name in names]
    if -1 in index:
        # Synonyms are compared by Ensembl id.
        column = adata.uns.get(key, {}).get("params", {}).get("gene_names", "none")
        read = as_series(adata.var[column]) if column in adata.var else adata.var_names
        by_id = _first_index(to_ensembl([*np.asarray(read, dtype=object)[columns], *table]).ensembl_ids)
        by_id.pop("", None)
        ids = to_ensembl(names).ensembl_ids
        index = [by_id.get(gene, -1) if number < 0 else number for number, gene in zip(index, ids, strict=True)]
    absent = [name for name, number in zip(names, index, strict=True) if number < 0]
    if absent:
        n_genes = len(columns) + len(table)
        advice = advise_genes(adata, names, absent, key)
        msg = f"genes={absent} are not among the {n_genes:,} imputed genes of key={key!r}: {advice}."
        raise KeyError(msg)
    return np.asarray(index, dtype=int)


def _first_index(names: Iterable[str]) -> dict[str, int]:
    """Return the index of the first occurrence of each name."""
    found: dict[str, int] = {}
    for index, name in enumerate(names):
        found.setdefault(name, index)
    return found

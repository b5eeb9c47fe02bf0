"""Where the imputed values of a gene stand."""

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
    """Some genes of an imputation."""

    names: list[str]
    """As they were asked for, each once."""
    columns: np.ndarray
    """(genes,) column of the data, -1 for a gene that was not measured."""
    table_columns: np.ndarray
    """(genes,) column of the table of genes that were not measured, -1 for a gene that was."""


def find_imputed(adata: AnnData, genes: str | Sequence[str], key: str) -> ImputedGenes:
    """Find genes among the imputed ones, by the names the object uses, or by symbol or Ensembl id.

    Raises
    ------
    KeyError
        If there is no such result, or it does not have one of the genes.
    """
    keys = ImputationKeys.of(key)
    _check_result(adata, keys)
    names = list(dict.fromkeys([genes] if isinstance(genes, str) else genes))
    columns = np.flatnonzero(adata.var[keys.imputed].to_numpy(dtype=bool))
    table = adata.obsm[keys.unmeasured].columns if keys.unmeasured in adata.obsm else pd.Index([])
    places = _find(names, adata, key, columns, table)
    measured = places < len(columns)
    return ImputedGenes(
        names,
        np.where(measured, columns[np.where(measured, places, 0)] if len(columns) else -1, -1),
        np.where(measured, -1, places - len(columns)),
    )


def _check_result(adata: AnnData, keys: ImputationKeys) -> None:
    if keys.values in adata.layers and keys.imputed in adata.var:
        return
    found = [name for name in adata.layers if f"{name}_imputed" in adata.var]
    there = f"; there are: {', '.join(map(repr, found))}" if found else ""
    msg = f"key={keys.values!r}: the object has no such imputation{there}. Run sct.tl.impute(adata) first."
    raise KeyError(msg)


def _find(names: list[str], adata: AnnData, key: str, columns: np.ndarray, table: pd.Index) -> np.ndarray:
    """Place of each name: first the imputed columns of the data, then those of the table."""
    own = pd.Index([*adata.var_names[columns].astype(str), *table.astype(str)], dtype=object)
    places = _first_places(own, [storable_name(name) for name in names])
    missing = np.flatnonzero(places < 0)
    if len(missing):
        # Other names for the same genes: what counts is the Ensembl id.
        column = adata.uns.get(key, {}).get("params", {}).get("gene_names", "none")
        read = adata.var[column] if column in adata.var else adata.var_names
        known = to_ensembl([*np.asarray(read, dtype=object)[columns], *table]).ensembl_ids
        wanted = to_ensembl([names[number] for number in missing]).ensembl_ids
        places[missing] = np.where(wanted == "", -1, _first_places(pd.Index(known, dtype=object), wanted))
    absent = [name for name, place in zip(names, places, strict=True) if place < 0]
    if absent:
        msg = (
            f"genes: {absent} are not among the {len(own):,} imputed genes of key={key!r}. "
            f"Ask for them when imputing: sct.tl.impute(adata, genes={absent})."
        )
        raise KeyError(msg)
    return places


def _first_places(index: pd.Index, names: Sequence[str]) -> np.ndarray:
    """Return the first place of each name in ``index``, -1 where it is absent."""
    first = np.flatnonzero(~index.duplicated())
    places = index[first].get_indexer(pd.Index(names, dtype=object))
    found = np.full(len(places), -1)
    found[places >= 0] = first[places[places >= 0]]
    return found

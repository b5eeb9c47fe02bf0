"""Which cells are annotated from which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from scanpy_sct.annotate.labels import MIN_CELLS, check_labels
from scanpy_sct.evaluate._arguments import check_expression, read_strings
from scanpy_sct.plan.draw import rank_within_labels
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.columns import read_column
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.not_genes import find_not_genes

LABEL = "label"
DONOR = "donor"
"""Columns of `.obs` that methods may see, the first one in labelled cells only."""


@dataclass(frozen=True, eq=False)
class Split:
    """Cells to learn from, and cells to annotate."""

    name: str
    reference: AnnData
    query: AnnData
    rows: np.ndarray
    """Rows of the query in the data."""


def make_splits(query: AnnData, known: AnnData | None, learns: bool, seed: int) -> list[Split]:
    """Divide the data; several splits of one name are evaluated together.

    Where no method learns and there is no reference, all cells are one split.
    """
    everything = np.arange(query.n_obs)
    if known is not None:
        return [Split("reference", known, query, everything)]
    if not learns:
        return [Split("all cells", query, query, everything)]
    if DONOR in query.obs:
        donors = query.obs[DONOR].to_numpy()
        names = np.unique(donors)
        if len(names) < 2:
            msg = (
                f"donor_key has a single donor, {names[0]!r}, and each is annotated from the others; pass "
                "`reference=`, or omit it."
            )
            raise ValueError(msg)
        parts = [donors == name for name in names]
        splits = [Split("held-out donors", query[~part], query[part], np.flatnonzero(part)) for part in parts]
    else:
        half = rank_within_labels(query.obs[LABEL].to_numpy(), seed) % 2 == 1
        splits = [Split("halves", query[~half], query[half], np.flatnonzero(half))]
    for split in splits:
        check_learnable(split.reference, f"the cells to annotate {split.name} from")
    return splits


def without(split: Split, left_out: str) -> Split | None:
    """Remove a type from the reference; None where it is not there, or fewer than two labels remain."""
    is_left_out = (split.reference.obs[LABEL] == left_out).to_numpy()
    counts = split.reference.obs[LABEL][~is_left_out].value_counts()
    if not is_left_out.any() or (counts >= MIN_CELLS).sum() < 2:
        return None
    return Split(split.name, split.reference[~is_left_out], split.query, split.rows)


def plain_copy(
    adata: AnnData,
    argument: str,
    labels_key: str,
    donor_key: str | None,
    layer: str | None,
    gene_names: str | None = None,
    optional: bool = False,
) -> AnnData:
    """Copy what methods may see: expression of genes, names, coordinates, `label` and `donor` in `.obs`.

    `.var_names` become those in the column `gene_names`. Where `optional`, the columns of donors and of gene names may
    be missing.
    """
    check_is_anndata(adata, argument)
    labels = read_strings(adata, labels_key, "labels_key", owner=argument, complete=True)
    obs = pd.DataFrame({LABEL: labels.to_numpy(dtype=str)}, index=adata.obs_names.astype(str))
    if donor_key is not None and not (optional and donor_key not in adata.obs):
        donors = read_strings(adata, donor_key, "donor_key", owner=argument, complete=True)
        obs[DONOR] = pd.Categorical(donors.to_numpy())
    var = adata.var.copy()
    is_gene = ~find_not_genes(var, pd.Series(var.index), argument)
    if gene_names is not None and not (optional and gene_names not in var):
        names = read_column(var, gene_names, "gene_names", f"{argument}.var").astype(object)
        is_gene &= ~find_not_genes(var, names, argument)
        var.index = pd.Index(names.where(names.notna(), "").astype(str).to_numpy(dtype=object))
    matrix = read_matrix(adata, layer, ~is_gene)
    check_expression(matrix, argument)
    coordinates = {"spatial": adata.obsm["spatial"]} if "spatial" in adata.obsm else {}
    return AnnData(matrix[:, is_gene], obs=obs, var=var[is_gene], obsm=coordinates)


def check_learnable(cells: AnnData, name: str) -> None:
    """Raise an error for labels that `annotate` cannot learn."""
    check_labels(cells.obs[LABEL], name, np.ones(cells.n_obs, dtype=bool))

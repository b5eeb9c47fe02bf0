"""A data set, read once for all tasks."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata.utils import make_index_unique

from scanpy_sct.evaluate._arguments import check_expression, read_strings
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.not_genes import without_columns
from scanpy_sct.read.options import GivenScale, ReadOptions
from scanpy_sct.read.reader import CellReader
from scanpy_sct.read.scale import N_SAMPLED_ROWS, counts_unit

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.genes import GeneMatch
    from scanpy_sct.read.reader import CellBlock
    from scanpy_sct.read.scale import Scale

TOKEN_SCALE = "log1p_counts"
_MIN_CELLS = 3


@dataclass(frozen=True, eq=False)
class Source:
    """A data set, from which all tasks are made."""

    cells: CellBlock
    """All cells, for the genes of the vocabulary."""
    genes: GeneMatch
    scale: Scale
    matrix: sparse.csr_matrix
    """(n_cells, n_vars) all columns of the data, on their own scale; where logarithms, natural ones."""
    visible: np.ndarray
    """bool (n_vars,): columns that methods may see: genes, without second columns of a gene of the vocabulary."""
    names: np.ndarray
    """str (n_vars,): Ensembl id of columns that are genes of the vocabulary, the data's own name for others."""
    obs: pd.DataFrame
    """Only the column `library_key`: other columns may be computed from masked values."""
    vocabulary: np.ndarray
    seed: int
    library_key: str | None = None
    labels: np.ndarray | None = None
    """str (n_cells,): label of each cell, "unlabelled" where it is missing."""
    checkpoint: Checkpoint | None = None

    @cached_property
    def gene_index(self) -> np.ndarray:
        """Index into the vocabulary of each measured gene, increasing, int (n_genes,)."""
        return np.sort(self.genes.gene_index)

    @cached_property
    def columns(self) -> np.ndarray:
        """Column of the data of each measured gene, int (n_genes,)."""
        return self.genes.columns[np.argsort(self.genes.gene_index)]

    @cached_property
    def n_detected(self) -> np.ndarray:
        """Number of cells in which each gene is detected, int (n_genes,)."""
        return self.cells.log_values[:, self.gene_index].getnnz(axis=0)

    @property
    def given_scale(self) -> GivenScale:
        """The scale as an argument, with which parts of the data are read as the whole is."""
        return "log1p" if self.scale == "log" else "counts"

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.matrix.shape[0]

    def generator(self, purpose: str) -> np.random.Generator:
        """Return a random generator that depends on the seed and the purpose only."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])


def read_source(
    adata: AnnData,
    vocabulary: np.ndarray,
    options: ReadOptions | None = None,
    *,
    labels_key: str | None = None,
    checkpoint: Checkpoint | None = None,
    seed: int = 0,
) -> Source:
    """Read a data set once for all tasks; it is never changed.

    Raises the errors of :class:`scanpy_sct.read.reader.CellReader`, a KeyError for an unknown `labels_key`, and a
    ValueError for fewer than three cells or no expression.
    """
    options = options or ReadOptions()
    reader = CellReader(adata, vocabulary, TOKEN_SCALE, options)
    if adata.n_obs < _MIN_CELLS:
        msg = f"adata has {adata.n_obs} cells; at least {_MIN_CELLS} are needed to predict one from the others."
        raise ValueError(msg)
    cells, genes = reader.block(), reader.genes
    check_expression(cells.log_values, "adata")
    matrix = without_columns(read_matrix(adata, options.layer, reader.not_genes), reader.not_genes)
    factor = _to_natural(matrix) if reader.scale == "log" else 1
    if factor != 1:
        cells, matrix = replace(cells, log_values=cells.log_values * factor), matrix * factor
    labels = None
    if labels_key is not None:
        labels = read_strings(adata, labels_key, "labels_key").fillna("unlabelled").to_numpy(dtype=str)
    names = adata.var_names if options.gene_names is None else adata.var[options.gene_names]
    names = pd.Series(names.to_numpy(), dtype=object).fillna("").astype(str).to_numpy(dtype=object)
    visible = np.ones(adata.n_vars, dtype=bool)
    if genes.duplicates:
        visible = ~np.isin(to_ensembl(names, vocabulary=vocabulary).ensembl_ids, vocabulary[vocabulary != ""])
        visible[genes.columns] = True
    if reader.not_genes is not None:
        visible[reader.not_genes] = False
    # With their ids as names, genes are found again whatever column of `.var` named them.
    names[genes.columns] = vocabulary[genes.gene_index]
    return Source(
        cells=cells,
        genes=genes,
        scale=reader.scale,
        matrix=matrix,
        visible=visible,
        names=make_index_unique(pd.Index(names)).to_numpy(dtype=str),
        obs=adata.obs[[] if options.library_key is None else [options.library_key]].copy(),
        vocabulary=vocabulary,
        seed=seed,
        library_key=options.library_key,
        labels=labels,
        checkpoint=checkpoint,
    )


def _to_natural(log_values: sparse.csr_matrix) -> float:
    """Find the factor that turns log values into natural logarithms.

    The first base of e, 2 and 10 for which the values lead back to counts; 1 where none does.
    """
    n_rows = log_values.shape[0]
    if n_rows > N_SAMPLED_ROWS:
        log_values = log_values[np.linspace(0, n_rows - 1, N_SAMPLED_ROWS).astype(int)]
    factors = [1.0, *(float(np.log(base)) for base in (2, 10))]
    return next((factor for factor in factors if counts_unit(log_values * factor) is not None), 1.0)

"""Read an AnnData: properties of all cells at once, and the expression of any block of them."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.read.columns import check_is_name, read_column
from scanpy_sct.read.gene_check import check_match
from scanpy_sct.read.genes import GeneMatch, match_genes
from scanpy_sct.read.hide import read_hide
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.samples import missed_samples, read_coordinates, read_samples
from scanpy_sct.read.scale import TokenScale, TokenValues, counts_unit, find_scale, sampled_rows, to_log
from scanpy_sct.sparse_tools import keep_entries, without_masked

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellBlock:
    """Expression of some cells, for the genes of a vocabulary and in its order."""

    rows: np.ndarray
    """Row of each cell in the object, (n_cells,)."""
    log_values: sparse.csr_matrix
    """(n_cells, n_genes) float32, values on the log scale of the input, positive entries only."""
    token_values: sparse.csr_matrix
    """The values that are binned, same entries."""
    measured: np.ndarray
    """(n_genes,) bool: whether the data have the gene."""
    samples: np.ndarray
    """(n_cells,) integers: sample of each cell."""
    coordinates: np.ndarray | None
    """(n_cells, 2) float64, in the unit of the data; None without `obsm["spatial"]`."""
    name_hashes: np.ndarray
    """(n_cells,) uint64 hash of the name of each cell."""
    hidden: sparse.csr_matrix | None = None
    """(n_cells, n_genes) bool: entries that the user hides; the values above lack them."""

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.rows)

    def block(self, rows: np.ndarray) -> CellBlock:
        """Return some of the cells, by their rows within the block."""
        return replace(
            self,
            rows=self.rows[rows],
            log_values=self.log_values[rows],
            token_values=self.token_values[rows],
            samples=self.samples[rows],
            coordinates=None if self.coordinates is None else self.coordinates[rows],
            name_hashes=self.name_hashes[rows],
            hidden=None if self.hidden is None else self.hidden[rows],
        )

    def at_genes(self, genes: np.ndarray) -> CellBlock:
        """Return the cells with some genes, increasing indices into the vocabulary."""
        if len(genes) == len(self.measured):
            return self
        log_values = self.log_values[:, genes]
        is_same = self.token_values is self.log_values
        return replace(
            self,
            log_values=log_values,
            token_values=log_values if is_same else self.token_values[:, genes],
            measured=self.measured[genes],
            hidden=None if self.hidden is None else self.hidden[:, genes],
        )

    def hidden_rows(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return which measured entries of some cells the user hides, (rows, genes) bool."""
        if self.hidden is None:
            return np.zeros((len(self.rows[rows]), len(self.measured)), dtype=bool)
        return self.hidden[rows].toarray() & self.measured


class CellReader:
    """Reader of an AnnData, which is never changed: properties of all cells, and blocks of them.

    Cells keep their number and order; empty cells are rows without entries. Invalid objects raise an error when the
    reader is made.

    Parameters
    ----------
    adata
        Cells x genes, human, counts or log-normalised values.
    vocabulary
        (n_genes,) Ensembl id of each gene of the network, `""` where there is none.
    token_scale
        Scale of the values that are binned, see :class:`scanpy_sct.read.scale.TokenValues`.
    options
        What to read.
    min_genes
        Fewer matched genes raise an error.

    Raises
    ------
    KeyError
        There is no such `layer`, `library_key`, `gene_names` or layer `hide`.
    TypeError
        `adata` is not an AnnData, a name is not a string, or the matrix does not hold numbers.
    ValueError
        No cells, genes or expression, mouse genes, too few matched genes, NaN, infinite, negative or scaled
        values, cells without a sample or coordinates.
    """

    def __init__(
        self,
        adata: AnnData,
        vocabulary: np.ndarray,
        token_scale: TokenScale,
        options: ReadOptions | None = None,
        *,
        min_genes: int = 50,
    ) -> None:
        options = options or ReadOptions()
        _check_object(adata)
        hide = read_hide(adata, options.hide)
        names = _read_names(adata, options.gene_names)
        self.samples, self.sample_names = read_samples(adata, options.library_key)
        self.coordinates = read_coordinates(adata)
        # Names are checked before the matrix, which may be large and on disk, is read.
        genes = match_genes(names, vocabulary)
        check_match(genes, names, vocabulary, adata, options.gene_names, min_genes)
        if options.library_key is None:
            _warn_once(missed_samples(adata, self.coordinates))
        matrix = read_matrix(adata, options.layer)
        _check_not_empty(matrix, options.layer)
        if hide is not None:
            matrix = without_masked(matrix, hide)
        self.scale = find_scale(matrix)
        if genes.duplicates:
            totals = np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel()
            genes = match_genes(names, vocabulary, totals=totals)
        self.genes: GeneMatch = genes
        self.measured = np.zeros(len(vocabulary), dtype=bool)
        self.measured[genes.gene_index] = True
        self.vocabulary = vocabulary
        self.obs_names, self.var_names = adata.obs_names, adata.var_names.astype(str)
        self.name_hashes = pd.util.hash_array(adata.obs_names.astype(str).to_numpy(dtype=object))
        self.hide = hide
        self._matrix, self._to_tokens = matrix, TokenValues.found_in(matrix, self.scale, token_scale)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.samples)

    @cached_property
    def holds_counts(self) -> bool:
        """Whether the values are counts, or `log1p` of normalised counts."""
        if self.scale == "counts":
            return True
        rows = sampled_rows(self.n_cells)
        return counts_unit(self.block(rows).log_values) is not None

    def rows(self, rows: np.ndarray | None = None) -> sparse.csr_matrix:
        """Read all columns of the object (rows, n_vars) for the cells in ``rows``; None: all cells."""
        return self._matrix if rows is None else self._matrix[rows]

    def to_block(self, matrix: sparse.csr_matrix, rows: np.ndarray | None = None) -> CellBlock:
        """Convert what :meth:`rows` reads to the genes of the vocabulary."""
        rows = np.arange(self.n_cells) if rows is None else np.asarray(rows)
        # Totals and units of cells come from all genes of the data, so values are converted before genes are picked.
        log_values = self._pick(to_log(matrix, self.scale))
        is_same = self._to_tokens.is_log_scale
        return CellBlock(
            rows=rows,
            log_values=log_values,
            token_values=log_values if is_same else self._pick(self._to_tokens.of(matrix)),
            measured=self.measured,
            samples=self.samples[rows],
            coordinates=None if self.coordinates is None else self.coordinates[rows],
            name_hashes=self.name_hashes[rows],
            hidden=None if self.hide is None else self._pick(self.hide[rows]),
        )

    def block(self, rows: np.ndarray | None = None) -> CellBlock:
        """Read the cells in ``rows`` (increasing or not; None: all)."""
        return self.to_block(self.rows(rows), rows)

    def columns_of(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        """Convert what :meth:`rows` reads to the log scale of the input."""
        return to_log(matrix, self.scale)

    def hidden_columns(self, rows: np.ndarray) -> sparse.csr_matrix | None:
        """Return which entries of some cells the user hides, (rows, n_vars) bool; None: none in the whole object."""
        return None if self.hide is None else self.hide[rows]

    def without_matrix(self) -> CellReader:
        """Return a light copy for other processes, which knows everything but the expression."""
        light = copy.copy(self)
        light._matrix = None
        return light

    def lazy_rows(self, rows: np.ndarray) -> Any:
        """Return a dask object that reads what :meth:`rows` reads; None for data in memory."""
        return None

    def _pick(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        return pick_genes(matrix, self.genes, len(self.measured))


def pick_genes(matrix: sparse.csr_matrix, genes: GeneMatch, n_genes: int) -> sparse.csr_matrix:
    """Reorder the columns of the data as the genes of the vocabulary, (n_rows, n_genes)."""
    gene_of_column = np.full(matrix.shape[1], -1, dtype=np.int32)
    gene_of_column[genes.columns] = genes.gene_index
    kept = keep_entries(matrix, gene_of_column[matrix.indices] >= 0)
    picked = sparse.csr_matrix((kept.data, gene_of_column[kept.indices], kept.indptr), shape=(matrix.shape[0], n_genes))
    picked.sort_indices()
    return picked


def _check_object(adata: AnnData) -> None:
    """Raise an error unless ``adata`` is an AnnData with cells and genes."""
    if not isinstance(adata, AnnData):
        msg = f"adata must be an AnnData, found {type(adata).__name__}. {_to_anndata(adata)}"
        raise TypeError(msg)
    if adata.n_obs == 0 or adata.n_vars == 0:
        msg = f"adata has {adata.n_obs} cells and {adata.n_vars} genes; at least one of each is needed."
        raise ValueError(msg)


def _to_anndata(found: Any) -> str:
    """Return how to make an AnnData of another object."""
    if isinstance(found, str | PurePath):
        return f"Read the file first: `scanpy.read_h5ad({str(found)!r})`."
    if isinstance(found, pd.DataFrame):
        return "Convert cells x genes with `anndata.AnnData(df)`."
    if isinstance(found, np.ndarray) or sparse.issparse(found):
        return "Convert cells x genes with `anndata.AnnData(matrix)`, and set its `.var_names` to the gene names."
    return "From MuData take one modality (`mdata['rna']`), from SpatialData one table (`sdata.tables['table']`)."


def _check_not_empty(matrix: sparse.csr_matrix, layer: str | None) -> None:
    """Raise an error if all cells are empty."""
    if matrix.nnz:
        return
    source = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    msg = (
        f"{source} has no positive value: all {matrix.shape[0]:,} x {matrix.shape[1]:,} are zero. "
        "Pass the layer that holds the expression as `layer=`."
    )
    raise ValueError(msg)


@cache
def _warn_once(text: str) -> None:
    """Log a warning, once for each text."""
    if text:
        logger.warning(text)


def _read_names(adata: AnnData, gene_names: str | None) -> pd.Series:
    """Return the gene name of each column."""
    check_is_name("gene_names", gene_names)
    if gene_names is None:
        return pd.Series(adata.var_names.astype(str))
    names = read_column(adata.var, gene_names, "gene_names", "adata.var", " None uses var_names.")
    return names.astype(object).reset_index(drop=True)

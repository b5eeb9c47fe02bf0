"""Read an AnnData: properties of all cells at once, and the expression of any block of them."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.read.block import CellBlock
from scanpy_sct.read.checks import ScaleCheck, check_not_empty, check_object
from scanpy_sct.read.columns import index_of, read_names
from scanpy_sct.read.coordinates import read_coordinates
from scanpy_sct.read.copies import copies_remark
from scanpy_sct.read.findings import warn_once
from scanpy_sct.read.found_scale import read_scale
from scanpy_sct.read.gene_check import check_match, symbols_among_ids
from scanpy_sct.read.genes import GeneMatch, ids_beside, match_genes, pick_genes
from scanpy_sct.read.hide import HiddenEntries, open_hide
from scanpy_sct.read.joined import JoinedCells, find_lacking, suspect_lacking
from scanpy_sct.read.lacking import Counts, LackingTest, count_all
from scanpy_sct.read.matrix import ROWS_AT_ONCE, ExpressionMatrix, consecutive, open_matrix
from scanpy_sct.read.not_genes import find_not_genes, without_columns
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.remarks import remarks
from scanpy_sct.read.samples import missed_samples, read_samples
from scanpy_sct.read.scale import Scale, TokenScale, TokenValues, counts_unit, sampled_rows
from scanpy_sct.read.storage import InMemory
from scanpy_sct.read.values import LogValues
from scanpy_sct.sparse_tools import without_masked

__all__ = ["CellBlock", "CellReader"]


class CellReader:
    """Reader of an AnnData, which is never changed: properties of all cells, and blocks of them.

    Cells keep their number and order; empty cells are rows without entries. Invalid objects raise an error when the
    reader is made; of a matrix on disk or of dask, only 2,000 rows are read and checked then, and the others whenever
    they are read. Whatever is found on cells (scale, duplicate genes) is found on these rows, which are the same for
    every storage.

    Parameters
    ----------
    adata
        Cells x genes, human, counts or log-normalised values; in memory, backed or lazy.
    vocabulary
        (n_genes,) Ensembl id of each gene of the network, `""` where there is none.
    token_scale
        Scale of the values that are binned, see :class:`scanpy_sct.read.scale.TokenValues`.
    options
        What to read.
    min_genes
        Fewer matched genes raise an error.
    preferred
        Ensembl ids to prefer where a name fits several genes; None: those of the vocabulary.

    Attributes
    ----------
    names
        (n_vars,) name of each column, by which its gene was found.
    findings
        Warnings about the data, one sentence or two each, which are logged once.
    not_genes
        (n_vars,) bool, columns that are not genes; None: there are none.
    partly_measured
        (n_genes,) bool: measured genes that some samples lack, or without `library_key` seem to lack.

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
        preferred: np.ndarray | None = None,
    ) -> None:
        options = options or ReadOptions()
        owner = options.owner
        check_object(adata, owner)
        by_user = open_hide(adata, options.hide)
        names = read_names(adata, options.gene_names, owner)
        self.names = names
        self.samples, self.sample_names = read_samples(adata, options.library_key, owner)
        self._hidden = HiddenEntries(by_user, self.samples)
        self.coordinates, self.findings = read_coordinates(adata, owner)
        not_genes = find_not_genes(adata.var, names, owner)
        self.not_genes = not_genes if not_genes.any() else None
        # Names are checked before the matrix, which may be large and on disk, is read.
        genes = match_genes(names, vocabulary, is_gene=~not_genes, preferred=preferred)
        check_match(genes, names[~not_genes], vocabulary, adata, options.gene_names, min_genes, owner)
        self.findings.append(symbols_among_ids(genes, adata.var, owner))
        if options.library_key is None:
            self.findings.append(missed_samples(adata, self.coordinates, owner))
        self.vocabulary = vocabulary
        self.obs_names, self.var_names = adata.obs_names, index_of(adata.var).astype(str)
        self.name_hashes = pd.util.hash_array(index_of(adata.obs).astype(str).to_numpy(dtype=object))
        self._matrix: ExpressionMatrix | None = open_matrix(adata, options.layer, self.not_genes, owner)
        self._find_facts(token_scale, options)
        if genes.duplicates:
            totals, ids = self._column_totals(), ids_beside(adata.var)
            more = {"totals": totals, "ids": ids, "preferred": preferred}
            genes = match_genes(names, vocabulary, is_gene=~not_genes, **more)
        self._set_genes(genes)
        self._find_lacking(adata, options)
        if self.is_in_memory:
            self._sample = None  # these rows are in memory anyway
        self.findings = warn_once(self.findings, int(self.name_hashes.sum()))

    def _find_facts(self, token_scale: TokenScale, options: ReadOptions) -> None:
        """Find the properties of the values on some rows, and check all that are in memory."""
        rows = sampled_rows(self.n_cells)
        matrix = without_columns(self._matrix.rows(rows), self.not_genes)
        checks, argument = self._matrix.checks, options.scale_argument
        check_not_empty(matrix, checks.source, self.n_cells, checks.layer_argument)
        self._sample = without_masked(matrix, self._hidden.user_rows(rows))
        found = read_scale(self._sample, options.scale, argument, checks.source)
        self.scale = found.scale
        self.findings += [found.finding, *remarks(self._sample, self.scale, checks.source)]
        looked_at, names = matrix, self.obs_names[slice(None) if rows is None else rows]
        if self._matrix.is_in_memory:
            looked_at, names = self._matrix.rows(), self.obs_names
        self.findings.append(copies_remark(looked_at, names, self.n_cells, checks.source))
        self._to_tokens = TokenValues.found_in(self._sample, self.scale, token_scale)
        self._to_log = LogValues.found_in(self._sample, self.scale, normalise=options.normalise)
        given = self.scale, options.scale, checks.layer_argument, argument
        self._to_scale = ScaleCheck(checks.source, *given, self.not_genes)
        if self._matrix.is_in_memory:
            # Done once for all, so that the rows of a block need only be picked.
            matrix = without_masked(self._matrix.rows(), self._hidden.user_rows())
            for part in consecutive(self.n_cells, ROWS_AT_ONCE):
                self._to_scale.check(matrix[part], np.arange(part.start, part.stop))
            self._matrix = ExpressionMatrix(InMemory(matrix, matrix.dtype), self._matrix.checks)

    def _set_genes(self, genes: GeneMatch) -> None:
        self.genes: GeneMatch = genes
        self.measured = np.zeros(len(self.vocabulary), dtype=bool)
        self.measured[genes.gene_index] = True

    def _find_lacking(self, adata: AnnData, options: ReadOptions) -> None:
        """Find genes that some samples never measured, and hide their entries."""
        columns, rows = self.genes.columns, sampled_rows(self.n_cells)
        test = LackingTest(self._sample[:, columns], self.vocabulary[self.genes.gene_index])
        cells = JoinedCells(test, np.arange(self.n_cells) if rows is None else rows, self._count_detected)
        found = find_lacking(cells, self.samples, self.sample_names)
        if found.by_sample is not None:
            lacking = np.zeros((len(found.by_sample), len(self.var_names)), dtype=bool)
            lacking[:, columns] = found.by_sample
            self._hidden = replace(self._hidden, lacking=sparse.csr_matrix(lacking))
        else:
            found = suspect_lacking(cells, adata, options)
        self.findings.append(found.finding)
        self.partly_measured = np.zeros(len(self.vocabulary), dtype=bool)
        if found.partly is not None:
            self.partly_measured[self.genes.gene_index[found.partly]] = True

    def _count_detected(self, samples: np.ndarray) -> Counts:
        """Count the cells of each sample, and those that detect each matched gene, reading all cells once."""
        parts = (np.arange(part.start, part.stop) for part in consecutive(self.n_cells, ROWS_AT_ONCE))
        return count_all((self.rows(rows)[:, self.genes.columns], samples[rows]) for rows in parts)

    @property
    def lacking(self) -> dict[str, int]:
        """Number of genes that a sample never measured although others did; their entries are hidden."""
        return self._hidden.numbers_lacking(self.sample_names)

    @property
    def has_hidden(self) -> bool:
        """Whether entries are hidden, by the user or because a sample lacks the gene."""
        return self._hidden.exist

    def _column_totals(self) -> np.ndarray:
        return np.asarray(self._sample.sum(axis=0, dtype=np.float64)).ravel()

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.samples)

    @property
    def is_in_memory(self) -> bool:
        """Whether the matrix is in memory."""
        return self._matrix is not None and self._matrix.is_in_memory

    @cached_property
    def sample(self) -> CellBlock:
        """The up to 2,000 cells on which the properties of all are found."""
        rows = sampled_rows(self.n_cells)
        rows = np.arange(self.n_cells) if rows is None else rows
        return self.to_block(self.rows(rows) if self.is_in_memory else self._sample, rows, self.hidden_columns(rows))

    @property
    def log_scale(self) -> Scale:
        """Scale of the input to which the values of blocks correspond: `"log"` if they are normalised."""
        return self.scale if self._to_log.normalised is None else "log"

    @cached_property
    def holds_counts(self) -> bool:
        """Whether the values are counts, or `log1p` of normalised counts."""
        return self.scale == "counts" or counts_unit(self.sample.log_values) is not None

    def rows(self, rows: np.ndarray | None = None) -> sparse.csr_matrix:
        """Read some cells (rows in any order; None: all) with all columns of the object, as they are stored.

        Returns
        -------
        (cells, columns) CSR float32, sorted indices, without the hidden entries. Those of genes are positive; columns
        that are not genes may have any.

        Raises
        ------
        ValueError
            Values that had not been read before are NaN, infinite, negative, or not of the scale that was found.
        """
        matrix = self._matrix.rows(rows)
        if self.is_in_memory:
            return matrix
        return self._to_scale.check(without_masked(matrix, self._hidden.user_rows(rows)), rows)

    def lazy_rows(self, rows: np.ndarray) -> Any:
        """Return a `dask.delayed` that computes :meth:`rows`, also in another process.

        None for data in memory, and for a file that is open for writing: then the rows must be sent.
        """
        found = self._matrix.lazy_rows(rows)
        if found is None:
            return None
        import dask

        found = dask.delayed(without_masked)(found, self._hidden.user_rows(rows))
        return dask.delayed(ScaleCheck.check)(self._to_scale, found, rows)

    def hidden_columns(self, rows: np.ndarray | None = None) -> sparse.csr_matrix | None:
        """Read which entries of some cells are hidden, (cells, columns) bool; None: none in the whole object.

        These are the entries that the user hides, and those of genes that the sample of the cell lacks.
        """
        return self._hidden.rows(rows)

    def block(self, rows: np.ndarray | None = None) -> CellBlock:
        """Read the cells in ``rows`` (increasing or not; None: all)."""
        matrix, hidden = self.rows(rows), self.hidden_columns(rows)
        return self.to_block(matrix, np.arange(self.n_cells) if rows is None else np.asarray(rows), hidden)

    def blocks(self) -> Iterator[CellBlock]:
        """Read all cells in their order, some thousand at a time."""
        for part in consecutive(self.n_cells, ROWS_AT_ONCE):
            yield self.block(None if len(self.samples[part]) == self.n_cells else np.arange(part.start, part.stop))

    def to_block(
        self, matrix: sparse.csr_matrix, rows: np.ndarray, hidden_columns: sparse.csr_matrix | None = None
    ) -> CellBlock:
        """Make a block of what :meth:`rows` and :meth:`hidden_columns` return for ``rows``; reads nothing."""
        # Totals and units of cells come from all genes of the data, so values are converted before genes are picked.
        matrix = without_columns(matrix, self.not_genes)
        log_values = self._pick(self._to_log.of(matrix))
        is_same = self._to_log.normalised is None and self._to_tokens.is_log_scale(matrix)
        return CellBlock(
            rows=rows,
            log_values=log_values,
            token_values=log_values if is_same else self._pick(self._to_tokens.of(matrix)),
            measured=self.measured,
            samples=self.samples[rows],
            coordinates=None if self.coordinates is None else self.coordinates[rows],
            name_hashes=self.name_hashes[rows],
            hidden=None if hidden_columns is None else self._pick(hidden_columns),
            units=self._to_log.units(matrix),
        )

    def columns_of(self, matrix: sparse.csr_matrix, *, counts: bool = False) -> sparse.csr_matrix:
        """Convert what :meth:`rows` returns, all columns of the object, to the log scale of blocks, or to counts.

        Columns that are not genes are converted as the input is: to `log1p` of their values, negative ones unchanged.
        """
        return self._to_log.columns_of(matrix, self.not_genes, counts=counts)

    def without_matrix(self) -> CellReader:
        """Return a copy that can be sent to another process: it knows all cells, and makes blocks of rows it is given.

        It has neither matrix nor hidden entries, so it cannot read.
        """
        result = copy(self)
        result.holds_counts = self.holds_counts
        result._matrix = result._sample = None
        result._hidden = replace(self._hidden, by_user=None, lacking=None)
        result.__dict__.pop("sample", None)
        return result

    def with_genes(self, gene_index: np.ndarray) -> CellReader:
        """Return a reader of the same cells for which only these genes of the vocabulary are measured."""
        kept = np.isin(self.genes.gene_index, gene_index)
        result = copy(self)
        result.__dict__.pop("sample", None)
        result._set_genes(replace(self.genes, columns=self.genes.columns[kept], gene_index=self.genes.gene_index[kept]))
        return result

    def _pick(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        return pick_genes(matrix, self.genes, len(self.measured))

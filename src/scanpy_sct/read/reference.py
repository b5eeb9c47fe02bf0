"""Read the cells of a reference as counts."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace

import numpy as np
from anndata import AnnData
from scipy import sparse

from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.columns import as_series, check_is_name
from scanpy_sct.read.gene_table import gene_ids
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellReader
from scanpy_sct.read.scale import TokenScale, count_units, counts_of

logger = logging.getLogger(__name__)

MAX_CELLS = 20_000
"""Of a larger reference, this number of cells is drawn."""
MIN_CELLS = 50


@dataclass(frozen=True)
class ReferenceCells:
    """Cells of a reference."""

    counts: sparse.csr_matrix
    """(cells, genes) float32."""
    gene_index: np.ndarray
    """(genes,) index of each gene into the vocabulary, increasing."""
    names: np.ndarray
    """(genes,) their names in the reference."""
    id_type: str
    """`"ensembl"` or `"symbol"`: what these names are."""
    vocabulary: np.ndarray
    """(all genes,) Ensembl ids, those of the network first; see :func:`reference_vocabulary`."""

    @property
    def digest(self) -> str:
        """Fingerprint of counts and genes."""
        digest = hashlib.sha256()
        for array in (self.gene_index, self.counts.data, self.counts.indices, self.counts.indptr):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def at(self, gene_index: np.ndarray) -> sparse.csr_matrix:
        """Return the counts of some genes that the reference has, (cells, genes)."""
        return self.counts[:, np.searchsorted(self.gene_index, gene_index)]


def options_for(reference: AnnData, options: ReadOptions, gene_names: str | None) -> ReadOptions:
    """Return the options by which to read a reference: columns that are named for the data are used if it has them.

    Raises
    ------
    TypeError
        The reference is not an AnnData.
    """
    check_is_anndata(reference, "reference")
    check_is_name("reference_gene_names", options.gene_names)
    if options.gene_names is None and gene_names in reference.var:
        options = replace(options, gene_names=gene_names)
    key = options.library_key
    # What names the samples of the data need not be known of all cells of the reference.
    is_usable = key in reference.obs and not as_series(reference.obs[key]).isna().any()
    return options if is_usable else replace(options, library_key=None)


def reference_vocabulary(vocabulary: np.ndarray) -> np.ndarray:
    """Return the vocabulary of a network, and after it all other human genes, which a reference may have, too."""
    known = set(vocabulary.tolist())
    others = [ensembl_id for ensembl_id in gene_ids().astype(str).tolist() if ensembl_id not in known]
    return np.concatenate([vocabulary, np.array(others, dtype=vocabulary.dtype)])


def read_reference(
    reference: AnnData, vocabulary: np.ndarray, token_scale: TokenScale, options: ReadOptions, seed: int
) -> ReferenceCells:
    """Read a reference.

    Parameters
    ----------
    reference, options
        The object, and what to read of it.
    vocabulary, token_scale
        Vocabulary of the network, and the scale of its tokens.
    seed
        Seed by which the cells of a large reference are drawn.

    Raises
    ------
    KeyError, TypeError, ValueError
        The reference cannot be read, see :class:`scanpy_sct.read.reader.CellReader`; it has too few cells; or its
        values are not counts and cannot be turned into counts.
    """
    # A name that fits several genes is that of the network, as in the data.
    preferred, vocabulary = vocabulary, reference_vocabulary(vocabulary)
    reader = CellReader(reference, vocabulary, token_scale, options, preferred=preferred)
    if not reader.holds_counts:
        msg = (
            "reference must hold counts, or log-normalised values (natural logarithm) of counts, and its values are "
            "neither; pass a layer with counts as `reference_layer=`. Decimals that are not multiples of one unit "
            "cannot be turned into counts: round them."
        )
        raise ValueError(msg)
    rows = None
    if reader.n_cells > MAX_CELLS:
        rows = np.sort(np.random.default_rng([seed, 12]).permutation(reader.n_cells)[:MAX_CELLS])
        logger.info("Of %d cells of the reference, %d are drawn.", reader.n_cells, MAX_CELLS)
    block = reader.block(rows)
    counts = counts_of(block.log_values, count_units(block.log_values, reader.log_scale))
    # A gene that some samples of the reference lack, or that no cell detects, is not known to be absent.
    known = np.flatnonzero(reader.measured & ~reader.partly_measured & (counts.getnnz(axis=0) > 0))
    counts = counts[np.diff(counts.indptr) > 0][:, known]
    if counts.shape[0] < MIN_CELLS:
        msg = f"reference has {counts.shape[0]} cells with counts; at least {MIN_CELLS} are needed: pass more cells."
        raise ValueError(msg)
    column_of = np.zeros(len(vocabulary), dtype=np.int64)
    column_of[reader.genes.gene_index] = reader.genes.columns
    names = np.asarray(reader.names, dtype=object)[column_of[known]]
    return ReferenceCells(counts, known, names, reader.genes.id_type, vocabulary)

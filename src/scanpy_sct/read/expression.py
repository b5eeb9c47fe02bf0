"""Everything a network needs to know about an AnnData, as plain arrays."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.read.columns import check_is_name
from scanpy_sct.read.gene_check import check_match
from scanpy_sct.read.genes import GeneMatch, match_genes
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.samples import missed_samples, read_coordinates, read_samples
from scanpy_sct.read.scale import Scale, TokenValues, find_scale, to_log

if TYPE_CHECKING:
    from typing import Literal

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expression:
    """Expression of the genes a network knows, in the order of its vocabulary.

    Parameters
    ----------
    log_values
        Values on the input's log scale, CSR float32, shape `(n_cells, n_positions)`, positive entries only.
    token_values
        The values that are cut into bins, same entries.
    measured
        Whether the gene at a position is a column of the data, boolean, shape `(n_positions,)`.
    samples
        Number of the sample of each cell, shape `(n_cells,)`.
    sample_names
        Names of the samples.
    coordinates
        Place of each cell, float64, shape `(n_cells, 2)`, in the data's own unit; None without `obsm["spatial"]`.
    genes
        Which columns of the data stand at which positions.
    scale
        `"counts"`, `"linear"` or `"log"`.
    """

    log_values: sparse.csr_matrix
    token_values: sparse.csr_matrix
    measured: np.ndarray
    samples: np.ndarray
    sample_names: tuple[str, ...]
    coordinates: np.ndarray | None
    genes: GeneMatch
    scale: Scale


def read_expression(
    adata: AnnData,
    vocabulary: np.ndarray,
    *,
    token_scale: Literal["log1p_counts", "log1p_cp10k"],
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    min_genes: int = 50,
    hide: sparse.csr_matrix | None = None,
) -> Expression:
    """Read an AnnData for a network; the object is never changed.

    Cells keep their number and order; cells without any counts are rows without entries.

    Parameters
    ----------
    adata
        Cells x genes, human, counts or log-normalised values.
    vocabulary
        Ensembl id at each position of the network, `""` where there is none, shape `(n_positions,)`.
    token_scale
        Scale on which the network's bins are cut, see :func:`scanpy_sct.read.scale.token_values`.
    layer
        Layer to read, None for `adata.X`.
    library_key
        Column of `adata.obs` that names the sample of each cell.
    gene_names
        Column of `adata.var` with gene names, None for `adata.var_names`.
    min_genes
        Fewer matched genes are refused.
    hide
        Entries to read as zero, boolean, shape `(n_obs, n_vars)`: not even units and scales are told from them.

    Raises
    ------
    KeyError
        `layer`, `library_key` or `gene_names` is not there.
    TypeError
        `adata` is no AnnData, a name is no text, or the matrix does not hold numbers.
    ValueError
        No cells, genes or expression at all, mouse genes, too few matched genes, NaN, infinite, negative or scaled
        values, cells without a sample or a place.
    """
    _check_object(adata)
    names = _read_names(adata, gene_names)
    samples, sample_names = read_samples(adata, library_key)
    coordinates = read_coordinates(adata)
    # Names first: they are cheap, and a matrix on disk is read for nothing if no gene is known.
    genes = match_genes(names, vocabulary)
    check_match(genes, names, vocabulary, adata, gene_names, min_genes)
    if library_key is None:
        _mention(missed_samples(adata, coordinates))

    matrix = read_matrix(adata, layer)
    _check_not_empty(matrix, layer)
    if hide is not None:
        matrix = (matrix - matrix.multiply(hide)).tocsr()
        matrix.eliminate_zeros()
    scale = find_scale(matrix)
    if genes.duplicates:
        totals = np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel()
        genes = match_genes(names, vocabulary, totals=totals)
    # Row totals and units come from all genes of the data, so scales are changed before genes are picked.
    n_positions = len(vocabulary)
    measured = np.zeros(n_positions, dtype=bool)
    measured[genes.positions] = True
    return Expression(
        log_values=pick_genes(to_log(matrix, scale), genes, n_positions),
        token_values=pick_genes(TokenValues.found_in(matrix, scale, token_scale).of(matrix), genes, n_positions),
        measured=measured,
        samples=samples,
        sample_names=sample_names,
        coordinates=coordinates,
        genes=genes,
        scale=scale,
    )


def _check_object(adata: AnnData) -> None:
    """Refuse what is no AnnData, or an empty one."""
    if not isinstance(adata, AnnData):
        msg = f"adata must be an AnnData, found {type(adata).__name__}. {_to_anndata(adata)}"
        raise TypeError(msg)
    if adata.n_obs == 0 or adata.n_vars == 0:
        msg = f"adata has {adata.n_obs} cells and {adata.n_vars} genes; at least one of each is needed."
        raise ValueError(msg)


def _to_anndata(found: Any) -> str:
    """Say how to make an AnnData of something else."""
    if isinstance(found, str | PurePath):
        return f"Read the file first: `scanpy.read_h5ad({str(found)!r})`."
    if isinstance(found, pd.DataFrame):
        return "Cells x genes become one with `anndata.AnnData(df)`."
    if isinstance(found, np.ndarray) or sparse.issparse(found):
        return "Cells x genes become one with `anndata.AnnData(matrix)`; gene names go into its `.var_names`."
    return "From MuData take one modality (`mdata['rna']`), from SpatialData one table (`sdata.tables['table']`)."


def _check_not_empty(matrix: sparse.csr_matrix, layer: str | None) -> None:
    """Refuse data without any expression; single empty cells are allowed."""
    if matrix.nnz:
        return
    source = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    msg = (
        f"{source} has no positive value: all {matrix.shape[0]:,} x {matrix.shape[1]:,} are zero. "
        "Give the object before it was emptied, or name the layer that holds the expression with `layer=`."
    )
    raise ValueError(msg)


@cache
def _mention(text: str) -> None:
    """Log a warning, once for each text."""
    if text:
        logger.warning(text)


def _read_names(adata: AnnData, gene_names: str | None) -> pd.Series:
    """Gene name of each column, as text."""
    check_is_name("gene_names", gene_names)
    if gene_names is None:
        return pd.Series(adata.var_names.astype(str))
    if gene_names not in adata.var:
        columns = ", ".join(map(repr, adata.var.columns)) or "none"
        msg = f"gene_names={gene_names!r} is not a column of adata.var; there are: {columns}. None uses var_names."
        raise KeyError(msg)
    return adata.var[gene_names].astype(object).reset_index(drop=True)


def pick_genes(matrix: sparse.csr_matrix, genes: GeneMatch, n_positions: int) -> sparse.csr_matrix:
    """Columns of the data moved to their positions, shape `(n_cells, n_positions)`."""
    position_of_column = np.full(matrix.shape[1], -1, dtype=np.int32)
    position_of_column[genes.columns] = genes.positions
    positions = position_of_column[matrix.indices]
    kept = positions >= 0
    n_before = np.concatenate([[0], np.cumsum(kept)])
    picked = sparse.csr_matrix(
        (matrix.data[kept].astype(np.float32), positions[kept], n_before[matrix.indptr]),
        shape=(matrix.shape[0], n_positions),
    )
    picked.sort_indices()
    return picked

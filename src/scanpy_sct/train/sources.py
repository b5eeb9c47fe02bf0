"""Sources of training cells: files that are read block by block."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scanpy_sct.plan.bags import check_complete
from scanpy_sct.read.cell_file import check_cell_file
from scanpy_sct.read.coordinates import read_coordinates
from scanpy_sct.read.gene_check import check_match
from scanpy_sct.read.genes import GeneMatch, ids_beside, match_genes, pick_genes
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.not_genes import find_not_genes, without_columns
from scanpy_sct.read.samples import read_samples
from scanpy_sct.read.scale import TokenValues, are_integers
from scanpy_sct.train.census import CensusCells

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

logger = logging.getLogger(__name__)

N_FIRST_ROWS = 2_000
"""Rows that determine whether a file has counts, and which of several columns of one gene is used."""
MIN_GENES = 50


class Source(Protocol):
    """Cells that can be read in contiguous blocks; everything but the expression is in memory."""

    name: str
    """Name in messages and logs."""
    measured: np.ndarray
    """Whether each gene of the vocabulary was measured, (n_genes,) bool."""
    samples: np.ndarray
    """Sample of each cell, (n_cells,) integers."""
    coordinates: np.ndarray | None
    """Coordinates of each cell, (n_cells, 2), or None."""

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return `log1p` of the counts of cells ``start`` to ``stop``, (cells, n_genes) float32."""
        ...


@dataclass(frozen=True)
class FileSource:
    """A file, opened by :func:`open_source`."""

    name: str
    measured: np.ndarray
    samples: np.ndarray
    coordinates: np.ndarray | None
    matrix: Any
    """The matrix on disk: slices of rows are read on access."""
    genes: GeneMatch
    is_gene: np.ndarray
    """(n_vars,) bool: columns of the file that are genes."""

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        """Read a block; return `log1p` of the counts for the genes of the vocabulary."""
        rows = _genes_of(self.matrix[start:stop], self.is_gene)
        if not are_integers(rows.data):
            msg = (
                f"{self.name}: X does not have counts (integers) in cells {start} to {stop}, which training needs; "
                "write a file with counts in X."
            )
            raise ValueError(msg)
        return pick_genes(TokenValues.found_in(rows, "counts", "log1p_counts").of(rows), self.genes, len(self.measured))


def open_source(path: Path, vocabulary: np.ndarray, *, library_key: str = "sample") -> FileSource:
    """Open a file of counts for reading in blocks.

    Parameters
    ----------
    path
        `.h5ad` or `.zarr`, cells x genes, human; Ensembl ids or symbols in the index of `.var`.
    vocabulary
        Ensembl id of each gene, `""` where there is none, (n_genes,).
    library_key
        Column of `.obs` with the sample of each cell; without it, the file is one sample.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ValueError
        The file is damaged or holds something else, the matrix is stored by columns or does not have counts, the genes
        are those of a mouse, or fewer than 50 (or half of a smaller vocabulary) are known.
    """
    group = _open(path)
    with warnings.catch_warnings():
        # Names of cells are not used, and one of several columns of a gene is chosen below.
        warnings.filterwarnings("ignore", message=".*names are not unique")
        shell = ad.AnnData(**{name: ad.io.read_elem(group[name]) for name in ("obs", "var")})
    if "spatial" in group.get("obsm", {}):
        shell.obsm["spatial"] = ad.io.read_elem(group["obsm"]["spatial"])
    matrix = _stored_matrix(group["X"], path)
    names = pd.Series(shell.var_names.astype(str))
    is_gene = ~find_not_genes(shell.var, names, str(path))
    first = _genes_of(matrix[: min(N_FIRST_ROWS, shell.n_obs)], is_gene)
    if not are_integers(first.data):
        msg = f"{path}: X does not have counts (integers), which training needs; write a file with counts in X."
        raise ValueError(msg)
    totals = np.asarray(first.sum(axis=0, dtype=np.float64)).ravel()
    genes = match_genes(names, vocabulary, totals=totals, is_gene=is_gene, ids=ids_beside(shell.var))
    try:
        check_match(genes, names[is_gene], vocabulary, shell, None, min(MIN_GENES, (vocabulary != "").sum() // 2))
        coordinates, findings = read_coordinates(shell)
        if coordinates is not None:
            check_complete(coordinates)
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error
    for text in findings:
        logger.warning("%s: %s", path, text)
    measured = np.zeros(len(vocabulary), dtype=bool)
    measured[genes.gene_index] = True
    samples, _ = read_samples(shell, library_key if library_key in shell.obs else None)
    logger.info("%s: %d cells, %d genes of the vocabulary", path.stem, shell.n_obs, measured.sum())
    return FileSource(path.stem, measured, samples, coordinates, matrix, genes, is_gene)


def _genes_of(matrix: Any, is_gene: np.ndarray) -> sparse.csr_matrix:
    """Read rows without the entries of columns that are not genes."""
    return without_columns(read_matrix(ad.AnnData(matrix), not_genes=~is_gene), ~is_gene)


def open_sources(data: Sequence[str | PathLike[str] | CensusCells], vocabulary: np.ndarray) -> list[Source]:
    """Open files (see :func:`open_source`) and parts of the Census, in order."""
    sources: list[Source] = []
    for item in data:
        if isinstance(item, CensusCells):
            sources += item.open(vocabulary)
        else:
            sources.append(open_source(Path(item), vocabulary))
    return sources


def _open(path: Path) -> Any:
    check_cell_file(path)
    if path.is_dir():
        import zarr

        return zarr.open_group(path, mode="r")
    import h5py

    return h5py.File(path)


def _stored_matrix(stored: Any, path: Path) -> Any:
    kind = stored.attrs.get("encoding-type", "array")
    if kind == "csc_matrix":
        msg = (
            f"{path}: X is stored by genes (CSC) and cannot be read by cells. "
            "Convert it: adata.X = adata.X.tocsr(); adata.write_h5ad(...)."
        )
        raise ValueError(msg)
    return ad.io.sparse_dataset(stored) if kind == "csr_matrix" else stored

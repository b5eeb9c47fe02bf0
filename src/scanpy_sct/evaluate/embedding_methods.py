"""Embeddings to compare: what a method may see, and the methods that come with the package."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from scanpy_sct.evaluate._arguments import check_expression
from scanpy_sct.evaluate.registry import Method, method
from scanpy_sct.read.columns import read_names
from scanpy_sct.read.coordinates import read_coordinates
from scanpy_sct.read.found_scale import find_scale
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.not_genes import find_not_genes
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.sparse_tools import log_normalise

if TYPE_CHECKING:
    from os import PathLike

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellReader
    from scanpy_sct.read.scale import Scale

N_VARIABLE_GENES = 2000


@dataclass(frozen=True, eq=False)
class EmbeddingInput:
    """What a method that embeds cells may see: the cells, and how they are read."""

    source: AnnData = field(repr=False)
    """The object of the user, never to be changed; see `adata`."""
    options: ReadOptions
    """Which layer, samples and gene names are read."""
    batches: np.ndarray | None
    """int (n_cells,): batch of each cell; None: no batches given."""
    model: str | PathLike[str] | Checkpoint | None
    """The model to test."""
    seed: int
    """Seed of all random numbers of a method."""

    @cached_property
    def adata(self) -> AnnData:
        """A copy of all that the user gave, in memory: it may be changed."""
        return self.source.to_memory(copy=True) if self.source.isbacked else self.source.copy()

    @property
    def matrix(self) -> sparse.csr_matrix:
        """(n_cells, n_genes) values of all columns that are genes; a copy."""
        return self._matrix.copy()

    @cached_property
    def scale(self) -> Scale:
        """What the values of `matrix` are: "counts", "linear" or "log"."""
        return find_scale(self._matrix, self.options.scale)

    @cached_property
    def opened(self) -> tuple[Checkpoint, CellReader]:
        """The model, and the cells as it reads them."""
        from scanpy_sct.workflow import open_cells

        return open_cells(self.source, self.model, self.options)

    @cached_property
    def _matrix(self) -> sparse.csr_matrix:
        is_gene = ~find_not_genes(self.source.var, read_names(self.source, self.options.gene_names))
        matrix = read_matrix(self.source, self.options.layer, ~is_gene)[:, is_gene]
        check_expression(matrix, "adata")
        return matrix

    def has(self, need: str) -> bool:
        """Whether a need of a method is met; data that cannot be read raise their errors here."""
        match need:
            case "checkpoint":
                return self.model is not None and self.opened is not None
            case "batches":
                return self.batches is not None
            case "coordinates":
                return read_coordinates(self.source)[0] is not None
            case "expression":
                return self._matrix.nnz > 0
            case "counts":
                return self.scale == "counts"
        return False


@method("sct", task="embedding", needs="checkpoint")
def sct(cells: EmbeddingInput) -> np.ndarray:
    """Embed as :func:`scanpy_sct.tl.embed` does by default."""
    from scanpy_sct.embed.vectors import cell_vectors

    checkpoint, reader = cells.opened
    return cell_vectors(checkpoint, reader, ComputeOptions(bags="random", seed=cells.seed))


@method("pca", task="embedding", needs="expression")
def pca(cells: EmbeddingInput) -> np.ndarray:
    """50 principal components of the 2,000 most variable genes, scaled to unit variance, at most 10."""
    return principal_components(cells.matrix, cells.scale, cells.seed)


@method("pca_unscaled", task="embedding", needs="expression")
def pca_unscaled(cells: EmbeddingInput) -> np.ndarray:
    """20 principal components of the same genes, not scaled, so that weak genes and their noise count less."""
    return principal_components(cells.matrix, cells.scale, cells.seed, n_components=20, scaled=False)


def principal_components(
    matrix: sparse.csr_matrix, scale: Scale, seed: int, *, n_components: int = 50, scaled: bool = True
) -> np.ndarray:
    """Return principal components, (n_cells, n_components) float32; fewer where there are fewer cells or genes."""
    import scanpy as sc

    cells = AnnData(variable_genes(matrix, scale).X.toarray())
    if scaled:
        sc.pp.scale(cells, max_value=10)
    sc.pp.pca(cells, n_comps=min(n_components, *(length - 1 for length in cells.shape)), random_state=seed)
    return cells.obsm["X_pca"]


def variable_genes(matrix: sparse.csr_matrix, scale: Scale) -> AnnData:
    """Log-normalise values unless they are logarithms, and keep the most variable genes; names are column numbers."""
    import scanpy as sc

    cells = AnnData(matrix.copy() if scale == "log" else log_normalise(matrix).astype(np.float32))
    cells.uns["log1p"] = {"base": None}  # as scanpy records it
    if cells.n_vars > N_VARIABLE_GENES:
        sc.pp.highly_variable_genes(cells, n_top_genes=N_VARIABLE_GENES)
        cells = cells[:, cells.var["highly_variable"]].copy()
    return cells


def stored_embeddings(adata: AnnData) -> dict[str, Method]:
    """Return a method for each entry of `.obsm`, which reads it."""

    def read(key: str, cells: EmbeddingInput) -> Any:
        stored = adata.obsm[key]
        return stored.compute() if hasattr(stored, "compute") else stored

    return {key: Method("embedding", key, partial(read, key)) for key in adata.obsm}


def check_vectors(found: Any, name: str, n_cells: int) -> np.ndarray:
    """Return the vectors of a method, float32 (n_cells, n); raise an error unless all are finite numbers."""
    found = found.toarray() if sparse.issparse(found) else found
    try:
        vectors = np.ascontiguousarray(found, dtype=np.float32)
    except (TypeError, ValueError) as error:
        msg = f"Method {name!r} of `methods` must return numbers: {error}"
        raise TypeError(msg) from error
    if vectors.ndim != 2 or len(vectors) != n_cells or not vectors.shape[1]:
        msg = f"Method {name!r} of `methods`: expected one vector per cell, ({n_cells}, n); found {vectors.shape}."
        raise ValueError(msg)
    n_bad = int((~np.isfinite(vectors)).any(axis=1).sum())
    if n_bad:
        msg = (
            f"Method {name!r} of `methods` must return finite numbers; found NaN or infinite values for {n_bad} of "
            f"{n_cells} cells."
        )
        raise ValueError(msg)
    return vectors

"""Where the vectors that `embedding` compares come from: one vector a cell, by each method."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.evaluate._arguments import refuse_no_expression
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.scale import find_scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from os import PathLike

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.scale import Scale

    Vectors = Callable[[AnnData], np.ndarray]

SCT_SOURCES = {"sct": "auto", "sct_transformer": "transformer"}
"""Names under which the model takes part, and the `source` of `tl.embed` that each stands for."""

BUILT_IN = (*SCT_SOURCES, "pca", "pca_unscaled", "scvi")
"""Names that are known whatever the data."""

_N_GENES = 2000
_TARGET = 1e4  # total to which cells are normalised before taking logarithms, as is usual with scanpy
_BATCH_SIZE = 128


def choose_vectors(
    adata: AnnData,
    methods: str | Vectors | Iterable[str | Vectors],
    *,
    model: str | PathLike[str] | Checkpoint | None,
    layer: str | None,
    batches: np.ndarray | None,
    library_key: str | None,
    gene_names: str | None,
    seed: int,
) -> dict[str, Callable[[], np.ndarray]]:
    """Find, for each method, the function that computes its vectors.

    Everything is read and checked here, so that nothing is computed for a request that cannot be met.

    Raises
    ------
    ValueError, TypeError, KeyError
        A method is not known or named twice, or the data cannot be read for it.
    ImportError
        "scvi" without the package.
    """
    named = _name(adata, methods)
    makers: dict[str, Callable[[], np.ndarray]] = {}
    if model is None and any(method in SCT_SOURCES for method in named):
        msg = "`methods` asks for the model, but `model` is None: name a model, or leave 'sct' and the like out."
        raise ValueError(msg)
    if any(method in SCT_SOURCES for method in named):
        made = _sct(adata, model, seed, layer=layer, library_key=library_key, gene_names=gene_names)
        if "sct_transformer" in named and "sct_transformer" not in made:
            msg = "`methods` asks for 'sct_transformer', but the network of `model` has no convolutions: leave it out."
            raise ValueError(msg)
        makers |= made
    if not named.keys().isdisjoint({"pca", "pca_unscaled", "scvi"}):
        matrix = read_matrix(adata, layer)
        refuse_no_expression(matrix, "adata")
        scale = find_scale(matrix)
        makers["pca"] = partial(pca, matrix, scale, seed)
        makers["pca_unscaled"] = partial(pca, matrix, scale, seed, n_components=20, scaled=False)
        if "scvi" in named:
            _check_scvi(scale, layer)
            makers["scvi"] = partial(scvi, matrix, batches, seed)
    for name, method in named.items():
        if name not in BUILT_IN:
            # A method of the user gets a copy: many verbs of scanpy write to what they are given.
            make = partial(_stored, adata, name) if isinstance(method, str) else partial(_call, method, adata)
            makers[name] = partial(_checked, make, name, adata.n_obs)
            if isinstance(method, str):
                makers[name]()
    return {name: makers[name] for name in named}


def pca(
    matrix: sparse.csr_matrix, scale: Scale, seed: int, *, n_components: int = 50, scaled: bool = True
) -> np.ndarray:
    """Project on principal components of the 2,000 most variable genes.

    Counts are put on a log scale after scaling to 10,000 a cell, log values are taken as they are.

    Parameters
    ----------
    matrix
        Cells x genes.
    scale
        What :func:`~scanpy_sct.read.scale.find_scale` said.
    n_components
        Dimensions; fewer where there are fewer cells or genes.
    scaled
        Give every gene unit variance, cut off at 10. It lets weak genes in, and their noise with them.

    Returns
    -------
    (n_cells, n_components) float32.
    """
    import scanpy as sc

    cells = _variable_genes(matrix, scale)
    cells = AnnData(cells.X.toarray())
    if scaled:
        sc.pp.scale(cells, max_value=10)
    sc.pp.pca(cells, n_comps=min(n_components, *(length - 1 for length in cells.shape)), random_state=seed)
    return cells.obsm["X_pca"]


def scvi(matrix: sparse.csr_matrix, batches: np.ndarray | None, seed: int) -> np.ndarray:
    """Fit scVI to counts, Lopez et al. 2018 (Nature Methods 15, 1053); all settings as scvi-tools has them.

    It models the same 2,000 genes as `pca`, and is told the batch of each cell where there are batches. A cell that
    expresses none of them is described as scVI describes an empty cell.

    Returns
    -------
    (n_cells, 10) float32: mean of the latent variables.
    """
    import scvi as package

    from scanpy_sct.evaluate.methods.scvi import own_chance

    genes = _variable_genes(matrix, "counts").var_names.astype(int)
    cells = AnnData(matrix[:, genes].copy())
    cells.obs["batch"] = pd.Categorical(np.zeros(cells.n_obs, dtype=int) if batches is None else batches)
    # A batch of one cell, as the last one may be, cannot be normalised.
    batch_size = _BATCH_SIZE - (cells.n_obs % _BATCH_SIZE == 1)
    with own_chance(package, seed):
        package.model.SCVI.setup_anndata(cells, batch_key="batch")
        fitted = package.model.SCVI(cells)
        fitted.train(batch_size=batch_size, enable_progress_bar=False, logger=False)
        return fitted.get_latent_representation()


def _variable_genes(matrix: sparse.csr_matrix, scale: Scale) -> AnnData:
    """Log-normalise, and keep the most variable genes; names are the numbers of the columns."""
    import scanpy as sc

    cells = AnnData(matrix.copy())
    if scale != "log":
        sc.pp.normalize_total(cells, target_sum=_TARGET)
        sc.pp.log1p(cells)
    if cells.n_vars > _N_GENES:
        sc.pp.highly_variable_genes(cells, n_top_genes=_N_GENES)
        cells = cells[:, cells.var["highly_variable"]].copy()
    return cells


def _sct(
    adata: AnnData, model: str | PathLike[str] | Checkpoint, seed: int, **keys: str | None
) -> dict[str, Callable[[], np.ndarray]]:
    """Prepare what `tl.embed` computes with its defaults, without writing to the object."""
    from scanpy_sct.embed.cells import predict_embedding
    from scanpy_sct.tl._common import read

    checkpoint, expression = read(adata, model, **keys)
    embed = partial(predict_embedding, checkpoint, expression, bags="random", rng=seed)
    return {"sct": embed}


def _name(adata: AnnData, methods: str | Vectors | Iterable[str | Vectors]) -> dict[str, str | Vectors]:
    """Name each method once; strings must be known."""
    given = [methods] if isinstance(methods, str) or callable(methods) else list(methods)
    known = [*BUILT_IN, *(key for key in adata.obsm if key not in BUILT_IN)]
    named: dict[str, str | Vectors] = {}
    for method in given:
        if not isinstance(method, str) and not callable(method):
            msg = f"`methods` must hold names and functions of an AnnData, found {type(method).__name__}."
            raise TypeError(msg)
        name = method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__)
        if isinstance(method, str) and method not in known:
            msg = f"`methods` must be some of {', '.join(known)}, or functions of an AnnData; found {method!r}."
            raise ValueError(msg)
        if name in named or (name in known and not isinstance(method, str)):
            msg = f"`methods` holds {name!r} more than once, or a function of the name of a method; rename one."
            raise ValueError(msg)
        named[name] = method
    if not named:
        msg = f"`methods` is empty; name some of {', '.join(known)}."
        raise ValueError(msg)
    return named


def _check_scvi(scale: Scale, layer: str | None) -> None:
    """Refuse what scVI cannot be fitted to."""
    if find_spec("scvi") is None:
        msg = 'Method "scvi" of `methods` needs scvi-tools: `pip install "scanpy_sct[evaluate]"`, or leave it out.'
        raise ImportError(msg)
    if scale != "counts":
        source = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
        msg = f"Method 'scvi' of `methods` needs counts, but {source} holds {scale} values; name the layer with counts."
        raise ValueError(msg)


def _call(method: Vectors, adata: AnnData) -> Any:
    """Run a function of the user on a copy; what is on disk is loaded, as anndata copies no open file."""
    return method(adata.to_memory(copy=True) if adata.isbacked else adata.copy())


def _stored(adata: AnnData, key: str) -> Any:
    """Read an embedding from the object."""
    stored = adata.obsm[key]
    return stored.compute() if hasattr(stored, "compute") else stored


def _checked(make: Callable[[], Any], name: str, n_cells: int) -> np.ndarray:
    """Refuse what is not one vector of finite numbers a cell."""
    found = make()
    found = found.toarray() if sparse.issparse(found) else found
    try:
        vectors = np.asarray(found, dtype=np.float32)
    except (TypeError, ValueError) as error:
        msg = f"Method {name!r} of `methods` gave no numbers: {error}"
        raise TypeError(msg) from error
    if vectors.ndim != 2 or len(vectors) != n_cells or not vectors.shape[1]:
        msg = f"Method {name!r} of `methods` must give one vector a cell, ({n_cells}, n); found shape {vectors.shape}."
        raise ValueError(msg)
    n_bad = int((~np.isfinite(vectors)).any(axis=1).sum())
    if n_bad:
        msg = f"Method {name!r} of `methods` gave NaN or infinite values for {n_bad} of {n_cells} cells; mend it."
        raise ValueError(msg)
    return vectors

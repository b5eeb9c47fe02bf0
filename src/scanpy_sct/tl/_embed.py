from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.embed.cells import predict_embedding
from scanpy_sct.tl._common import as_seed, read, record, refuse_backed_copy, refuse_foreign_key
from scanpy_sct.write import checked_key, write_embedding

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

SOURCES = ("auto", "cell", "transformer")


def embed(
    adata: AnnData,
    *,
    model: str | PathLike[str] | Checkpoint = "sct-mini",
    source: str = "auto",
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    bags: str = "random",
    key_added: str = "X_sct",
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    rng: int | np.random.Generator | None = 0,
    copy: bool = False,
) -> AnnData | None:
    """Compute one vector per cell, for neighbours, clusters and UMAP.

    Parameters
    ----------
    adata
        Cells x genes: counts, or log-normalised values. `X` and all other fields stay as they are.
    model
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`.
    source
        Which part of the network stands for a cell: `"transformer"`, the mean of its positions behind the transformer
        layers; `"cell"`, the direct cell embedding, which not every checkpoint has; `"auto"`, what the checkpoint
        names.
    layer, library_key, gene_names
        As in :func:`scanpy_sct.tl.impute`.
    bags
        As in :func:`scanpy_sct.tl.impute`. Random bags are the default: a cell is described against a fair sample of
        the others.
    key_added
        Name of the result.
    device, precision, batch_size, rng, copy
        As in :func:`scanpy_sct.tl.impute`.

    Returns
    -------
    None, or the copy. These fields are written:

    `.obsm[key_added]` : float32, (cells, dimensions)
        The vectors.
    `.uns[key_added]` : dict
        Arguments, model, weights hash, gene counts and versions.

    Raises
    ------
    ValueError, KeyError, TypeError
        When an argument or the object cannot be used; before anything is computed or written.

    Notes
    -----
    What the direct embedding of `sct-mini` is worth, without any training on the data at hand: its 15 nearest
    neighbours name regions of tissue sections somewhat better than those of principal components of the data set
    itself, unscaled, blood cells a trifle worse, and cells of a breast tumour worse. It mixed sections of a heart
    better, those of two tumours no better, and three chemistries of blood not at all.
    `sct models describe sct-mini` has the figures, `benchmarks/embedding.py` makes them. Across studies it carries
    their differences along: to transfer labels, use :func:`scanpy_sct.tl.annotate`.

    `source="transformer"` is for networks with convolutions, which `sct-mini` does not have.

    Examples
    --------
    >>> import scanpy as sc, scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.embed(adata)
    >>> sc.pp.neighbors(adata, use_rep="X_sct")
    """
    checked_key(key_added)
    refuse_foreign_key(adata, key_added)
    refuse_backed_copy(adata, copy)
    if source not in SOURCES:
        msg = f"source={source!r} is not known; use one of {', '.join(map(repr, SOURCES))}."
        raise ValueError(msg)
    seed = as_seed(rng)
    checkpoint, expression = read(adata, model, layer=layer, library_key=library_key, gene_names=gene_names)
    values = predict_embedding(
        checkpoint,
        expression,
        bags=bags,
        device=device,
        precision=precision,
        batch_size=batch_size,
        rng=seed,
    )
    target = adata.copy() if copy else adata
    params = {
        "source": source,
        "layer": layer,
        "library_key": library_key,
        "gene_names": gene_names,
        "bags": bags,
        "rng": seed,
    }
    write_embedding(target, key_added, values=values, params=params, details=record(checkpoint, expression))
    return target if copy else None

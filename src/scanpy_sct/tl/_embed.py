from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from scanpy_sct.embed.cells import embed_cells
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.run.options import BagPolicy, ComputeOptions, Precision, as_seed
from scanpy_sct.workflow import Result, run_workflow
from scanpy_sct.write import WriteOptions, write_embedding

if TYPE_CHECKING:
    from os import PathLike

    import numpy as np
    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint


def embed(
    adata: AnnData,
    *,
    model: str | PathLike[str] | Checkpoint = "sct-mini",
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    bags: BagPolicy = "random",
    key_added: str = "X_sct",
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | Literal["auto"] = "auto",
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
    layer, library_key, gene_names
        As in :func:`scanpy_sct.tl.impute`.
    bags
        As in :func:`scanpy_sct.tl.impute`, for networks that read bags to embed a cell (the released one); those of
        `sct-mini` do not depend on it.
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
    With `sct-mini`, a vector describes a cell and not the bag it was read in: cells are centred on the profile of their
    sample, estimated from up to 1,000 of its cells, which are drawn by their names.

    `X_sct` does not replace principal components. Its 15-nearest-neighbour accuracy was slightly higher on tissue
    sections, slightly lower on blood and clearly lower on tumour cells, all without any training on the data at hand;
    it hardly mixes chemistries. `sct models describe sct-mini` has the figures, `benchmarks/embedding.py` makes them.
    To transfer labels between studies, use :func:`scanpy_sct.tl.annotate`.

    Examples
    --------
    >>> import scanpy as sc, scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.embed(adata)
    >>> sc.pp.neighbors(adata, use_rep="X_sct")
    """
    return run_workflow(
        adata,
        model,
        (
            ReadOptions(layer, library_key, gene_names),
            ComputeOptions(bags, device, precision, batch_size, as_seed(rng)),
            WriteOptions(key_added, copy),
        ),
        lambda *cells: Result(write_embedding, {"values": embed_cells(*cells)}),
    )

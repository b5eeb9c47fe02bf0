from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from scanpy_sct.impute import ImputeSettings
from scanpy_sct.impute.fields import imputed_fields
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.requested import as_gene_list
from scanpy_sct.run.options import BagPolicy, ComputeOptions, Precision, as_seed
from scanpy_sct.workflow import Result, run_workflow
from scanpy_sct.write import WriteOptions, write_imputation

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from scipy import sparse

    from scanpy_sct.checkpoints.checkpoint import Checkpoint


def impute(
    adata: AnnData,
    genes: str | Sequence[str] | None = None,
    *,
    model: str | PathLike[str] | Checkpoint = "sct-mini",
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    bags: BagPolicy = "auto",
    hide: str | np.ndarray | sparse.spmatrix | None = None,
    calibrate: bool = True,
    blend: bool = True,
    denoise: bool = False,
    store_bins: bool = False,
    key_added: str = "sct",
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | Literal["auto"] = "auto",
    rng: int | np.random.Generator | None = 0,
    copy: bool = False,
) -> AnnData | None:
    """Predict the expression of every gene in every cell from everything else.

    Every measured entry is hidden in exactly one of several passes, and predicted from the other genes of its cell and
    from the other cells of its bag. What is fitted to the object (`calibrate`, `blend`) is fitted, for each pass, to
    the entries of the other passes, but for a few numbers that all genes share.

    Parameters
    ----------
    adata
        Cells x genes: counts, or log-normalised values. `X` and all other fields stay as they are.
    genes
        Genes to predict, by the names the object uses, or by symbol or Ensembl id. Genes that were not measured can be
        asked for. Measured genes that the model does not know keep their values, with a warning in the log. None: all
        measured genes the model knows. Fewer genes take hardly less time: all are read.
    model
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`.
    layer
        Layer to read instead of `X`.
    library_key
        Column of `.obs` that names the sample of each cell; a bag never mixes samples.
    gene_names
        Column of `.var` with symbols or Ensembl ids to use instead of `.var_names`.
    bags
        Which cells are read together: `"spatial"` (neighbours on the tissue, from `.obsm["spatial"]`), `"similar"` (by
        their visible expression), `"random"`; `"auto"` is the first of these that the object allows.
    hide
        Entries to treat as not known: boolean cells x genes, or the name of a layer that holds this. They are hidden in
        all passes, and nothing about them reaches any result. Those of genes that are not predicted become NaN in the
        layer.
    calibrate
        Fit each gene's predicted detection rate and level to those of its visible entries in this object, and, for
        checkpoints with a direct cell embedding, how far its say is followed.
    blend
        Mix what the network says with a low-rank reconstruction of these very data, made from what is visible in each
        pass. How much each counts is learnt from entries that were hidden: for every gene in whether it is expressed,
        for all genes together in how strongly. Needs `calibrate`.
    denoise
        Combine every prediction with the value measured there, as a Gamma-Poisson posterior whose spread is learnt for
        each gene. The result keeps what was measured as far as it can be trusted; it is *not* independent of it.
        Needs counts, or log-normalised values of counts.
    store_bins
        Also write the most probable bin and its probability.
    key_added
        Name of the result.
    device, precision, batch_size
        Where and how to compute; `"auto"` follows :data:`scanpy_sct.settings` and the hardware. The numbers do not
        depend on `batch_size`.
    rng
        Seed of bags and passes.
    copy
        Return a changed copy and leave `adata` as it is.

    Returns
    -------
    None, or the copy. These fields are written:

    `.layers[key_added]` : float32
        Expected expression on the log scale of the input (`log1p` of counts, or the log-normalised values given).
        Genes that are not predicted keep their observed values. Each value was predicted while it was hidden; with
        `denoise`, it was then combined with what was measured.
    `.var[key_added + "_imputed"]` : bool
        Whether the gene was predicted.
    `.var[key_added + "_recovery"]` : float64
        Pearson correlation, over all cells, of the gene's observed values with their predictions, each made while the
        value was hidden, both as deviations from the gene's mean in the pass that hid them (NaN for a constant gene).
        Around 0 for a gene that nobody could predict. Trust a gene as far as this goes.
    `.var[key_added + "_network_share"]` : float64
        With `blend`: share of the network in the prediction of whether the gene is expressed, from 0 to 1; the rest is
        the reconstruction from the data themselves (NaN for genes that were not predicted).
    `.var[key_added + "_source"]` : categorical
        With `blend`: which of both has the larger share, "network" or "data"; "none" for genes that were not predicted.
    `.obsm[key_added + "_unmeasured"]` : DataFrame of float32
        Expected expression of genes that were asked for and not measured.
    `.layers[key_added + "_bins"]` : uint8, `.layers[key_added + "_confidence"]` : float32
        With `store_bins`: the most probable bin (0: not expressed) and its probability, before calibration.
    `.uns[key_added]` : dict
        Arguments, model, weights hash, gene counts and versions; with `blend` also `"blend_weights"`, from which the
        weights of all genes start, and `"level_share"`, the share of the network in how strongly genes are expressed.

    Raises
    ------
    ValueError, KeyError, TypeError
        When an argument or the object cannot be used; before anything is computed or written.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.impute(adata)
    >>> adata.layers["sct"].shape == adata.shape
    True
    """
    genes = as_gene_list(genes)
    settings = ImputeSettings(calibrate=calibrate, blend=blend, denoise=denoise, keep_bins=store_bins)
    return run_workflow(
        adata,
        model,
        (
            ReadOptions(layer, library_key, gene_names, hide),
            ComputeOptions(bags, device, precision, batch_size, as_seed(rng)),
            WriteOptions(key_added, copy),
        ),
        lambda *cells: Result(write_imputation, *imputed_fields(*cells, settings, genes)),
        params={
            "genes": genes,
            "calibrate": calibrate,
            "blend": blend,
            "denoise": denoise,
            "store_bins": store_bins,
        },
    )

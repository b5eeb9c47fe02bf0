from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from scanpy_sct.impute import ImputeSettings, Values
from scanpy_sct.impute.fields import imputed_bytes, imputed_fields, make_imputer
from scanpy_sct.impute.resume import ImputationStore
from scanpy_sct.impute.timing import mention_time
from scanpy_sct.keys import ImputationKeys
from scanpy_sct.read.options import GivenScale, ReadOptions
from scanpy_sct.read.reference import options_for, read_reference
from scanpy_sct.read.requested import as_gene_list
from scanpy_sct.run.options import BagPolicy, ComputeOptions, Precision, as_seed
from scanpy_sct.workflow import Result, StoredTables, open_parts, run_workflow
from scanpy_sct.write import WriteOptions, write_imputation

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from distributed import Client
    from scipy import sparse

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellReader


def impute(
    adata: AnnData,
    genes: str | Sequence[str] | None = None,
    *,
    model: str | PathLike[str] | Checkpoint = "sct-mini",
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    scale: GivenScale = "auto",
    bags: BagPolicy = "auto",
    reference: AnnData | None = None,
    reference_layer: str | None = None,
    reference_gene_names: str | None = None,
    reference_scale: GivenScale = "auto",
    hide: str | np.ndarray | sparse.spmatrix | None = None,
    calibrate: bool = True,
    blend: bool = True,
    denoise: bool = False,
    values: Values = "auto",
    store_bins: bool = False,
    key_added: str = "sct",
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | Literal["auto"] = "auto",
    rng: int | np.random.Generator | None = 0,
    copy: bool = False,
    out: str | PathLike[str] | None = None,
    client: Client | None = None,
) -> AnnData | None:
    """Impute the expression of every gene in every cell from the other genes and the other cells.

    Every measured value is masked in exactly one of several passes, and predicted from the visible genes of its cell
    and from the other cells of its bag. Calibration and blending are fitted on the other passes, so a value never
    informs its own prediction (except through a few parameters shared by all genes). They are fitted on at most 8,192
    cells (all, where there are fewer) and then applied to all cells.

    Parameters
    ----------
    adata
        Cells x genes: counts, or log-normalised values. `.X` and all other fields stay as they are.
    genes
        Genes to impute: names in `.var_names`, symbols or Ensembl ids, measured or not. `None`: all measured genes
        that the model knows. `"all"`: these, and all others that the model or the reference knows; the same as `None`
        with a reference. Measured genes that the model does not know keep their values, with a warning in the log. So
        do unknown genes in a list of more than ten names, which are left out; in a shorter one they are an error.
        Requesting fewer genes hardly reduces the run time, since all genes are read as input.
    model
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`.
    layer
        Layer to read instead of `.X`.
    library_key
        Column of `.obs` with the sample of each cell; no bag mixes cells of different samples, while calibration and
        blending are fitted on all samples together. Genes that one sample never measured although others did (objects
        joined with `join="outer"`) are hidden in it, as by `hide`, with a warning. `None`: all cells are one sample.
    gene_names
        Column of `.var` with symbols or Ensembl ids, to use instead of `.var_names`.
    scale
        What the values are: `"counts"` (integers or decimals, or other amounts on the linear scale, such as CPM) or
        `"log1p"` (natural logarithms of 1 + value). `"auto"`: this is found from the values, with a warning in the log
        where they can be read in both ways.
    bags
        Which cells the network reads together: `"spatial"` (neighbours in `.obsm["spatial"]`), `"similar"` (cells with
        similar visible expression) or `"random"`. `"auto"`: `"spatial"` if there are coordinates, else `"similar"`.
    reference
        Cells of the same tissue in which more genes were measured, such as dissociated cells for a targeted panel
        (Xenium, MERFISH, CosMx). Genes that `adata` did not measure are then predicted from the network and from
        similar cells of the reference, with weights that are estimated on measured genes that are left out. Without
        it, the network predicts them alone. Both objects need counts, or log-normalised counts, and at least 20 genes
        in common. At most 20,000 cells of the reference are used. It is not changed.
    reference_layer, reference_gene_names, reference_scale
        As `layer`, `gene_names` and `scale`, for the reference. Without `reference_gene_names`, the column `gene_names`
        is used if the reference has it, else its `.var_names`; `library_key` is used if the reference has it.
    hide
        Boolean matrix (cells, genes), or the name of such a layer: values to treat as unknown. They are masked in all
        passes and never reach any result. They are predicted in a last pass in which only they are masked, blended with
        weights fitted on a probe pass that masks one visible entry in twelve as well.
    calibrate
        Shift each gene's predicted detection rate and conditional mean to those of its visible values. This corrects
        for tissues, donors or chemistries in which a gene is detected more or less often than in the training data.
        For checkpoints with a cell embedding, its weight is fitted as well.
    blend
        Blend the network with a low-rank reconstruction of `adata` from the visible values of each pass. The weights
        start from values shared by all genes; genes with enough data get their own weights for the probability of
        detection. In blocks of 100 cells or more, conditional means are also blended with those of up to fifteen most
        similar cells. Needs `calibrate`, at least 20 cells, and 50 genes that are detected in at least 3 cells and 1 %
        of the cells; else the network is used alone.
    denoise
        Combine each prediction with the measured count, as the posterior mean of a Gamma-Poisson model with a variance
        fitted for each gene. The result is then *not* independent of the measured value. Needs counts, or
        log-normalised counts.
    values
        What is written. `"auto"`: the expected value on the log scale of the input. `"lognorm"`: the expected `log1p`
        of counts per 10,000 (of the measured genes), at the depth of the cell. `"counts"`: expected counts; needs
        counts, or log-normalised counts. `"lognorm"` and `"counts"` are the same from counts and from log-normalised
        values of them.
    store_bins
        Also write the most probable bin and its probability.
    key_added
        Name of the result.
    device
        Device of the network, such as `"cpu"` or `"cuda"`. `"auto"`: that of :data:`scanpy_sct.settings`, by default
        the best available.
    precision
        Number format of the network. `"auto"`: that of :data:`scanpy_sct.settings`, by default chosen by the hardware.
    batch_size
        Number of bags computed at once; `"auto"`: as many as the hardware allows. Results do not depend on it.
    rng
        Seed, or generator, of bags and passes. `None`: a new seed, which is recorded.
    copy
        Return a copy with the result and leave `adata` as it is.
    out
        Path of a zarr store, ending in `.zarr`, for data whose result does not fit in memory. The imputed values are
        written to it block by block, compressed; at the end it holds the whole object with the result, as
        :meth:`anndata.AnnData.write_zarr` would have written it, and the layers of `adata` are dask arrays that read
        from it. After an interruption the same call goes on with the blocks that are missing.
    client
        `distributed.Client` of a dask cluster, on whose workers blocks are computed. `None`: the active client, if
        there is one. Without `out`, the layers are then dask arrays on the workers.

    Returns
    -------
    `None`, or the copy. These fields are written:

    `.layers[key_added]` : float32, (cells, genes)
        Expected expression on the log scale of the input (`log1p` of counts, or the log-normalised values given), or as
        `values` says. Genes that were not imputed keep their measured values (NaN where they are hidden). If at most a
        quarter of the genes is imputed, it is a CSR matrix. With `out` or on a dask cluster it is a dask array.
    `.var[key_added + "_imputed"]` : bool
        Whether the gene was imputed.
    `.var[key_added + "_recovery"]` : float64
        Pearson correlation of measured and predicted values over all cells, each predicted while it was masked, both as
        deviations from the gene's mean in that pass: 1 if the masked values were recovered, around 0 if the gene cannot
        be predicted. NaN for a constant gene, and for genes that were not imputed.
    `.var[key_added + "_network_fraction"]` : float64
        With `blend`: weight of the network in the probability that the gene is detected, from 0 to 1; the rest is the
        low-rank reconstruction. NaN for genes that were not imputed.
    `.var[key_added + "_source"]` : categorical
        With `blend`: `"network"` if that fraction is 0.5 or more, else `"data"`; `"none"` for genes that were not
        imputed.
    `.obsm[key_added + "_unmeasured"]` : DataFrame of float32, (cells, genes)
        Expected expression of the requested genes that are not measured; by the network alone, unless there is a
        reference.
    `.obs[key_added + "_similarity"]` : float32
        With a reference: similarity of the cell to the reference, at most 1: cosine between the cell and its 50 nearest
        neighbours in the space of the shared genes. Low values point to cells of types that the reference lacks. NaN
        for cells without counts of shared genes.
    `.layers[key_added + "_bins"]` : uint8, `.layers[key_added + "_confidence"]` : float32
        With `store_bins`: the most probable bin (0: not detected) and its probability, before calibration.
    `.uns[key_added]` : dict
        `"params"` (arguments), `"model"`, `"genes"`, `"scale"` and `"versions"`; `"bags"` (what was used), `"passes"`
        (two more if entries are hidden), `"fit_cells"` (number of cells the fit is estimated on) and `"cell_weight"`
        (weight of the cell embedding, from 0 to 1). With `blend`: `"blend_weights"` (float64, (3,): shared weights of
        the log-odds of network and reconstruction, and offset), `"conditional_mean_weight"` (weight of the network in
        the conditional mean, from 0 to 1) and `"neighbour_weight"` (weight of the most similar cells beside both, from
        0 to 1). With a reference: `"unmeasured"` (a table of the unmeasured genes:
        `trust`, the estimated correlation of predicted and true values over cells, from 0 to 1; `reference_detection`,
        the fraction of reference cells in which the gene is detected; `source`, `"both"`, `"reference"` or
        `"network"`), and `"reference"` (numbers of cells and shared genes; weights; `"level_error"`, the spread of the
        errors of both sources about how often genes are detected, in log-odds; and `"explained"`, the fraction of the
        deviance of detection that each source explains in measured genes that were left out).

    Raises
    ------
    KeyError
        There is no such layer or column, or neither the model nor the reference knows one of the genes (of more than
        ten: any of them).
    TypeError
        An argument has the wrong type, or `adata` is not an AnnData.
    ValueError
        An argument has a value that is not possible, or the values of `adata` cannot be used. All errors are raised
        before anything is computed or written, and say how to fix them.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.impute(adata)
    >>> adata.layers["sct"].shape == adata.shape
    True
    """
    requested = as_gene_list(genes)
    settings = ImputeSettings(calibrate=calibrate, blend=blend, denoise=denoise, keep_bins=store_bins, values=values)
    options = (
        ReadOptions(layer, library_key, gene_names, hide, scale, normalise=values != "auto"),
        ComputeOptions(bags, device, precision, batch_size, as_seed(rng), client=client),
        WriteOptions(key_added, copy, "imputation", out),
    )
    reference_options = ReadOptions(
        reference_layer, library_key, reference_gene_names, scale=reference_scale, owner="reference"
    )
    params = {
        "genes": requested,
        "reference": reference is not None,
        "reference_layer": reference_layer,
        "reference_gene_names": reference_gene_names,
        "reference_scale": reference_scale,
        "hide": hide if hide is None or isinstance(hide, str) else "matrix",
        "calibrate": calibrate,
        "blend": blend,
        "denoise": denoise,
        "values": values,
        "store_bins": store_bins,
    }

    def compute(checkpoint: Checkpoint, reader: CellReader, computing: ComputeOptions) -> Result:
        cells = None
        if reference is not None:
            given = options_for(reference, reference_options, gene_names)
            cells = read_reference(reference, checkpoint.genes, checkpoint.tokens.scale, given, computing.seed)
        imputer, unmeasured = make_imputer(checkpoint, reader, computing, settings, requested, cells)
        mention_time(imputer)
        if out is None:
            return Result(write_imputation, *imputed_fields(imputer, unmeasured))
        rows, keys = imputer.block_rows, ImputationKeys.of(key_added)
        also = {} if cells is None else {"reference": cells.digest}
        parts = open_parts(out, checkpoint, reader, rows, options, params, imputed_bytes(imputer), also)
        layers = {"layer": keys.values} | ({"bins": keys.bins, "confidence": keys.confidence} if store_bins else {})
        fields, details = imputed_fields(imputer, unmeasured, ImputationStore(parts))
        return Result(write_imputation, fields, details, StoredTables(parts, rows, layers))

    return run_workflow(adata, model, options, compute, params)

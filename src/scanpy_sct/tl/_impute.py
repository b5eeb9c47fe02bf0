from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from scanpy_sct.impute.entries import predict_entries
from scanpy_sct.impute.fields import count_units, imputed_fields
from scanpy_sct.read.expression import Expression
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.read.hide import hidden_at_positions, read_hide
from scanpy_sct.tl._common import as_seed, read, record, refuse_backed_copy, refuse_foreign_key
from scanpy_sct.write import checked_key, write_imputation

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.impute.entries import Prediction

logger = logging.getLogger(__name__)


def impute(
    adata: AnnData,
    genes: str | Sequence[str] | None = None,
    *,
    model: str | PathLike[str] | Checkpoint = "sct-mini",
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    bags: str = "auto",
    hide: str | np.ndarray | sparse.spmatrix | None = None,
    path: str = "auto",
    calibrate: bool = True,
    blend: bool = True,
    denoise: bool = False,
    store_bins: bool = False,
    key_added: str = "sct",
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
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
    path
        Part of the network that predicts: `"full"`; `"direct"`, which leaves out the convolutional towers and the
        transformer between them and is many times faster (only checkpoints with direct paths); or `"auto"`, what the
        checkpoint's model card says is worth its time.
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
    checked_key(key_added)
    refuse_foreign_key(adata, key_added)
    genes = _checked_genes(genes)
    refuse_backed_copy(adata, copy)
    params = _params(locals())
    seed = as_seed(rng)
    hide = read_hide(adata, hide)
    checkpoint, expression = read(adata, model, layer=layer, library_key=library_key, gene_names=gene_names, hide=hide)
    positions, labels = _choose_positions(genes, expression, checkpoint, adata)
    unit = count_units(expression) if denoise else None
    prediction = predict_entries(
        checkpoint,
        expression,
        positions=positions,
        hide=hidden_at_positions(hide, expression),
        bags=bags,
        path=path,
        calibrate=calibrate,
        blend=blend,
        keep_bins=store_bins,
        device=device,
        precision=precision,
        batch_size=batch_size,
        rng=seed,
    )
    target = adata.copy() if copy else adata
    details = record(
        checkpoint,
        expression,
        bags=prediction.bag_policy,
        path=prediction.path,
        cell_weight=prediction.cell_weight,
        passes=prediction.n_passes,
        **_blend_details(prediction),
    )
    fields = imputed_fields(target, prediction, expression, hide, unit, layer, labels)
    write_imputation(target, key_added, **fields, params=params | {"rng": seed}, details=details)
    return target if copy else None


def _blend_details(prediction: Prediction) -> dict[str, Any]:
    if prediction.blend_weights is None:
        return {}
    return {"blend_weights": prediction.blend_weights, "level_share": prediction.level_share}


def _params(arguments: dict[str, Any]) -> dict[str, Any]:
    left_out = {"adata", "model", "copy", "hide"}
    params = {name: value for name, value in arguments.items() if name not in left_out}
    return params | {"device": str(params["device"])}


def _checked_genes(genes: str | Iterable[str] | None) -> list[str] | None:
    if genes is None:
        return None
    genes = [genes] if isinstance(genes, str) else list(genes)
    if not genes:
        msg = "genes is empty; name at least one gene, or give None for all measured genes the model knows."
        raise ValueError(msg)
    return genes


def _choose_positions(
    genes: list[str] | None, expression: Expression, checkpoint: Checkpoint, adata: AnnData
) -> tuple[np.ndarray, dict[int, str]]:
    """Positions to predict, and the name asked for at each position that was not measured."""
    if genes is None:
        return np.flatnonzero(expression.measured), {}
    # A dict takes one of several columns of the same name, which `gene_names` can tell apart.
    position_of_column = dict(
        zip(adata.var_names[expression.genes.columns][::-1], expression.genes.positions[::-1], strict=True)
    )
    ids = to_ensembl(genes, vocabulary=checkpoint.genes).ensembl_ids
    position_of_id = {name: place for place, name in enumerate(checkpoint.genes) if name}
    positions, unmeasured, unknown, foreign = [], {}, [], []
    for gene, ensembl_id in zip(genes, ids, strict=True):
        place = position_of_column.get(gene, position_of_id.get(ensembl_id))
        if place is None:
            (foreign if gene in adata.var_names else unknown).append(gene)
            continue
        positions.append(int(place))
        if not expression.measured[place]:
            unmeasured[int(place)] = gene
    if unknown or not positions:
        raise _unknown_genes(unknown or foreign, adata, checkpoint)
    if foreign:
        logger.warning("genes: %s keep their values: the model %r does not know them.", foreign, checkpoint.name)
    return np.unique(positions), unmeasured


def _unknown_genes(unknown: list[str], adata: AnnData, checkpoint: Checkpoint) -> KeyError:
    close = {match for gene in unknown for match in get_close_matches(gene, adata.var_names, n=1) if match != gene}
    hint = f" Did you mean {sorted(close)}?" if close else ""
    msg = f"genes: the model {checkpoint.name!r} does not know {unknown}; give symbols or Ensembl ids of human genes."
    return KeyError(msg + hint)

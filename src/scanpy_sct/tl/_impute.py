from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scanpy_sct.plan.posterior import combine
from scanpy_sct.predict import Prediction, predict_entries
from scanpy_sct.read.expression import Expression
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.scale import counts_unit, to_log
from scanpy_sct.tl._common import as_seed, read, record, refuse_backed_copy
from scanpy_sct.write import checked_key, write_imputation

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

COLUMNS_AT_ONCE = 1000


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
    from the other cells of its bag: no value has any part in its own prediction.

    Parameters
    ----------
    adata
        Cells x genes: counts, or log-normalised values. `X` and all other fields stay as they are.
    genes
        Genes to predict, by the names the object uses, or by symbol or Ensembl id. Genes that were not measured can be
        asked for. None: all measured genes the model knows.
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
        all passes, and nothing about them reaches any result except that they are predicted.
    path
        Part of the network that predicts: `"full"`; `"direct"`, which leaves out the convolutional towers and the
        transformer between them and is many times faster (only checkpoints with direct paths); or `"auto"`, what the
        checkpoint's model card says is worth its time.
    calibrate
        Fit each gene's predicted detection rate and level to those of its visible entries in this object, and, for
        checkpoints with a direct cell embedding, how far its say is followed.
    blend
        Mix what the network says with a low-rank reconstruction of these very data, made from what is visible in each
        pass. How much each counts is learnt for every gene from entries that were hidden. Needs `calibrate`.
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
        Genes that are not predicted keep their observed values. No value has any part in its own prediction, unless
        `denoise` is set.
    `.var[key_added + "_imputed"]` : bool
        Whether the gene was predicted.
    `.var[key_added + "_recovery"]` : float64
        Pearson correlation, over all cells, of the gene's observed values with their predictions, each made while the
        value was hidden (NaN for a constant gene). Trust a gene as far as this goes.
    `.var[key_added + "_network_share"]` : float64
        With `blend`: share of the network in the prediction of the gene, from 0 to 1; the rest is the reconstruction
        from the data themselves (NaN for genes that were not predicted).
    `.var[key_added + "_source"]` : categorical
        With `blend`: which of both carried the gene, "network" or "data"; "none" for genes that were not predicted.
    `.obsm[key_added + "_unmeasured"]` : DataFrame of float32
        Expected expression of genes that were asked for and not measured.
    `.layers[key_added + "_bins"]` : uint8, `.layers[key_added + "_confidence"]` : float32
        With `store_bins`: the most probable bin (0: not expressed) and its probability, before calibration.
    `.uns[key_added]` : dict
        Arguments, model, weights hash, gene counts and versions.

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
    genes = _checked_genes(genes)
    refuse_backed_copy(adata, copy)
    params = _params(locals())
    seed = as_seed(rng)
    hide = _read_hide(adata, hide)
    checkpoint, expression = read(adata, model, layer=layer, library_key=library_key, gene_names=gene_names, hide=hide)
    hidden = _at_positions(hide, expression)
    positions, labels = _choose_positions(genes, expression, checkpoint, adata)
    unit = _count_units(expression) if denoise else None
    prediction = predict_entries(
        checkpoint,
        expression,
        positions=positions,
        hide=hidden,
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
        **({} if prediction.blend_weights is None else {"blend_weights": prediction.blend_weights}),
    )
    _write(target, key_added, prediction, expression, hidden, unit, layer, labels, params | {"rng": seed}, details)
    return target if copy else None


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


def _read_hide(adata: AnnData, hide: str | np.ndarray | sparse.spmatrix | None) -> sparse.csr_matrix | None:
    if hide is None:
        return None
    if isinstance(hide, str):
        if hide not in adata.layers:
            msg = f"hide={hide!r} is not a layer; there are {list(adata.layers)}."
            raise KeyError(msg)
        hide = adata.layers[hide]
    hide = sparse.csr_matrix(hide).astype(bool)
    if hide.shape != adata.shape:
        msg = f"hide has shape {hide.shape}, the object has {adata.shape}."
        raise ValueError(msg)
    return hide


def _at_positions(hide: sparse.csr_matrix | None, expression: Expression) -> sparse.csr_matrix | None:
    """Move columns of the data to their positions in the vocabulary."""
    if hide is None:
        return None
    entries = hide.tocsc()[:, expression.genes.columns].tocoo()
    places = (entries.row, expression.genes.positions[entries.col])
    return sparse.csr_matrix((entries.data, places), shape=(hide.shape[0], len(expression.measured)), dtype=bool)


def _count_units(expression: Expression) -> np.ndarray:
    """Find what one count is worth in each cell."""
    unit = counts_unit(expression.log_values)
    if unit is None:
        msg = (
            "denoise=True needs counts, or log-normalised values (natural logarithm) of counts, and the values of "
            "adata are neither; name a layer with counts, or leave denoise out."
        )
        raise ValueError(msg)
    return unit


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
    positions, unmeasured, unknown = [], {}, []
    for gene, ensembl_id in zip(genes, ids, strict=True):
        place = position_of_column.get(gene, position_of_id.get(ensembl_id))
        if place is None:
            unknown.append(gene)
            continue
        positions.append(int(place))
        if not expression.measured[place]:
            unmeasured[int(place)] = gene
    if unknown:
        msg = (
            f"genes: the model {checkpoint.name!r} does not know {unknown}; give symbols or Ensembl ids of human genes."
        )
        raise KeyError(msg)
    return np.unique(positions), unmeasured


def _write(
    adata: AnnData,
    key: str,
    prediction: Prediction,
    expression: Expression,
    hidden: sparse.csr_matrix | None,
    unit: np.ndarray | None,
    layer: str | None,
    unmeasured: dict[int, str],
    params: dict[str, Any],
    details: dict[str, Any],
) -> None:
    column_of_position = np.full(len(expression.measured), -1)
    column_of_position[expression.genes.positions] = expression.genes.columns
    columns = column_of_position[prediction.positions]
    measured = columns >= 0
    imputed = np.zeros(adata.n_vars, dtype=bool)
    imputed[columns[measured]] = True

    values = to_log(read_matrix(adata, layer), expression.scale).toarray()
    recovery = np.full(adata.n_vars, np.nan)
    value = prediction.value
    recovery[columns[measured]] = _recovery(expression, prediction.positions[measured], value[:, measured], hidden)
    if unit is not None:
        value = _with_measured(expression, prediction.positions, value, unit, hidden)
    values[:, columns[measured]] = value[:, measured]
    share = None
    if prediction.network_share is not None:
        share = np.full(adata.n_vars, np.nan)
        share[columns[measured]] = prediction.network_share[measured]

    def at_columns(predicted: np.ndarray | None, dtype: type) -> np.ndarray | None:
        if predicted is None:
            return None
        result = np.zeros(adata.shape, dtype=dtype)
        result[:, columns[measured]] = predicted[:, measured]
        return result

    table = None
    if unmeasured:
        names = [unmeasured[position] for position in prediction.positions[~measured]]
        table = pd.DataFrame(value[:, ~measured], index=adata.obs_names, columns=names)
    write_imputation(
        adata,
        key,
        layer=values,
        imputed=imputed,
        recovery=recovery,
        network_share=share,
        params=params,
        unmeasured=table,
        bins=at_columns(prediction.bins, np.uint8),
        confidence=at_columns(prediction.confidence, np.float32),
        details=details,
    )


def _with_measured(
    expression: Expression,
    positions: np.ndarray,
    value: np.ndarray,
    unit: np.ndarray,
    hidden: sparse.csr_matrix | None,
) -> np.ndarray:
    """Combine predictions with the counts measured at the same entries; those the user hid, and others, stay."""
    result = value.copy()
    measured = np.flatnonzero(expression.measured[positions])
    for start in range(0, len(measured), COLUMNS_AT_ONCE):
        block = measured[start : start + COLUMNS_AT_ONCE]
        count = np.expm1(expression.log_values[:, positions[block]].toarray().astype(np.float64)) / unit[:, None]
        known = None if hidden is None else ~hidden[:, positions[block]].toarray()
        result[:, block] = combine(np.rint(count), value[:, block], unit, known)
    return result


def _recovery(
    expression: Expression, positions: np.ndarray, value: np.ndarray, hidden: sparse.csr_matrix | None
) -> np.ndarray:
    """Pearson correlation per gene of observed and predicted values, over entries the user did not hide."""
    result = np.full(len(positions), np.nan)
    for start in range(0, len(positions), COLUMNS_AT_ONCE):
        block = slice(start, start + COLUMNS_AT_ONCE)
        observed = expression.log_values[:, positions[block]].toarray().astype(np.float64)
        predicted = value[:, block].astype(np.float64)
        weight = np.ones_like(observed)
        if hidden is not None:
            weight -= hidden[:, positions[block]].toarray()
        total = np.maximum(weight.sum(0), 1)
        observed = (observed - (weight * observed).sum(0) / total) * weight
        predicted = (predicted - (weight * predicted).sum(0) / total) * weight
        scale = np.sqrt((observed**2).sum(0) * (predicted**2).sum(0))
        np.divide((observed * predicted).sum(0), scale, out=result[block], where=scale > 1e-12)
    return result

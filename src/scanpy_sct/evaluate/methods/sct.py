"""The model to test, and what its training data alone predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scanpy_sct.evaluate.observed import Prediction
from scanpy_sct.evaluate.registry import method
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellReader
from scanpy_sct.run.options import ComputeOptions

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.evaluate.observed import Observed


@method("sct", needs="checkpoint")
def sct(observed: Observed) -> Prediction | np.ndarray:
    """Predict as :func:`scanpy_sct.tl.impute` does by default, the masked entries given as its `hide`.

    Where nothing is masked (thinned counts) its `denoise` and `values="counts"` are used.
    """
    return predict_with(observed, observed.checkpoint)


@method("sct_network", needs="checkpoint")
def sct_network(observed: Observed) -> Prediction | np.ndarray:
    """Do as `sct` without `blend`: the network alone, calibrated to what is visible."""
    return predict_with(observed, observed.checkpoint, blend=False)


@method("sct_finetuned", needs=("checkpoint", "package:lightning-fabric"))
def sct_finetuned(observed: Observed) -> Prediction | np.ndarray:
    """Do as `sct`, after the model was trained further on the visible entries (minutes)."""
    from scanpy_sct.train import finetune

    model = finetune(
        observed.checkpoint,
        observed.visible,
        library_key=observed.library_key,
        scale=observed.scale,
        hide=_hide(observed),
        rng=observed.seed,
    )
    return predict_with(observed, model)


@method("training_rates", needs="training_frequencies")
def training_rates(observed: Observed) -> np.ndarray:
    """Predict the gene's rate in the training data of the model, times the depth of the cell.

    A Poisson count: the rate is minus the logarithm of the fraction of training cells without the gene; the depth of a
    cell is its number of detected visible genes over the number expected by these rates. What a model must beat where
    whole genes are masked. Only for checkpoints that store these fractions.
    """
    detection = training_detection(observed.checkpoint)[observed.gene_index].astype(np.float64)
    rates = -np.log(np.clip(1 - detection, 1e-6, 1))
    expected = np.maximum((~observed.masked).astype(np.float32) @ detection, 1e-6)
    depth = (observed.log_values.getnnz(axis=1) + 1) / (expected + 1)
    return observed.at_targets(lambda rows: rates * depth[rows, None])


def training_detection(checkpoint: Checkpoint) -> np.ndarray | None:
    """Return the detection rate of each gene in the training data, (n_genes,); None where none are stored."""
    profile = getattr(checkpoint.network, "profile", None)
    return None if profile is None else 1 - profile.log_prior[:, 0].exp().cpu().numpy()


def predict_with(
    observed: Observed, model: Checkpoint, *, blend: bool = True, bags: str = "auto"
) -> Prediction | np.ndarray:
    """Predict by any checkpoint, with bags of any kind; see :func:`scanpy_sct.tl.impute`."""
    if not observed.masked.any():
        return _denoise(observed, model, blend=blend, bags=bags)
    detection, conditional_mean = (
        values[observed.targets] for values in _impute(observed, model, blend=blend, bags=bags)
    )
    count = detection * np.expm1(conditional_mean) / np.maximum(observed.by_cell(observed.unit), 1e-12)
    return Prediction(count, detection, detection * conditional_mean)


def _impute(observed: Observed, model: Checkpoint, *, blend: bool, bags: str) -> tuple[np.ndarray, np.ndarray]:
    """Run what `tl.impute(hide=...)` runs; detection probability and conditional mean, each (n_cells, n_genes)."""
    from scanpy_sct.impute import ImputeSettings, impute_cells

    options = ReadOptions(library_key=observed.library_key, hide=_hide(observed), scale=observed.scale)
    reader = CellReader(observed.visible, model.genes, model.tokens.scale, options)
    settings = ImputeSettings(genes=observed.gene_index, blend=blend, keep_parts=True)
    found = impute_cells(model, reader, ComputeOptions(bags=bags, seed=observed.seed), settings)
    return found.detection, found.conditional_mean


def _denoise(observed: Observed, model: Checkpoint, *, blend: bool, bags: str) -> np.ndarray:
    from scanpy_sct.tl import impute

    cells = observed.visible.copy()
    options = {"library_key": observed.library_key, "bags": bags, "blend": blend, "rng": observed.seed}
    impute(cells, model=model, scale=observed.scale, values="counts", denoise=True, **options)
    values = cells.layers["sct"]
    if sparse.issparse(values):  # few of the genes are known to the model
        values = values.toarray()
    return observed.at_targets(lambda rows: values[rows][:, observed.columns])


def _hide(observed: Observed) -> sparse.csr_matrix | None:
    """Masked entries in the columns of `observed.visible`; None where nothing that it holds is masked."""
    measured = observed.columns >= 0
    if not observed.masked[:, measured].any():
        return None
    hide = np.zeros(observed.visible.shape, dtype=bool)
    hide[:, observed.columns[measured]] = observed.masked[:, measured]
    return sparse.csr_matrix(hide)

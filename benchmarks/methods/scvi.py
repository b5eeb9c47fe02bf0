"""scVI: a variational autoencoder fitted to the data themselves; imputation and embedding."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from methods.rescale import visible_fraction
from scanpy_sct.evaluate import EmbeddingInput, Observed, method
from scanpy_sct.evaluate.embedding_methods import variable_genes
from scanpy_sct.evaluate.methods.rates import dataset_rates

_MIN_CELLS = 3
_BATCH_SIZE = 128
# Cells that pass through training in all: 50 epochs of 3,000 cells, within the bounds given.
_CELLS_TRAINED = 150_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 10, 100
# Environment variables that change when scvi-tools is given a seed.
_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "XLA_FLAGS")
# Loggers that report on hardware and seeds.
_LOGGERS = ("lightning.pytorch", "lightning.fabric")


@method("scvi", needs="package:scvi-tools", replace=True)
def scvi(observed: Observed, max_epochs: int | None = None) -> np.ndarray:
    """scVI, Lopez et al. 2018 (Nature Methods 15, 1053): expected counts at the depth of the cell.

    All genes that are detected in at least three cells are modelled, by negative binomial counts and with the sample as
    batch; the others get the rate of the data set (`poisson_dataset`). Masked entries are set to zero; rates are
    divided by the fraction of the cells in which the gene is visible.

    Parameters
    ----------
    max_epochs
        Passes through the data; None: 150,000 / number of cells, at least 10 and at most 100.
    """
    import scvi as package

    genes = np.flatnonzero(observed.counts.getnnz(axis=0) >= _MIN_CELLS)
    cells = np.flatnonzero(observed.counts[:, genes].getnnz(axis=1) > 0)
    rates = dataset_rates(observed).repeat(len(observed.depth), axis=0).astype(np.float32)
    if len(genes) and len(cells) >= _MIN_CELLS:
        if max_epochs is None:
            max_epochs = int(np.clip(round(_CELLS_TRAINED / len(cells)), _FEWEST_EPOCHS, _MOST_EPOCHS))
        counts = observed.counts[cells][:, genes]
        with _quiet(), own_generators(package, observed.seed):
            fractions = _fit(package, counts, observed.samples[cells], max_epochs)
        # Fraction of the modelled genes in the depth of each cell: 1 but for genes detected in one or two cells.
        modelled = np.asarray(counts.sum(axis=1)) / observed.depth[cells, None]
        rates[np.ix_(cells, genes)] = fractions * modelled / visible_fraction(observed)[genes]
    return observed.at_targets(lambda rows: rates[rows] * observed.depth[rows, None])


@method("scvi", task="embedding", needs=("counts", "package:scvi-tools"), replace=True)
def scvi_embedding(cells: EmbeddingInput) -> np.ndarray:
    """Mean of the 10 latent variables of scVI; all settings as scvi-tools has them.

    It models the same 2,000 genes as `pca`, and uses the batch of each cell where there are batches. A cell in which
    none of them is detected is described as scVI describes an empty cell.
    """
    import scvi as package

    genes = variable_genes(cells.matrix, "counts").var_names.astype(int)
    data = AnnData(cells.matrix[:, genes])
    data.obs["batch"] = pd.Categorical(np.zeros(data.n_obs, dtype=int) if cells.batches is None else cells.batches)
    # A batch of one cell, as the last one may be, cannot be normalised.
    batch_size = _BATCH_SIZE - (data.n_obs % _BATCH_SIZE == 1)
    with own_generators(package, cells.seed):
        package.model.SCVI.setup_anndata(data, batch_key="batch")
        fitted = package.model.SCVI(data)
        fitted.train(batch_size=batch_size, enable_progress_bar=False, logger=False)
        return fitted.get_latent_representation()


def _fit(package: ModuleType, counts: sparse.csr_matrix, samples: np.ndarray, max_epochs: int) -> np.ndarray:
    """Train a model, and return the fraction of each gene in each cell, (n_cells, n_genes)."""
    data = AnnData(counts.astype(np.float32))
    data.obs["sample"] = samples.astype(str)
    package.model.SCVI.setup_anndata(data, batch_key="sample")
    model = package.model.SCVI(data, gene_likelihood="nb")
    model.train(
        max_epochs=max_epochs,
        train_size=1.0,
        batch_size=_BATCH_SIZE,
        # What is left after the last full batch may be a single cell, on which batch normalisation fails.
        datasplitter_kwargs={"drop_last": data.n_obs > _BATCH_SIZE},
        enable_progress_bar=False,
        logger=False,
    )
    return model.get_normalized_expression(library_size=1, return_numpy=True)


@contextmanager
def own_generators(package: ModuleType, seed: int) -> Iterator[None]:
    """Seed the generators of Python, numpy and torch, from which scvi-tools draws, and put them back afterwards."""
    import torch

    environment = {name: os.environ.get(name) for name in _VARIABLES}
    seed_before, python, legacy = package.settings.seed, random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            package.settings.seed = seed
            yield
        finally:
            package.settings.seed = seed_before
            random.setstate(python)
            np.random.set_state(legacy)
            for name, value in environment.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Let warnings through, but no remarks."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

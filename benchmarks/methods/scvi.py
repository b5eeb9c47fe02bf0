"""scVI: a variational autoencoder fitted to the data themselves."""

from __future__ import annotations

import logging
import os
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from scanpy_sct.evaluate.methods.rates import dataset_rates, visible_share
from scanpy_sct.evaluate.registry import method

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from scipy import sparse

    from scanpy_sct.evaluate.observed import Observed

_MIN_CELLS = 3
_BATCH_SIZE = 128
# Cells that pass through training in all: 50 epochs of 3,000 cells, within the bounds given.
_CELLS_TRAINED = 150_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 10, 100
# Environment variables that change when scvi-tools is given a seed.
_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "XLA_FLAGS")
# Loggers that report on hardware and seeds.
_LOGGERS = ("lightning.pytorch", "lightning.fabric")


@method("scvi", needs=("package:scvi-tools",))
def scvi(observed: Observed, max_epochs: int | None = None) -> np.ndarray:
    """scVI, Lopez et al. 2018 (Nature Methods 15, 1053): expected counts at the depth of the cell.

    All genes that at least three cells express are modelled, by negative binomial counts and with the sample as
    batch; the others get the rate of the data set (`poisson_dataset`). Hidden entries go in as zeros; rates are
    divided by the share of the cells that show the gene.

    Parameters
    ----------
    max_epochs
        Passes through the data; None: 150,000 / number of cells, at least 10 and at most 100.
    """
    package = _import_scvi()
    genes = np.flatnonzero(observed.counts.getnnz(axis=0) >= _MIN_CELLS)
    cells = np.flatnonzero(observed.counts[:, genes].getnnz(axis=1) > 0)
    rates = dataset_rates(observed).repeat(len(observed.depth), axis=0).astype(np.float32)
    if len(genes) and len(cells) >= _MIN_CELLS:
        if max_epochs is None:
            max_epochs = int(np.clip(round(_CELLS_TRAINED / len(cells)), _FEWEST_EPOCHS, _MOST_EPOCHS))
        counts = observed.counts[cells][:, genes]
        with _quiet(), own_chance(package, observed.seed):
            shares = _fit(package, counts, observed.samples[cells], max_epochs)
        # Share of the modelled genes in the depth of each cell, 1 but for genes that only one or two cells express.
        modelled = np.asarray(counts.sum(axis=1)) / observed.depth[cells, None]
        rates[np.ix_(cells, genes)] = shares * modelled / visible_share(observed)[genes]
    return observed.at_wanted(lambda rows: rates[rows] * observed.depth[rows, None])


def _fit(package: ModuleType, counts: sparse.csr_matrix, samples: np.ndarray, max_epochs: int) -> np.ndarray:
    """Train a model, and read off the share of each gene in each cell, (n_cells, n_genes)."""
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
def own_chance(package: ModuleType, seed: int) -> Iterator[None]:
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


def _import_scvi() -> ModuleType:
    try:
        import scvi
    except ImportError as error:
        msg = 'scvi-tools is not installed: pip install "scanpy_sct[evaluate]"'
        raise ImportError(msg) from error
    return scvi

"""The model as a method: that it is asked the right thing, and sees nothing it must not see."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.evaluate.methods.sct import sct_network, training_rates
from scanpy_sct.evaluate.source import read_source
from scanpy_sct.evaluate.tasks import build_task
from scanpy_sct.impute.entries import predict_hidden
from scanpy_sct.read.expression import read_expression
from scanpy_sct.read.genes import to_ensembl


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    """Predicts by its direct paths: what is tested here does not depend on the path."""
    return replace(tiny_checkpoint, path="direct")


@pytest.fixture(scope="module")
def adata(pbmc):
    """60 cells with counts made up from the real values."""
    counts = sparse.csr_matrix(np.rint(np.expm1(pbmc.X[:60].toarray()) / 3).astype(np.float32))
    return ad.AnnData(counts, obs=pbmc.obs[:60], var=pbmc.var[[]])


def observed(adata, checkpoint, name):
    source = read_source(
        adata,
        checkpoint.genes,
        layer=None,
        library_key=None,
        labels_key=None,
        gene_names=None,
        checkpoint=checkpoint,
        seed=0,
    )
    return build_task(name, source).observed


def test_hidden_entries_are_predicted_as_tl_impute_would(adata, model):
    seen = observed(adata, model, "entries_15")
    guess = sct_network(seen)
    expression = read_expression(seen.seen, model.genes, token_scale="log1p_counts")
    hidden = np.zeros(expression.log_values.shape, dtype=bool)
    hidden[:, seen.positions] = seen.hidden
    expected = predict_hidden(model, expression, hidden, rng=seen.seed)
    np.testing.assert_allclose(guess.value, expected.value[:, np.isin(expected.positions, seen.positions)][seen.wanted])
    assert np.isfinite(guess.count).all()


@pytest.mark.parametrize("task", ["entries_15", "genes", "panel_100", "thinning"])
def test_every_task_is_answered(adata, model, task):
    table = sct.evaluate.imputation(
        adata, tasks=task, methods=["sct", "sct_network", "training_rates"], model=model, n_bootstrap=0
    )
    assert set(table["method"]) == {"sct", "sct_network", "training_rates"}
    assert np.isfinite(table["value"]).all()


def test_what_is_hidden_has_no_influence(adata, model):
    """The same task on data that differ in the hidden entries only."""
    first = observed(adata, model, "entries_15")
    place = {name: column for column, name in enumerate(model.genes)}
    columns = [place.get(name, -1) for name in to_ensembl(list(adata.var_names)).ensembl_ids]
    hidden_at = np.zeros((adata.n_obs, len(model.genes) + 1), dtype=bool)
    hidden_at[:, first.positions] = first.hidden
    dense = adata.X.toarray()
    dense[hidden_at[:, columns]] += 5
    other = observed(ad.AnnData(sparse.csr_matrix(dense), obs=adata.obs, var=adata.var), model, "entries_15")
    np.testing.assert_array_equal(first.hidden, other.hidden)
    assert (dense != adata.X.toarray()).any()
    np.testing.assert_array_equal(sct_network(first).value, sct_network(other).value)


def test_training_rates_are_those_of_the_checkpoint(adata, model):
    seen = observed(adata, model, "entries_15")
    zero = model.network.profile.log_prior[:, 0].exp().numpy()[seen.positions]
    guess = np.full(seen.hidden.shape, np.nan)
    guess[seen.wanted] = training_rates(seen)
    log, hidden = seen.log.toarray(), seen.hidden
    for cell, gene in list(zip(*np.nonzero(seen.wanted), strict=True))[::500]:
        depth = ((log[cell] > 0).sum() + 1) / ((1 - zero)[~hidden[cell]].sum() + 1)
        assert guess[cell, gene] == pytest.approx(-np.log(zero[gene]) * depth, rel=1e-4)

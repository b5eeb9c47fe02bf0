"""The model as a method: that it runs what users run, and sees nothing it must not see."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.evaluate.methods import sct as methods
from scanpy_sct.evaluate.methods.sct import sct_network, training_rates
from scanpy_sct.evaluate.source import read_source
from scanpy_sct.evaluate.tasks import build_task
from scanpy_sct.read.genes import to_ensembl


@pytest.fixture(scope="module")
def adata(pbmc):
    """40 cells with counts made up from the real values."""
    counts = sparse.csr_matrix(np.rint(np.expm1(pbmc.X[:40].toarray()) / 3).astype(np.float32))
    return ad.AnnData(counts, obs=pbmc.obs[:40], var=pbmc.var[[]])


def observed(adata, checkpoint, name):
    return build_task(name, read_source(adata, checkpoint.genes, checkpoint=checkpoint)).observed


@pytest.mark.parametrize(("method", "blend"), [(sct_network, False), (methods.sct, True)])
def test_masked_entries_are_predicted_as_tl_impute_does(adata, model, method, blend):
    """The value is that of the layer that `tl.impute(hide=...)` writes."""
    visible = observed(adata, model, "entries_15")
    found = method(visible)
    hide = np.zeros(visible.visible.shape, dtype=bool)
    hide[:, visible.columns] = visible.masked
    written = sct.tl.impute(visible.visible, model=model, hide=hide, blend=blend, rng=visible.seed, copy=True)
    expected = written.layers["sct"][:, visible.columns][visible.targets]
    np.testing.assert_allclose(found.value, expected, rtol=1e-5)
    assert np.isfinite(found.count).all()


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("entries_15", ["sct", "sct_network", "training_rates"]),
        ("genes", ["sct"]),
        ("panel_100", ["sct_network", "training_rates"]),
        ("thinning", ["sct"]),
    ],
)
def test_every_task_is_answered(adata, model, task, names):
    table = sct.evaluate.imputation(adata, tasks=task, methods=names, model=model, n_bootstrap=0)
    assert set(table["method"]) == set(names)
    assert np.isfinite(table["value"]).all()


def test_what_is_masked_has_no_influence(adata, model):
    """The same task on data that differ in the masked entries only."""
    first = observed(adata, model, "entries_15")
    place = {name: column for column, name in enumerate(model.genes)}
    columns = [place.get(name, -1) for name in to_ensembl(list(adata.var_names)).ensembl_ids]
    masked_at = np.zeros((adata.n_obs, len(model.genes) + 1), dtype=bool)
    masked_at[:, first.gene_index] = first.masked
    dense = adata.X.toarray()
    dense[masked_at[:, columns]] += 5
    other = observed(ad.AnnData(sparse.csr_matrix(dense), obs=adata.obs, var=adata.var), model, "entries_15")
    np.testing.assert_array_equal(first.masked, other.masked)
    assert (dense != adata.X.toarray()).any()
    np.testing.assert_array_equal(sct_network(first).value, sct_network(other).value)


def test_training_rates_are_those_of_the_checkpoint(adata, model):
    seen = observed(adata, model, "entries_15")
    zero = model.network.profile.log_prior[:, 0].exp().numpy()[seen.gene_index]
    guess = np.full(seen.masked.shape, np.nan)
    guess[seen.targets] = training_rates(seen)
    log, masked = seen.log_values.toarray(), seen.masked
    for cell, gene in list(zip(*np.nonzero(seen.targets), strict=True))[::500]:
        depth = ((log[cell] > 0).sum() + 1) / ((1 - zero)[~masked[cell]].sum() + 1)
        assert guess[cell, gene] == pytest.approx(-np.log(zero[gene]) * depth, rel=1e-4)

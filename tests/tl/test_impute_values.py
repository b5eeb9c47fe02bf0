"""Values that are written: on the log scale of the input, log-normalised, or counts."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.sparse_tools import log_normalise


@pytest.fixture(scope="module")
def objects(pbmc):
    """The same cells as counts, and log-normalised."""
    cells = pbmc[:60].copy()
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.expm1(cells.X.toarray() if sparse.issparse(cells.X) else cells.X))
    counts = sparse.csr_matrix(counts.astype(np.float32))
    as_counts = ad.AnnData(counts, obs=cells.obs[[]].copy(), var=cells.var[[]].copy())
    as_logs = as_counts.copy()
    as_logs.X = log_normalise(counts).astype(np.float32)
    return as_counts, as_logs


@pytest.fixture
def impute(compact_checkpoint):
    def run(adata, **options):
        return sct.tl.impute(adata, model=compact_checkpoint, bags="random", copy=True, **options)

    return run


@pytest.mark.parametrize("denoise", [False, True])
@pytest.mark.parametrize("values", ["lognorm", "counts"])
def test_the_same_from_counts_and_from_logs(objects, impute, values, denoise):
    found = [impute(each, values=values, denoise=denoise).layers["sct"] for each in objects]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-4)
    assert np.isfinite(found[0]).all()
    assert (found[0] >= 0).all()


def test_log_normalised_values_are_those_of_log_normalised_input(objects, impute):
    as_counts, as_logs = objects
    found = impute(as_counts, values="lognorm")
    np.testing.assert_allclose(found.layers["sct"], impute(as_logs).layers["sct"], rtol=1e-3, atol=1e-4)
    assert found.uns["sct"]["params"]["values"] == "lognorm"


def test_counts_follow_the_depth_of_the_cell(objects, impute):
    """With `denoise=True` they are the log-normalised values at the depth of the cell, else means of counts."""
    as_counts, _ = objects
    depth = np.asarray(as_counts.X.sum(axis=1)) / 1e4
    for denoise in (True, False):
        counts, logs = (impute(as_counts, values=each, denoise=denoise) for each in ("counts", "lognorm"))
        imputed = counts.var["sct_imputed"].to_numpy()
        found, expected = counts.layers["sct"][:, imputed], np.expm1(logs.layers["sct"][:, imputed]) * depth
        if denoise:
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
        else:
            assert (found >= expected * 0.999 - 1e-5).all()
            assert (found > 1.01 * expected).any()


def test_other_genes_keep_their_counts(objects, impute):
    as_counts, as_logs = objects
    genes = as_counts.var_names[:5].tolist()
    for each in objects:
        layer = impute(each, genes=genes, values="counts").layers["sct"]
        np.testing.assert_allclose(layer[:, 5:].toarray(), as_counts.X[:, 5:].toarray(), rtol=1e-3, atol=1e-4)
    layer = impute(as_counts, genes=genes, values="lognorm").layers["sct"]
    np.testing.assert_allclose(layer[:, 5:].toarray(), as_logs.X[:, 5:].toarray(), rtol=1e-4, atol=1e-5)


def test_plots_show_measured_values_on_the_same_scale(objects, impute):
    from scanpy_sct.pl._common import read_observed

    as_counts, as_logs = objects
    for values, expected in (("counts", as_counts.X), ("lognorm", as_logs.X)):
        found = read_observed(impute(as_logs, values=values), "sct", np.array([3, 7]))
        np.testing.assert_allclose(found, expected[:, [3, 7]].toarray(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("values", ["lognorm", "counts"])
@pytest.mark.parametrize("input_is", ["counts", "logs"])
def test_plots_of_genes_do_not_depend_on_antibodies_beside_them(objects, impute, values, input_is):
    from scanpy_sct.pl._common import count_detected, read_observed

    genes = objects[["counts", "logs"].index(input_is)]
    antibodies = ad.AnnData(sparse.csr_matrix(np.full((genes.n_obs, 5), 7.5, dtype=np.float32)))
    antibodies.obs_names = genes.obs_names
    antibodies.var_names = [f"ADT_{number}" for number in range(5)]
    both = impute(ad.concat([genes, antibodies], axis=1), values=values)
    alone, columns = impute(genes, values=values), np.array([3, 7])
    np.testing.assert_array_equal(read_observed(both, "sct", columns), read_observed(alone, "sct", columns))
    np.testing.assert_array_equal(count_detected(both, "sct")[:-5], count_detected(alone, "sct"))


def test_plots_use_the_names_that_told_genes_from_antibodies(objects, impute):
    from scanpy_sct.pl._common import read_observed

    adata = objects[0].copy()
    adata.var["symbol"] = [*adata.var_names[:-5], *(f"ADT_{number}" for number in range(5))]
    found = impute(adata, values="lognorm", gene_names="symbol")
    expected = log_normalise(adata.X[:, :-5].tocsr())[:, [3, 7]].toarray()
    np.testing.assert_allclose(read_observed(found, "sct", np.array([3, 7])), expected, rtol=1e-4)
    del found.var["symbol"]
    assert np.isfinite(read_observed(found, "sct", np.array([3, 7]))).all()


def test_errors(objects, impute):
    as_counts, _ = objects
    with pytest.raises(ValueError, match="values='tpm' must be one of 'auto', 'lognorm', 'counts'"):
        impute(as_counts, values="tpm")
    no_counts = as_counts.copy()
    no_counts.X = sparse.csr_matrix(np.sqrt(np.random.default_rng(0).gamma(1, 1, size=as_counts.shape)))
    with pytest.raises(ValueError, match=r"values='counts' needs counts.*use values='lognorm'"):
        impute(no_counts, values="counts", scale="log1p")

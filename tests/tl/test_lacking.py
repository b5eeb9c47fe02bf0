"""Objects joined from samples with different genes: what a sample lacks is not measured in it, in all functions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.read.genes import to_ensembl

OPTIONS = {"library_key": "origin", "bags": "random"}


@pytest.fixture(scope="module")
def joined(pbmc, compact_checkpoint):
    """The complete cells, and the same with 60 genes that sample "b" lacks; and where."""
    complete = pbmc[:300].copy()
    complete.X = sparse.csr_matrix(complete.X)
    is_b = np.arange(complete.n_obs) % 2 == 1
    complete.obs["origin"] = np.where(is_b, "b", "a")
    known = np.isin(to_ensembl(list(complete.var_names)).ensembl_ids, compact_checkpoint.genes)
    often = np.argsort(-complete.X.getnnz(axis=0) * known, kind="stable")
    lacking = np.zeros(complete.n_vars, dtype=bool)
    lacking[often[5:65]] = True
    mask = np.outer(is_b, lacking)
    joined = complete.copy()
    joined.X = sparse.csr_matrix(np.where(mask, 0, complete.X.toarray()))
    return complete, joined, mask


def test_check_lists_them(joined, compact_checkpoint):
    report = sct.pp.check(joined[1], model=compact_checkpoint, library_key="origin")
    assert report.genes_lacking == {"b": 60}
    assert "genes a sample lacks" in str(report)
    assert sct.pp.check(joined[0], model=compact_checkpoint, library_key="origin").genes_lacking == {}


def test_impute_hides_them(joined, compact_checkpoint):
    complete, without, mask = (each.copy() for each in joined)
    sct.tl.impute(without, model=compact_checkpoint, **OPTIONS)
    sct.tl.impute(complete, model=compact_checkpoint, hide=mask, **OPTIONS)
    imputed = complete.var["sct_imputed"].to_numpy()
    np.testing.assert_allclose(without.layers["sct"][:, imputed], complete.layers["sct"][:, imputed], atol=1e-5)
    np.testing.assert_allclose(without.var["sct_recovery"], complete.var["sct_recovery"], atol=1e-5)
    assert without.uns["sct"]["passes"] == 6


def test_embed_masks_them(joined, compact_checkpoint):
    _, without, mask = joined
    both = sct.tl.embed(without, model=compact_checkpoint, library_key="origin", copy=True)
    is_b = mask.any(axis=1)
    # Alone and without the genes, sample "b" cannot know of them.
    alone = sct.tl.embed(without[is_b][:, ~mask.any(axis=0)].copy(), model=compact_checkpoint, copy=True)
    np.testing.assert_allclose(both.obsm["X_sct"][is_b], alone.obsm["X_sct"], atol=1e-4)


def test_annotate_leaves_them_out(joined, compact_checkpoint):
    complete, without, mask = joined
    reference = complete[::3].copy()
    options = {"reference": reference, "labels_key": "bulk_labels", "model": compact_checkpoint, "copy": True}
    found = sct.tl.annotate(without, **options, **OPTIONS)
    fewer = sct.tl.annotate(complete[:, ~mask.any(axis=0)].copy(), **options, **OPTIONS)
    np.testing.assert_allclose(found.obs["sct_label_score"], fewer.obs["sct_label_score"], atol=1e-3)
    assert found.uns["sct_label"]["reference"]["shared_genes"] == fewer.uns["sct_label"]["reference"]["shared_genes"]


def test_reference_with_them_leaves_them_out(joined, compact_checkpoint):
    complete, reference, _ = joined
    found = sct.tl.annotate(
        complete, reference=reference, labels_key="bulk_labels", model=compact_checkpoint, copy=True, bags="random"
    )
    n_known = sct.pp.check(complete, model=compact_checkpoint).genes_matched
    assert found.uns["sct_label"]["reference"]["shared_genes"] == n_known - 60


def test_markers_use_the_imputed_value_where_a_sample_lacks_them(joined, compact_checkpoint):
    _, without, mask = joined
    gene = without.var_names[mask.any(axis=0)][0]
    other = without.var_names[~mask.any(axis=0)][:6].tolist()
    markers = {"one": [gene, other[0]], "two": other[1:4]}
    options = {"markers": markers, "model": compact_checkpoint, "copy": True}
    score = sct.tl.annotate(without, **options, **OPTIONS).obsm["sct_label_probs"]["one"].to_numpy()
    as_zero = sct.tl.annotate(without, **options, bags="random").obsm["sct_label_probs"]["one"].to_numpy()
    is_b = mask.any(axis=1)
    assert score[is_b].mean() > as_zero[is_b].mean()


def test_evaluation_has_no_truth_where_a_sample_lacks_a_gene(joined, compact_checkpoint):
    from scanpy_sct.evaluate.source import read_source
    from scanpy_sct.evaluate.tasks import build_task
    from scanpy_sct.read.options import ReadOptions

    _, without, _ = joined
    source = read_source(without, compact_checkpoint.genes, ReadOptions(library_key="origin"))
    task = build_task("entries_15", source)
    hidden = source.cells.hidden[:, task.observed.gene_index].toarray()
    assert hidden.any()
    assert not (task.observed.targets & hidden).any()

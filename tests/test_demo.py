from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from sklearn.metrics import average_precision_score

import scanpy_sct as sct
from scanpy_sct import demo
from scanpy_sct.impute.recovery import TRUSTED


def test_results_and_figures_are_written(tmp_path, tiny_checkpoint, pbmc, monkeypatch):
    small = pbmc[::2, pbmc.var_names != "CD79B"].copy()
    monkeypatch.setattr(sct.datasets, "pbmc68k", lambda: small)
    monkeypatch.setattr(
        demo, "UNMEASURED", {"CD79B": "B cells", "CD14": "monocytes"}
    )  # of these the tiny network knows CD79B
    lines, figures = [], []
    monkeypatch.setattr("matplotlib.pyplot.close", figures.append)
    demo.run_demo(tmp_path / "a" / "demo", quick=True, model=tiny_checkpoint, echo=lines.append)

    names = ["demo.h5ad", "imputed.png", "labels.png", "recovery.png"]
    assert sorted(path.name for path in (tmp_path / "a" / "demo").iterdir()) == names
    assert all((tmp_path / "a" / "demo" / name).stat().st_size > 5000 for name in names)
    text = "\n".join(lines)
    for words in (
        "genes used",
        "imputed values",
        "detection rate of the gene",
        "accuracy",
        "the largest class",
        "CD79B",
    ):
        assert words in text
    adata = ad.read_h5ad(tmp_path / "a" / "demo" / "demo.h5ad")
    assert adata.n_obs == len(range(0, small.n_obs, demo.QUICK_STEP))
    assert list(adata.obsm["sct_unmeasured"]) == ["CD79B"]
    assert adata.obsm["X_sct"].shape[0] == adata.n_obs
    assert "sct" in adata.layers
    second = demo.is_second_half(adata.obs["bulk_labels"])
    np.testing.assert_array_equal(adata.obs["sct_label"].notna(), second)
    check_pictures(*figures, adata)


def check_pictures(genes, recovery, labels, adata):
    """Pictures say without the text of the demonstration what they show."""
    texts = [{text.get_text() for text in figure.findobj(Text)} for figure in (genes, recovery, labels)]
    assert any("correlation of imputed with measured values" in text for text in texts[0])
    observed, imputed = genes.axes[:2]
    value = adata.var.loc["MS4A1", "sct_recovery"]
    assert (observed.get_title(), imputed.get_title()) == (
        "MS4A1, observed\n(marks B cells)",
        f"MS4A1, imputed\n(recovery {value:.2f})",
    )
    assert observed.collections[0].get_clim() == imputed.collections[0].get_clim()
    assert "expression, log scale" in texts[0]
    known = adata.var["sct_recovery"].dropna()
    assert any(f"{(known >= TRUSTED).sum()} of {len(known)} genes can be trusted" in text for text in texts[1])
    assert "MS4A1" in texts[1]
    found = adata.obs.dropna(subset="sct_label")
    accuracy = np.mean(found["sct_label"].astype(str) == found["bulk_labels"].astype(str))
    assert any(f"accuracy {accuracy:.2f}" in text for text in texts[2])
    assert {"published labels", "labels by sct.tl.annotate", "probability of the label", "unknown"} <= texts[2]


def test_a_section_is_imputed_and_plotted(tmp_path, tiny_checkpoint, pbmc, monkeypatch):
    cells = pbmc[:60].copy()
    section = ad.AnnData(cells.X, obs=cells.obs, var=cells.var)
    section.obsm["spatial"] = np.stack(np.divmod(np.arange(60), 10), axis=1).astype(float)
    monkeypatch.setattr(sct.datasets, "pbmc68k", lambda: pbmc[::2].copy())
    monkeypatch.setattr(sct.datasets, "her2st", {demo.SECTION: section}.__getitem__)
    monkeypatch.setattr(demo, "UNMEASURED", {"CD14": "monocytes"})
    monkeypatch.setattr(demo, "PLOTTED_ON_TISSUE", {"CD79B": "B cells", "ERBB2": "tumour"})
    lines = []
    demo.run_demo(tmp_path, quick=True, section=True, echo=lines.append, model=tiny_checkpoint)
    assert any("60 spots" in line for line in lines)
    assert (tmp_path / "section.png").stat().st_size > 5000
    imputed = ad.read_h5ad(tmp_path / "section.h5ad")
    assert imputed.shape == section.shape
    assert imputed.uns["sct"]["bags"] == "spatial"
    assert imputed.uns["sct"]["model"]["name"] == "tiny"


def test_halves_are_even_in_every_label():
    labels = pd.Series(pd.Categorical(list("aabbbabac")))
    second = demo.is_second_half(labels)
    counts = pd.crosstab(labels, second)
    assert counts.loc["a"].tolist() == [2, 2]
    assert counts.loc["b"].tolist() == [2, 2]
    assert counts.loc["c"].tolist() == [1, 0]


@pytest.mark.parametrize("good", [True, False])
def test_detection_scores_compare_with_the_detection_rate(pbmc, good):
    adata = pbmc[:50, :20].copy()
    detected = adata.X.toarray() > 0
    adata.layers["sct"] = detected.astype("float32") if good else np.zeros(adata.shape, "float32")
    adata.var["sct_imputed"] = np.arange(20) < 15
    result = demo.detection_scores(adata)
    first, second, third = result.values()
    part = detected[:, :15]
    assert third == part.mean()
    assert first == pytest.approx(1.0 if good else third)
    rate = np.repeat(part.mean(0)[None], 50, axis=0)
    assert second == pytest.approx(average_precision_score(part.ravel(), rate.ravel()))


def test_it_prints_to_the_terminal_by_default(monkeypatch, tmp_path, capsys):
    def stop(*args, **arguments):
        msg = "far enough"
        raise ValueError(msg)

    monkeypatch.setattr(sct.pp, "check", stop)
    with pytest.raises(ValueError, match="far enough"):
        demo.run_demo(tmp_path, model=object.__new__(sct.load_model.__globals__["Checkpoint"]))
    assert "blood cells" in capsys.readouterr().out

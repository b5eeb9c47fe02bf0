from __future__ import annotations

import numpy as np
import pytest

import scanpy_sct as sct


@pytest.fixture
def cells(pbmc):
    return pbmc[:50].copy()


def test_the_report_describes_the_data(cells, tiny_checkpoint):
    report = sct.pp.check(cells, model=tiny_checkpoint)
    assert (report.model, report.scale, report.id_type) == ("tiny", "log", "symbol")
    assert (report.n_cells, report.n_empty_cells, report.samples) == (50, 0, {"all": 50})
    assert (report.bag_policy, report.n_bags, report.bag_size, report.n_passes) == ("similar", 3, 20, 4)
    assert report.genes_matched == 509
    assert report.genes_not_measured == 0
    columns = report.genes_matched + sum(
        map(len, (report.genes_unmatched, report.genes_ambiguous, report.genes_duplicate, report.not_genes))
    )
    assert columns == cells.n_vars


def test_nothing_is_changed(cells, tiny_checkpoint):
    before = cells.copy()
    sct.pp.check(cells, model=tiny_checkpoint)
    assert (cells.X != before.X).nnz == 0
    assert cells.obs.equals(before.obs)
    assert cells.var.equals(before.var)
    for part in ("obsm", "varm", "layers", "uns", "obsp"):
        assert set(getattr(cells, part)) == set(getattr(before, part))


def test_samples_empty_cells_and_unmeasured_genes_are_counted(cells, tiny_checkpoint):
    cells = cells[:, 100:].copy()
    cells.X = cells.X.toarray()
    cells.X[:3] = 0
    cells.obs["sample"] = ["a"] * 5 + ["b"] * 45
    cells.obsm["spatial"] = np.random.default_rng(0).random((50, 2))
    report = sct.pp.check(cells, model=tiny_checkpoint, library_key="sample")
    assert report.samples == {"a": 5, "b": 45}
    assert report.n_empty_cells == 3
    assert report.n_bags == 1 + 3
    assert report.bag_policy == "spatial"
    assert report.genes_not_measured == 509 - report.genes_matched > 0
    assert "1 of them smaller than a bag" in str(report)
    assert "3 of them empty" in str(report)


def test_columns_that_are_not_used_are_named(cells, tiny_checkpoint):
    names = cells.var_names.to_numpy().copy()
    names[:3] = [f"{names[5]}-1", "Blank-1", names[6]]
    cells.var_names = names
    text = str(sct.pp.check(cells, model=tiny_checkpoint))
    assert f"duplicate genes     2 ({names[5]}-1 (kept {names[5]}), {names[6]} (kept column 2))" in text
    assert "not genes           1 (Blank-1)" in text


def test_the_number_of_bags_and_passes_is_what_impute_uses(cells, tiny_checkpoint, monkeypatch):
    from scanpy_sct.run.runner import Runner

    runs = []
    original = Runner._predict
    monkeypatch.setattr(Runner, "_predict", lambda self, *batch: runs.append(batch) or original(self, *batch))
    report = sct.pp.check(cells, model=tiny_checkpoint, device="cpu")
    n_to_measure = len(runs)
    assert n_to_measure == 2  # the first run gets the network ready
    sct.tl.impute(cells, model=tiny_checkpoint, device="cpu", calibrate=False)  # without the bags of the calibration
    assert len(runs) == n_to_measure + report.n_bags * report.n_passes


def test_the_expected_time_counts_passes_calibration_and_blend(cells, tiny_checkpoint, monkeypatch):
    from scanpy_sct.impute import timing

    monkeypatch.setattr(timing, "seconds_for_a_bag", lambda *args: 1.0)
    report = sct.pp.check(cells, model=tiny_checkpoint)
    network, cell_weight = 1.0 * 3 * 4, 1.0 * 3 * 5
    rest = 4 * (timing.SECONDS_PER_PASS + 50 * 509 * timing.SECONDS_PER_FITTED_ENTRY)
    rest += 50 * 509 * (timing.SECONDS_PER_BLENDED_ENTRY + timing.SECONDS_PER_ENTRY)
    assert report.seconds == pytest.approx(network + cell_weight + rest)
    assert "roughly 20-45 s to impute" in str(report)


def test_sections_read_as_one_sample_are_reported(cells, tiny_checkpoint):
    cells.obs["section"] = ["a"] * 5 + ["b"] * 45
    report = sct.pp.check(cells, model=tiny_checkpoint)
    assert "library_key='section'" in report.samples_note
    assert report.samples_note in str(report)
    assert sct.pp.check(cells, model=tiny_checkpoint, library_key="section").samples_note == ""
    del cells.obs["section"]
    cells.obsm["spatial"] = np.zeros((50, 2))
    assert "50 cells lie exactly where another does" in str(sct.pp.check(cells, model=tiny_checkpoint))


@pytest.mark.parametrize("change", [np.sqrt, np.log1p, lambda values: values * np.linspace(0.5, 1.5, 50)[:, None]])
def test_values_that_are_not_from_counts_are_reported(cells, tiny_checkpoint, change):
    assert sct.pp.check(cells, model=tiny_checkpoint).has_counts
    cells.X = change(cells.X.toarray())
    report = sct.pp.check(cells, model=tiny_checkpoint)
    assert (report.scale, report.has_counts) == ("log", False)
    assert "no counts can be recovered" in str(report)


def test_it_prints_aligned_and_as_a_table(cells, tiny_checkpoint):
    cells.var_names = [*cells.var_names[:-1], "<no gene>"]
    report = sct.pp.check(cells, model=tiny_checkpoint)
    lines = str(report).splitlines()
    starts = {line.index(value) for line, (_, value) in zip(lines, report.rows(), strict=True)}
    assert len(starts) == 1
    assert repr(report) == str(report)
    html = report._repr_html_()
    assert html.count("<tr>") == len(lines)
    assert "<no gene>" not in html
    with pytest.raises(AttributeError):
        report.model = "other"


def test_device_and_precision_are_reported(cells, tiny_checkpoint):
    report = sct.pp.check(cells, model=tiny_checkpoint, device="cpu", precision="bfloat16")
    assert (report.device, report.precision) == ("cpu", "bfloat16")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"bags": "spatial"}, ValueError, "spatial"),
        ({"bags": "none"}, ValueError, "bags="),
        ({"layer": "none"}, KeyError, "layer"),
        ({"library_key": "none"}, KeyError, "library_key"),
        ({"gene_names": "none"}, KeyError, "gene_names"),
        ({"precision": "none"}, ValueError, "precision"),
    ],
)
def test_errors_are_those_of_impute(cells, tiny_checkpoint, arguments, error, text):
    with pytest.raises(error, match=text):
        sct.pp.check(cells, model=tiny_checkpoint, **arguments)

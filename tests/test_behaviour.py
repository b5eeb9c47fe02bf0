"""Every row of the behaviour table is run: `tests/behaviour` holds the rows, `docs/edge_cases.md` shows them."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict
from pathlib import Path

import anndata as ad
import pytest
from typer.testing import CliRunner

import scanpy_sct as sct
from behaviour.compare import assert_same, results, snapshot, snapshot_of_folder
from behaviour.page import make_page
from behaviour.plain import Scene, plain_objects, run
from behaviour.row import Refused, Row, Warns
from behaviour.rows import GROUPS
from scanpy_sct.checkpoints import save_checkpoint
from scanpy_sct.cli.app import app
from scanpy_sct.model import CompactNetwork
from scanpy_sct.read import findings, symbols
from versions import NAMES_OF_ANNDATA_12

PAGE = Path(__file__).resolve().parents[1] / "docs" / "edge_cases.md"
ROWS = [row for group in GROUPS for row in group.rows]
BY_VERSION = dict.fromkeys(("slash_in_column", "case_of_columns"), NAMES_OF_ANNDATA_12)
"""Marks of rows that hold for some versions of a package only."""
COMPUTING = ("bin_logits", "expectations", "cell_embedding")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)
    findings._warn_once.cache_clear()


@pytest.fixture(autouse=True, scope="module")
def names_are_looked_up_once():
    """Most rows have the same names of genes, and their search takes longer than all else."""
    found = {}

    def find(names, preferred, **how):
        key = (tuple(names), tuple(names.index), preferred.tobytes(), *how.items())
        if key not in found:
            found[key] = symbols.find_genes(names, preferred, **how)
        return found[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scanpy_sct.read.genes.find_genes", find)
        yield


@pytest.fixture(scope="module")
def objects(pbmc, compact_checkpoint):
    return plain_objects(pbmc, compact_checkpoint.genes)


@pytest.fixture(scope="module")
def model_folder(compact_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(folder, compact_checkpoint)
    return folder


@pytest.fixture
def new_scene(objects, compact_checkpoint, model_folder, tmp_path, monkeypatch):
    def made(change=None):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        cells, reference = (each.copy() for each in objects)
        scene = Scene(cells, reference, compact_checkpoint, model_folder, folder, monkeypatch)
        if change is not None:
            change(scene)
        return scene

    return made


@pytest.fixture(scope="module")
def baselines():
    """What the functions write to plain scenes, which need not be computed for each row."""
    return {}


@pytest.fixture
def no_computing(monkeypatch):
    """Let networks fail the test."""

    def stopped():
        for name in COMPUTING:
            monkeypatch.setattr(CompactNetwork, name, lambda *_, **__: pytest.fail("computed before the error"))

    return stopped


def test_there_are_enough_rows_and_each_has_a_name_of_its_own():
    assert len(ROWS) >= 90
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert len({(row.group, row.case) for row in ROWS}) == len(ROWS)


def test_the_page_shows_the_rows():
    assert PAGE.read_text(encoding="utf-8") == make_page(GROUPS), "run: python scripts/write_edge_cases.py"


@pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning")  # a view that is written to
@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name, marks=BY_VERSION.get(row.change.__name__, ())) for row in ROWS]
)
def test_row(row: Row, new_scene, no_computing, baselines, caplog):
    caplog.set_level(logging.WARNING, "scanpy_sct")
    if isinstance(row.expected, Refused):
        check_refused(row, new_scene(row.change), no_computing)
        return
    for function in row.functions:
        caplog.clear()
        findings._warn_once.cache_clear()
        if isinstance(row.expected, Warns):
            check_warns(row.expected, function, new_scene(row.change), caplog)
        else:
            check_same(row, function, new_scene, baselines, caplog)


def check_refused(row: Row, scene: Scene, no_computing) -> None:
    before = snapshot((scene.adata, scene.reference)), snapshot_of_folder(scene.folder)
    no_computing()
    for function in row.functions:
        check_error(row.expected, function, scene)
    assert snapshot((scene.adata, scene.reference)) == before[0]
    assert snapshot_of_folder(scene.folder) == before[1]


def check_error(expected: Refused, function: str, scene: Scene) -> None:
    if function == "command":
        message = failed_command(expected, scene)
    else:
        with pytest.raises(expected.error) as caught:
            run(function, scene)
        assert type(caught.value) is expected.error
        message = " ".join([*map(str, caught.value.args), *getattr(caught.value, "__notes__", ())])
    for pattern in (expected.argument, expected.finding, expected.remedy):
        assert re.search(pattern, message), f"{function}: {pattern!r} is not in: {message}"


def failed_command(expected: Refused, scene: Scene) -> str:
    result = CliRunner().invoke(app, list(scene.command))
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    assert type(result.exception.__context__.__cause__) is expected.error
    return " ".join(result.output.split())


def check_warns(expected: Warns, function: str, scene: Scene, caplog) -> None:
    found = done(function, scene)
    said = str(found) if function == "check" and expected.in_report else caplog.text
    for pattern in expected.texts:
        assert re.search(pattern, said), f"{pattern!r} is not in: {said}"


def check_same(row: Row, function: str, new_scene, baselines, caplog) -> None:
    scene = new_scene(row.change)
    found = numbers(done(function, scene))
    assert caplog.text == ""
    function = scene.command[0] if function == "command" else function
    known = baselines.get((function, row.expected.than))
    if known is None:
        known = numbers(done(function, new_scene(row.expected.than)))
        baselines[function, row.expected.than] = known
    if function == "check":
        assert found == known
    else:
        assert_same(found, known, row.expected.tolerance)


def numbers(found):
    """Return the fields of a report, or all that is written to an object."""
    if isinstance(found, sct.pp.Report):
        return {name: value for name, value in asdict(found).items() if name != "seconds"}
    return results(found)


def done(function: str, scene: Scene):
    """Run a function, and return the object with the result, or the report."""
    if function == "command":
        result = CliRunner().invoke(app, list(scene.command))
        assert result.exit_code == 0, result.output
        (output,) = scene.folder.glob("out.*")
        return ad.read_h5ad(output) if output.suffix == ".h5ad" else ad.read_zarr(output)
    returned = run(function, scene)
    return scene.adata if returned is None else returned


@pytest.mark.parametrize(
    "change",
    [
        lambda adata: adata.X.data.__setitem__(0, adata.X.data[0] + 1e-6),
        lambda adata: setattr(adata, "X", adata.X.astype("float64")),
        lambda adata: setattr(adata, "X", adata.X.tocsc()),
        lambda adata: adata.obs.insert(0, "more", 1),
        lambda adata: setattr(adata, "obs", adata.obs.astype({"bulk_labels": str})),
        lambda adata: adata.uns.__setitem__("sct", {}),
        lambda adata: setattr(adata.obs.index, "name", "cell"),
    ],
)
def test_no_change_of_an_object_goes_unnoticed(objects, change):
    adata = objects[0].copy()
    before = snapshot(adata)
    assert snapshot(objects[0].copy()) == before
    change(adata)
    assert snapshot(adata) != before

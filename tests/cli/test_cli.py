from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import anndata as ad
import numpy as np
import pytest
from typer.testing import CliRunner

import scanpy_sct as sct
from scanpy_sct.cli import summary
from scanpy_sct.cli.app import app
from scanpy_sct.cli.wording import with_files, with_flags
from scanpy_sct.run.options import BagPolicy, Precision
from versions import NAMES_OF_ANNDATA_12

runner = CliRunner()


@pytest.fixture
def cells(tmp_path):
    path = tmp_path / "cells.h5ad"
    ad.AnnData(np.ones((3, 2), dtype=np.float32)).write_h5ad(path)
    return path


@pytest.fixture
def calls(monkeypatch):
    """Replace the functions by ones that only note how they were called and leave a mark."""
    found = {}

    def function(name):
        def call(adata, *args, out=None, **arguments):
            found[name] = (args, arguments)
            adata.uns["mark"] = name
            if out is not None:
                adata.write_zarr(out)
            return f"report on {adata.n_obs} cells"

        return call

    monkeypatch.setattr(sct, "pp", SimpleNamespace(check=function("check")))
    names = ("impute", "embed", "annotate")
    monkeypatch.setattr(sct, "tl", SimpleNamespace(**{name: function(name) for name in names}))
    monkeypatch.setattr(summary, "summarise", lambda adata, *_: {"cells": adata.n_obs, "dimensions": 0})
    monkeypatch.setattr(summary, "_sentence", lambda *_: "It is good.")
    return found


@pytest.fixture(scope="module")
def blood(tmp_path_factory, pbmc):
    path = tmp_path_factory.mktemp("blood") / "cells.h5ad"
    pbmc[:80].copy().write_h5ad(path)
    return path


def run(*arguments: object) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def fail(*arguments: object) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1, result.output
    assert result.output, result.exception
    assert "Traceback" not in result.output
    return result.output


def test_check_prints_the_report_and_writes_nothing(cells, calls):
    before = cells.read_bytes()
    assert "report on 3 cells" in run("check", cells, "--library-key", "sample")
    assert calls["check"][1]["library_key"] == "sample"
    assert cells.read_bytes() == before
    assert "cannot be written" not in run("check", cells)


@pytest.mark.parametrize("function", ["impute", "embed", "annotate"])
@pytest.mark.parametrize("extension", ["h5ad", "zarr"])
def test_a_function_writes_its_result_beside_the_input(cells, calls, tmp_path, function, extension):
    output = tmp_path / f"result.{extension}"
    run(function, cells, "--output", output, *(["--label-head"] if function == "annotate" else []))
    assert getattr(ad, f"read_{extension}")(output).uns["mark"] == function
    assert "mark" not in ad.read_h5ad(cells).uns


def test_options_reach_the_function(cells, calls, tmp_path):
    options = ["--genes", "ERBB2, KRT5", "--batch-size", "4", "--no-calibrate", "--store-bins", "--rng", "7"]
    options += ["--no-blend", "--denoise", "--hide", "mask"]
    run("impute", cells, "-o", tmp_path / "a.h5ad", *options)
    args, arguments = calls["impute"]
    assert args == (["ERBB2", "KRT5"],)
    expected = {"batch_size": 4, "calibrate": False, "store_bins": True, "rng": 7}
    expected |= {"blend": False, "denoise": True, "hide": "mask"}
    assert expected.items() <= arguments.items()
    markers = tmp_path / "markers.json"
    markers.write_text('{"T": ["CD3E"]}', encoding="utf-8")
    run("annotate", cells, "-o", tmp_path / "b.h5ad", "--markers", markers, "--threshold", "0.9")
    arguments = calls["annotate"][1]
    assert arguments["markers"] == {"T": ["CD3E"]}
    assert arguments["threshold"] == 0.9
    options = ["--reference", cells, "--labels-key", "sample", "--reference-gene-names", "symbol"]
    run("annotate", cells, "-o", tmp_path / "c.h5ad", *options)
    arguments = calls["annotate"][1]
    assert arguments["reference_gene_names"] == "symbol"
    assert arguments["reference"].n_obs == 3
    assert arguments["labels_key"] == "sample"


def test_a_label_head_is_used_only_when_it_is_asked_for(cells, calls, tmp_path):
    command = ["annotate", cells, "-o", tmp_path / "a.h5ad"]
    message = fail(*command)
    for name in ("none: give --reference", "--labels-key", "--markers", "--label-head"):
        assert f"{name} " in message
    assert "--reference and --label-head" in fail(*command, "--label-head", "--reference", cells)
    assert "annotate" not in calls
    run(*command, "--label-head")
    assert calls["annotate"][1]["reference"] is None
    assert calls["annotate"][1]["markers"] is None


@pytest.mark.parametrize("function", ["check", "impute", "embed", "annotate"])
def test_the_scale_reaches_the_function(cells, calls, tmp_path, function):
    output = [] if function == "check" else ["-o", tmp_path / "a.h5ad"]
    more = {"annotate": ["--label-head"], "impute": []}.get(function)
    more = [] if more is None else ["--reference-scale", "log1p", *more]
    run(function, cells, *output, "--scale", "counts", *more)
    assert calls[function][1]["scale"] == "counts"
    assert calls[function][1].get("reference_scale", "log1p") == "log1p"
    assert runner.invoke(app, [function, str(cells), *map(str, output), "--scale", "raw"]).exit_code == 2


@pytest.mark.parametrize("function", ["check", "impute", "embed", "annotate"])
def test_the_functions_know_what_the_command_passes(cells, tmp_path, calls, monkeypatch, function):
    more = ["--label-head"] if function == "annotate" else []
    run(function, cells, *more, *([] if function == "check" else ["-o", tmp_path / "result.h5ad"]))
    monkeypatch.undo()
    signature = inspect.signature(getattr(sct.pp if function == "check" else sct.tl, function))
    args, arguments = calls[function]
    signature.bind(None, *args, **arguments)
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}
    assert {name: defaults[name] for name in arguments} == arguments


def test_the_input_is_replaced_with_overwrite_only(cells, calls):
    assert "--overwrite" in fail("embed", cells, "-o", cells)
    assert "embed" not in calls
    run("embed", cells, "-o", cells, "--overwrite")
    assert ad.read_h5ad(cells).uns["mark"] == "embed"


def test_a_store_takes_the_place_of_an_earlier_one(cells, calls, tmp_path):
    output = tmp_path / "result.zarr"
    run("embed", cells, "-o", output)
    run("impute", output, "-o", output, "--overwrite")
    assert ad.read_zarr(output).uns["mark"] == "impute"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "result.zarr"]


@pytest.mark.filterwarnings("ignore")  # of spatialdata and its packages
@pytest.mark.parametrize("extension", ["h5ad", "zarr"])
def test_a_table_of_a_spatialdata_store_is_read_where_the_error_says(cells, calls, tmp_path, extension):
    from spatialdata import SpatialData

    store = tmp_path / "section.zarr"
    SpatialData(tables={"cells": ad.read_h5ad(cells)}).write(store)
    message = fail("embed", store, "-o", tmp_path / f"a.{extension}")
    path = message.replace("\n", "").partition("one of its tables: ")[2].partition(".(")[0].rstrip(".")
    assert path == str(store / "tables" / "cells")
    assert "report on 3 cells" in run("check", path)
    run("embed", path, "-o", tmp_path / f"a.{extension}")
    assert getattr(ad, f"read_{extension}")(tmp_path / f"a.{extension}").uns["mark"] == "embed"
    assert "cells.csv has an unknown" in fail("check", cells.rename(tmp_path / "cells.csv"))


def test_h5ad_is_compressed_unless_it_is_asked_not_to_be(calls, tmp_path):
    path = tmp_path / "cells.h5ad"
    ad.AnnData(np.zeros((200, 300), dtype=np.float32)).write_h5ad(path)
    for function in ("impute", "embed"):
        run(function, path, "-o", tmp_path / "small.h5ad", "--overwrite")
        run(function, path, "-o", tmp_path / "large.h5ad", "--overwrite", "--compression", "none")
        small, large = ((tmp_path / f"{name}.h5ad").stat().st_size for name in ("small", "large"))
        assert small < large / 2
        assert ad.read_h5ad(tmp_path / "small.h5ad").X.shape == (200, 300)


def test_impute_streams_from_file_to_store(pbmc, tmp_path, monkeypatch):
    monkeypatch.setattr(sct.settings, "block_size", 60)
    path, output = tmp_path / "pbmc.h5ad", tmp_path / "imputed.zarr"
    pbmc[:100].copy().write_h5ad(path)
    run("--quiet", "impute", path, "-o", output, "--genes", "CD3E,CD8A")
    found = ad.read_zarr(output)
    expected = ad.read_h5ad(path)
    sct.tl.impute(expected, ["CD3E", "CD8A"])
    np.testing.assert_allclose(found.layers["sct"].toarray(), expected.layers["sct"].toarray(), atol=1e-6)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    assert found.obs["bulk_labels"].equals(expected.obs["bulk_labels"])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Error: genes: the model knows none", "Error: --genes: the model knows none"),
        ("Error: no x. layer=None reads adata.X.", "Error: no x. Without --layer, the command reads adata.X."),
        (
            "Error: reference_layer=None reads reference.X.",
            "Error: Without --reference-layer, the command reads reference.X.",
        ),
        ("Error: these genes: A", "Error: these genes: A"),
        ("Error: pass genes= and `layer=`.", "Error: pass --genes and `--layer`."),
    ],
)
def test_messages_name_options(message, expected):
    parameters = [SimpleNamespace(name=name, opts=["--" + name.replace("_", "-")]) for name in ("genes", "layer")]
    parameters.append(SimpleNamespace(name="reference_layer", opts=["--reference-layer"]))
    assert with_flags(message, parameters) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("adata.X holds -1. The command reads adata.X.", "X of a/b.h5ad holds -1. The command reads X of a/b.h5ad."),
        ("no column of reference.obs", "no column of obs of r.zarr"),
        ("adata.raw.var['_index'] is reserved", "raw.var['_index'] of a/b.h5ad is reserved"),
        ("adata has 0 cells; adata.", "a/b.h5ad has 0 cells; a/b.h5ad."),
        ("the reference lacks them", "the reference lacks them"),
        ("use adata.obs.drop(1)", "use adata.obs.drop(1) (adata: a/b.h5ad, read in Python.)"),
        ("use adata.obs['a'] = 1", "use adata.obs['a'] = 1 (adata: a/b.h5ad, read in Python.)"),
        ("pass `adata.raw`, del adata.raw", "pass `adata.raw`, del adata.raw (adata: a/b.h5ad, read in Python.)"),
        ("my_adata.X and adata_2", "my_adata.X and adata_2"),
    ],
)
def test_messages_name_files(message, expected):
    assert with_files(message, {"adata": Path("a/b.h5ad"), "reference": Path("r.zarr")}) == expected


def test_warnings_name_files_and_options(blood, tmp_path):
    """Those of the summary."""
    adata = ad.read_h5ad(blood)
    adata.obs["batch"] = ["a", "b"] * 40
    adata.write_h5ad(tmp_path / "two.h5ad")
    run("embed", tmp_path / "two.h5ad", "-o", tmp_path / "a.h5ad", "--summary")
    text = (tmp_path / "a.h5ad.summary.json").read_text()
    assert f"obs['batch'] of {tmp_path / 'two.h5ad'}" in text
    assert "--library-key" in text


def test_genes_with_spaces_between_them_are_explained(cells, tmp_path):
    result = runner.invoke(app, ["impute", str(cells), "-o", str(tmp_path / "a.h5ad"), "--genes", "CD3E", "CD14"])
    assert result.exit_code == 2
    assert "with commas" in " ".join(result.output.replace("│", " ").split())
    result = runner.invoke(app, ["impute", str(cells), "CD14", "-o", str(tmp_path / "a.h5ad")])
    assert "with commas" not in " ".join(result.output.replace("│", " ").split())


def test_errors_are_one_message(cells, calls, tmp_path, monkeypatch):
    assert "nothing.h5ad does not exist" in fail("check", tmp_path / "nothing.h5ad")
    assert "extension" in fail("embed", cells, "-o", tmp_path / "a.csv")
    assert "--batch-size 'many'" in fail("embed", cells, "-o", tmp_path / "a.h5ad", "--batch-size", "many")

    def unknown_layer(adata, **arguments):
        msg = "layer='x' is not there"
        raise KeyError(msg)

    monkeypatch.setattr(sct, "tl", SimpleNamespace(embed=unknown_layer))
    assert "Error: --layer 'x' is not there" in fail("embed", cells, "-o", tmp_path / "a.h5ad")
    assert not (tmp_path / "a.h5ad").exists()
    result = runner.invoke(app, ["--debug", "embed", str(cells), "-o", str(tmp_path / "a.h5ad")])
    assert isinstance(result.exception, KeyError)


@NAMES_OF_ANNDATA_12
@pytest.mark.filterwarnings("ignore:Forward slashes")
@pytest.mark.parametrize("function", ["impute", "embed", "annotate"])
def test_what_the_output_does_not_hold_is_found_before_computing(cells, calls, tmp_path, function):
    adata = ad.read_h5ad(cells)
    adata.obs["G1/S"] = 1.0
    adata.write_h5ad(cells)
    assert "An output that ends in .zarr cannot be written" in run("check", cells)
    calls.clear()
    more = ["--label-head"] if function == "annotate" else []
    message = fail(function, cells, "-o", tmp_path / "result.zarr", *more)
    assert "result.zarr cannot be written" in message
    assert "adata.obs.rename(columns={'G1/S': 'G1|S'}, inplace=True)" in message
    run(function, cells, "-o", tmp_path / "result.h5ad", *more)
    assert list(calls) == [function]


@pytest.mark.filterwarnings("ignore:Element")
def test_a_file_of_seurat_disk_is_named_before_computing(cells, calls, tmp_path):
    import h5py

    adata = ad.read_h5ad(cells)
    adata.raw = adata
    adata.write_h5ad(cells)
    with h5py.File(cells, "r+") as file:
        names = file["raw/var/_index"][:]
        file["raw/var/features"] = names
        file["raw/var"].attrs["_index"] = "features"
        file["raw/var"].attrs["column-order"] = ["_index"]
        file["raw/var/_index"].attrs["encoding-type"] = "string-array"
    message = fail("embed", cells, "-o", tmp_path / "result.h5ad")
    assert f"raw.var['_index'] of {cells}: the name is reserved" in message
    assert not calls


def test_a_reference_that_cannot_be_read_is_named_at_once(cells, calls, tmp_path):
    (tmp_path / "reference.h5ad").write_text("not cells")
    options = ["-o", tmp_path / "result.h5ad", "--reference"]
    assert "reference.h5ad is not an h5ad file" in fail("annotate", cells, *options, tmp_path / "reference.h5ad")
    assert "missing.h5ad does not exist" in fail("annotate", cells, *options, tmp_path / "missing.h5ad")
    for function in ("annotate", "impute"):
        assert "also read" in fail(function, cells, "-o", cells, "--overwrite", "--reference", cells)
    assert not calls


def test_impute_passes_the_reference_on(cells, calls, tmp_path):
    options = ["--reference", cells, "--reference-gene-names", "symbol", "--reference-scale", "log1p", "--genes", "all"]
    run("impute", cells, "-o", tmp_path / "result.h5ad", *options)
    _, arguments = calls["impute"]
    assert arguments["reference"].n_obs == 3
    assert (arguments["reference_gene_names"], arguments["reference_scale"]) == ("symbol", "log1p")


@pytest.mark.parametrize(("option", "choices"), [("bags", BagPolicy), ("precision", Precision)])
def test_options_take_what_the_functions_take(cells, calls, tmp_path, option, choices):
    for choice in get_args(choices):
        run("impute", cells, "-o", tmp_path / "a.h5ad", f"--{option}", choice, "--overwrite")
        assert calls["impute"][1][option] == choice
    result = runner.invoke(app, ["impute", str(cells), "-o", str(tmp_path / "b.h5ad"), f"--{option}", "other"])
    assert result.exit_code == 2
    assert "other" in result.output


def raising(error: BaseException) -> Callable[..., None]:
    def raises(*arguments: object, **options: object) -> None:
        raise error

    return raises


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda *arguments, **options: "a report", "0"),
        (raising(ValueError("layer='x' is not there.")), "1"),
        (raising(ZeroDivisionError("a defect")), "1, with a traceback"),
        (raising(KeyboardInterrupt()), "130"),
    ],
    ids=["a result", "an error of the user", "a defect", "interrupted"],
)
def test_exit_codes_are_those_of_the_page(cells, monkeypatch, function, code):
    page = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    monkeypatch.setattr(sct, "pp", SimpleNamespace(check=function))
    result = runner.invoke(app, ["check", str(cells)])
    assert f"\n| {code} | " in page
    assert str(result.exit_code) == code.partition(",")[0]
    # The runner of the tests keeps the error that would be printed as a traceback.
    assert (type(result.exception) is ZeroDivisionError) == ("traceback" in code)


def test_flags_show_no_type():
    lines = run("impute", "--help").splitlines()
    assert not [line for line in lines if "bool" in line and "--help" not in line]


def test_markers_without_a_header_line_keep_their_first_type(cells, calls, tmp_path):
    markers = tmp_path / "markers.csv"
    markers.write_text("T,CD3E\nB,CD79A\nMono,LYZ\n", encoding="utf-8")
    run("annotate", cells, "-o", tmp_path / "b.h5ad", "--markers", markers)
    assert calls["annotate"][1]["markers"]["cell_type"].tolist() == ["T", "B", "Mono"]


def test_version_and_quiet(cells, calls, monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", True)
    assert run("--version").strip() == sct.__version__
    run("--quiet", "check", cells)
    assert sct.settings.progress is False


def test_models(tmp_path):
    assert "InstaDeepAI/sCellTransformer" in run("models", "list")
    assert "CC BY-NC-SA 4.0" in run("models", "describe", "InstaDeepAI/sCellTransformer")
    assert "use the name of a model" in fail("models", "download", "nothing-of-that-name")


def test_pretrain_takes_settings_from_a_file(tmp_path, monkeypatch):
    found = {}
    config = sct.train.PretrainConfig

    def pretrain(data, config, output, **how):
        found.update(data=data, config=config, output=output, **how)

    monkeypatch.setattr(sct, "train", SimpleNamespace(pretrain=pretrain, PretrainConfig=config))
    settings = tmp_path / "settings.toml"
    settings.write_text("steps = 3\nbag_sizes = [4]\n[network]\ncell_layers = 1\n", encoding="utf-8")
    run(
        "pretrain",
        "a.h5ad",
        "b.h5ad",
        "-o",
        tmp_path / "mine",
        "--config",
        settings,
        "--device",
        "cpu",
        "--devices",
        "2",
    )
    assert [path.name for path in found["data"]] == ["a.h5ad", "b.h5ad"]
    assert (found["config"].steps, found["config"].bag_sizes) == (3, (4,))
    assert (found["device"], found["devices"], found["strategy"]) == ("cpu", 2, "auto")
    assert (found["config"].network.cell_layers, found["config"].network.cell_dim) == (1, config().network.cell_dim)
    settings.write_text("[network]\narchitecture = 'released'\nnum_layers = 1\n", encoding="utf-8")
    run("pretrain", "a.h5ad", "-o", tmp_path / "mine", "--config", settings)
    assert (found["config"].network.num_layers, found["config"].network.embed_dim) == (1, 1024)
    settings.write_text("[network]\narchitecture = 'other'\n", encoding="utf-8")
    assert "'compact' or 'released'" in fail("pretrain", "a.h5ad", "-o", tmp_path / "mine", "--config", settings)
    settings.write_text("step = 3\n", encoding="utf-8")
    assert "step;" in fail("pretrain", "a.h5ad", "-o", tmp_path / "mine", "--config", settings)


def test_demo(tmp_path, monkeypatch):
    demo = pytest.importorskip("scanpy_sct.demo")
    found = {}
    monkeypatch.setattr(demo, "run_demo", lambda output, **flags: found.update(output=output, **flags))
    run("demo", "--quick", "--section", "-o", tmp_path / "demo")
    assert found == {"output": tmp_path / "demo", "quick": True, "section": True}


def test_options_of_all_commands_may_follow_the_command(cells, calls, tmp_path):
    output = tmp_path / "a.h5ad"
    for order in (
        ["--quiet", "impute", cells, "-o", output],
        ["impute", cells, "-o", output, "--quiet", "--overwrite"],
    ):
        sct.settings.progress = True
        run(*order)
        assert not sct.settings.progress
    run("impute", cells, "-o", tmp_path / "b.h5ad", "--threads", "1", "--genes", "CD3E")
    assert calls["impute"][0] == (["CD3E"],)


def test_errors_name_the_options_of_the_command(blood, tmp_path):
    message = fail("impute", blood, "-o", tmp_path / "a.h5ad", "--layer", "cnts")
    assert "--layer 'cnts'" in message
    assert "layer=" not in message.replace("reference_layer=", "")


def test_a_missing_input_is_reported_before_anything_slow_is_imported(monkeypatch, capsys):
    import subprocess
    import sys

    code = "import sys; sys.argv = ['sct', 'impute', 'nofile.h5ad', '-o', 'x.h5ad']\n"
    code += "from scanpy_sct.cli import main\ntry:\n    main()\nfinally:\n    print('numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "nofile.h5ad does not exist" in found.stderr
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(("typed", "offered"), [("sct imp", "impute"), ("sct impute --lib", "--library-key")])
def test_the_shell_completes_without_importing_what_computes(typed, offered):
    import os
    import subprocess
    import sys

    code = "import sys; sys.argv = ['sct']\nfrom scanpy_sct.cli import main\ntry:\n    main()\nfinally:\n"
    code += "    print({'anndata', 'pandas', 'sklearn', 'torch'} & set(sys.modules))"
    words = {"_SCT_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **words})
    assert found.stdout.split() == [offered, "set()"], found.stderr


def test_summaries_of_imputation(blood, tmp_path):
    import json

    output = tmp_path / "result.h5ad"
    printed = run("impute", blood, "-o", output, "--genes", "CD3E,LYZ,CD14", "--summary", "--quiet")
    found = json.loads((tmp_path / "result.h5ad.summary.json").read_text())
    adata = ad.read_h5ad(output)
    assert found["genes_imputed"] == 2
    assert found["unmeasured_genes"] == 1
    assert found["median_recovery"] == pytest.approx(adata.var["sct_recovery"].median(), abs=1e-4)
    assert found["cells"] == 80
    trusted = (adata.var["sct_recovery"] >= 0.3).sum()
    recovery = f"median recovery {found['median_recovery']:.2f}; 0.3 or more: {trusted}"
    assert f"80 cells; measured genes imputed: 2 ({recovery} genes), unmeasured genes: 1 (no recovery known)" in printed
    lines = dict(line.split("\t") for line in (tmp_path / "result.h5ad.summary.tsv").read_text().splitlines()[1:])
    assert lines["genes_imputed"] == "2"


def test_summary_and_table_of_labels(blood, tmp_path):
    import json

    import pandas as pd

    markers = tmp_path / "markers.json"
    markers.write_text('{"B": ["CD79A", "MS4A1"], "Myeloid": ["LYZ", "CST3"], "XX": ["NOGENE"]}', encoding="utf-8")
    table = tmp_path / "labels.csv"
    options = ["--markers", markers, "--obs-csv", table, "--json", "--quiet"]
    found = json.loads(run("annotate", blood, "-o", tmp_path / "a.h5ad", *options))
    labels = pd.read_csv(table, index_col=0)
    assert labels["sct_label"].value_counts().to_dict() == found["cells_per_label"]
    assert found["unknown_fraction"] == pytest.approx((labels["sct_label"] == "unknown").mean(), abs=1e-4)
    assert any("NOGENE" in warning for warning in found["warnings"])
    sentence = run("annotate", blood, "-o", tmp_path / "c.h5ad", "--markers", markers)
    assert f"80 cells, {100 * found['unknown_fraction']:.1f} % of them 'unknown'; 2 labels" in sentence
    message = fail(
        "annotate", blood, "-o", tmp_path / "b.h5ad", "--markers", markers, "--obs-csv", tmp_path / "x/y.csv"
    )
    assert "its folder does not exist" in message

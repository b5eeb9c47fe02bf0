from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import scanpy_sct

HEAVY = {
    "torch",
    "squidpy",
    "scanpy",
    "anndata",
    "pandas",
    "matplotlib",
    "huggingface_hub",
    "lightning",
    "sklearn",
    "dask",
}

SCRIPT = """
import json, sys
import scanpy_sct
scanpy_sct.settings.device = "cpu"
names = dir(scanpy_sct)
print(json.dumps({"modules": sorted({name.split(".")[0] for name in sys.modules}), "dir": names}))
"""


@pytest.fixture(scope="module")
def fresh() -> dict:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_import_is_light(fresh):
    assert HEAVY & set(fresh["modules"]) == set()


def test_names_are_offered_for_completion(fresh):
    assert {*scanpy_sct.__all__, "__version__"} == set(fresh["dir"])


@pytest.mark.parametrize("name", ["datasets", "evaluate", "get", "pl", "pp", "tl"])
def test_inner_modules_are_not_offered(name):
    part = getattr(scanpy_sct, name)
    assert {found for found in dir(part) if not found.startswith("_")} == set(part.__all__)


@pytest.mark.parametrize("name", [*scanpy_sct.__all__, "__version__"])
def test_every_name_is_there(name):
    assert getattr(scanpy_sct, name) is not None


@pytest.mark.parametrize("name", sorted({*scanpy_sct.__all__, "__version__"} - {"settings"}))
def test_every_name_is_there_whatever_else_was_imported(name):
    """Importing a submodule sets an attribute of the package; this is how it is found without that."""
    assert scanpy_sct.__getattr__(name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        _ = scanpy_sct.magic
    assert not hasattr(scanpy_sct, "torch")


def test_the_package_says_that_it_is_typed():
    assert (Path(scanpy_sct.__file__).parent / "py.typed").is_file()


def test_functions_load_torch_when_they_are_called():
    script = "import sys, scanpy_sct; scanpy_sct.tl.impute, scanpy_sct.tl.annotate; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"

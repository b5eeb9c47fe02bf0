from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scanpy_sct import files
from scanpy_sct.cli.options import is_known_gene

SUFFIXES = ("h5ad", "zarr")


def cells(value: float) -> ad.AnnData:
    return ad.AnnData(np.full((3, 2), value, dtype=np.float32))


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"cells.{request.param}"


def test_cells_are_written_read_and_replaced(path):
    files.write_cells(cells(1), path)
    files.write_cells(cells(2), path, overwrite=True)
    assert files.read_cells(path).X.tolist() == cells(2).X.tolist()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_is_replaced_with_overwrite_only(path):
    files.write_cells(cells(1), path)
    with pytest.raises(FileExistsError, match="--overwrite"):
        files.write_cells(cells(2), path)
    assert files.read_cells(path).X[0, 0] == 1


def test_a_write_that_fails_keeps_the_earlier_file(path):
    files.write_cells(cells(1), path)
    broken = cells(2)
    broken.uns["odd"] = object()
    with pytest.raises(Exception, match=r"odd|object"):
        files.write_cells(broken, path, overwrite=True)
    assert files.read_cells(path).X[0, 0] == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_interrupt_keeps_the_earlier_file(path, monkeypatch):
    files.write_cells(cells(1), path)
    written = getattr(ad.AnnData, f"write_{path.suffix[1:]}")

    def interrupted(self, target):
        written(self, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(ad.AnnData, f"write_{path.suffix[1:]}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_cells(cells(2), path, overwrite=True)
    assert files.read_cells(path).X[0, 0] == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_outputs_that_cannot_be_written_raise_an_error(tmp_path):
    with pytest.raises(ValueError, match="extension"):
        files.check_output(tmp_path / "cells.csv", overwrite=False)
    with pytest.raises(FileNotFoundError, match="folder"):
        files.check_output(tmp_path / "nowhere" / "cells.h5ad", overwrite=False)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        files.read_cells(tmp_path / "cells.h5ad")


def test_markers(tmp_path):
    table = pd.DataFrame({"cell_type": ["T", "B"], "gene": ["CD3E", "MS4A1"]})
    table.to_csv(tmp_path / "markers.csv", index=False)
    table.to_csv(tmp_path / "markers.tsv.gz", index=False, sep="\t")
    (tmp_path / "markers.json").write_text('{"T": ["CD3E"], "B": ["MS4A1"]}', encoding="utf-8")
    pd.testing.assert_frame_equal(files.read_markers(tmp_path / "markers.csv", is_known_gene), table)
    pd.testing.assert_frame_equal(files.read_markers(tmp_path / "markers.tsv.gz", is_known_gene), table)
    assert files.read_markers(tmp_path / "markers.json", is_known_gene) == {"T": ["CD3E"], "B": ["MS4A1"]}
    with pytest.raises(ValueError, match="extension"):
        files.read_markers(tmp_path / "markers.xlsx", is_known_gene)


def test_a_table_of_markers_without_a_header_keeps_its_first_line(tmp_path, caplog):
    path = tmp_path / "markers.csv"
    path.write_text("T,CD3E\nT,CD3D\nB,CD79A\n", encoding="utf-8")
    found = files.read_markers(path, is_known_gene)
    assert found.to_numpy().tolist() == [["T", "CD3E"], ["T", "CD3D"], ["B", "CD79A"]]
    assert found.columns.tolist() == ["cell_type", "gene"]
    assert "no header line" in caplog.text


@pytest.mark.parametrize("header", ["cell_type,gene", "type,marker", "name,symbol", "label,Genes"])
def test_a_header_is_not_a_row(tmp_path, header, caplog):
    path = tmp_path / "markers.csv"
    path.write_text(f"{header}\nT,CD3E\nB,CD79A\n", encoding="utf-8")
    assert len(files.read_markers(path, is_known_gene)) == 2
    assert not caplog.records


def test_mappings(tmp_path):
    (tmp_path / "config.toml").write_text("steps = 3\n[network]\nnum_layers = 1\n", encoding="utf-8")
    assert files.read_mapping(tmp_path / "config.toml") == {"steps": 3, "network": {"num_layers": 1}}
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match="mapping"):
        files.read_mapping(tmp_path / "list.json")

from __future__ import annotations

import errno
from contextlib import nullcontext
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scanpy_sct import files
from scanpy_sct.annotate.marker_table import marker_table
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

    def interrupted(self, target, **options):
        written(self, target, **options)
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


def test_only_stores_are_replaced_and_nothing_that_is_read_too(path, tmp_path):
    files.write_cells(cells(1), path)
    with pytest.raises(ValueError, match="also read"):
        files.check_output(path, overwrite=True, others=[path])
    folder = tmp_path / "project.zarr"
    folder.mkdir()
    (folder / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="a folder with other files"):
        files.check_output(folder, overwrite=True)
    with pytest.raises(FileExistsError, match="a folder with other files"):
        files.write_cells(cells(1), folder, overwrite=True)
    assert (folder / "thesis.txt").exists()


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PermissionError, match="no permission to write"):
        files.check_output(tmp_path / "cells.h5ad", overwrite=False)


def test_a_full_disk_names_the_output(path, monkeypatch):
    def full(self, target, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ad.AnnData, f"write_{path.suffix[1:]}", full)
    with pytest.raises(OSError, match=rf"{path.name} cannot be written.*No space left.*free some space"):
        files.write_cells(cells(1), path)


def test_a_disk_without_enough_space_is_found_before_computing(tmp_path, monkeypatch):
    files.write_cells(cells(1), tmp_path / "cells.h5ad")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=20))
    with pytest.raises(OSError, match=r"result\.h5ad needs about"):
        with files.cells_for(tmp_path / "cells.h5ad", tmp_path / "result.h5ad", ("layers", "sct")):
            pytest.fail("began")
    with files.cells_for(tmp_path / "cells.h5ad", tmp_path / "result.h5ad", ("obsm", "X_sct")):
        pass
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3 * 1000))
    ad.AnnData(np.ones((3, 1000), dtype=np.float32)).write_h5ad(tmp_path / "more.h5ad")
    for n_genes, fits in ((None, False), (1000, False), (100, True)):
        with pytest.raises(OSError, match="needs about") if not fits else nullcontext():
            with files.cells_for(tmp_path / "more.h5ad", tmp_path / "result.h5ad", ("layers", "sct"), n_genes):
                pass


def test_damage_that_is_found_while_computing_is_named(tmp_path):
    adata = ad.AnnData(np.ones((30, 20), dtype=np.float32))
    adata.write_zarr(tmp_path / "cells.zarr")
    # "X/0.0" in version 2 of zarr, "X/c/0/0" in version 3.
    (chunk,) = (path for path in (tmp_path / "cells.zarr" / "X").rglob("*0") if path.is_file())
    chunk.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"cells\.zarr is damaged"):
        with files.cells_for(tmp_path / "cells.zarr", tmp_path / "result.zarr") as opened:
            opened.X[:5].compute()


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CD3E,T\nCD79A,B\n", {"T": ["CD3E"], "B": ["CD79A"]}),
        ("B,CD20\nT,CD3\n", {"B": ["CD20"], "T": ["CD3"]}),
        ("B,CD79A,MS4A1\nT,CD3E,CD3D\n", {"B": ["CD79A", "MS4A1"], "T": ["CD3E", "CD3D"]}),
        ("CD4,CD8\nIL7R,CD8A\nCCR7,CD8B\n", {"CD4": ["IL7R", "CCR7"], "CD8": ["CD8A", "CD8B"]}),
        (",CD79A,CD3E\nB,1,0\nT,0,1\n", {"B": ["CD79A"], "T": ["CD3E"]}),
        ("cell_type;gene\nB;CD79A\nT;CD3E\n", {"B": ["CD79A"], "T": ["CD3E"]}),
    ],
)
def test_first_lines_are_headers_where_the_others_differ(tmp_path, text, expected):
    path = tmp_path / "markers.csv"
    path.write_text(text, encoding="utf-8")
    table = marker_table(files.read_markers(path, is_known_gene))
    assert table.groupby("label")["gene"].agg(list).to_dict() == expected


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

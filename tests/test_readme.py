"""README: what a reader pastes runs to the end, and what it links to exists."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

import scanpy_sct as sct

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def test_the_python_block_runs_as_pasted(tmp_path, monkeypatch, capsys):
    (block,) = python_blocks(README)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sct.settings, "progress", False)
    for name in ("igraph", "leidenalg"):  # tests install them, README's first command does not
        monkeypatch.setitem(sys.modules, name, None)
    script = tmp_path / "block.py"
    script.write_text(block, encoding="utf-8")
    adata = runpy.run_path(str(script))["adata"]

    assert {"imputed.png", "labels.png"} < {path.name for path in tmp_path.iterdir()}
    assert "genes used" in capsys.readouterr().out
    assert adata.layers["sct"].shape == adata.shape
    b_cells = adata.obs["bulk_labels"] == "CD19+ B"
    assert (adata.obs["sct_label"][b_cells] == "B").mean() > 0.9


def relative_links(text: str) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


def test_links_lead_to_files():
    assert [link for link in relative_links(README) if not (ROOT / link.partition("#")[0]).exists()] == []
    pictures = re.findall(r"!\[[^\]]*\]\((docs[^)]+)\)", README)
    assert len(pictures) == 1
    assert (ROOT / pictures[0]).stat().st_size < 200_000


@pytest.mark.parametrize("tag", ["v0.2.0"])
def test_a_package_index_gets_absolute_links(tag):
    from absolute_links import with_absolute_links, with_urls

    text = with_absolute_links(README, "https://example.org/a/b", tag)
    assert relative_links(text) == []
    assert f"](https://example.org/a/b/raw/{tag}/docs/images/readme.png)" in text
    assert f"](https://example.org/a/b/blob/{tag}/docs/concepts.md)" in text
    project = with_urls((ROOT / "pyproject.toml").read_text(encoding="utf-8"), "https://example.org/a/b")
    tomllib = pytest.importorskip("tomllib")
    urls = tomllib.loads(project)["project"]["urls"]
    assert urls["Source"] == "https://example.org/a/b"
    assert {"Documentation", "Issues", "Changelog", "Paper"} <= set(urls)

"""Plots look as they did: pictures are compared with kept ones.

Other tests look at what is drawn; these see what nobody thought of: overlaps, orders, colours, missing parts.
matplotlib compares them itself, so that no plugin is needed. After a wanted change, write the pictures again, and look
at them before they are committed:

    SCANPY_SCT_WRITE_PICTURES=1 pytest -n0 tests/pl/test_images.py
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import ft2font
from matplotlib.testing.compare import compare_images

import scanpy_sct as sct
from scanpy_sct.write import write_annotation, write_imputation

BASELINE = Path(__file__).parent / "baseline"
MADE_WITH = {"matplotlib": "3.11", "freetype": "2.14.3", "scanpy": "1.11", "squidpy": "1.8"}
"""Versions that draw these pictures; of packages, only the first two numbers are compared."""
LARGEST_DIFFERENCE = 0.2
"""Root of the mean squared difference of pixels, 0 to 255. A letter in a title gives 5 or more, other
colours of five small points 0.5."""
LARGEST_FILE = 30_000
MARKERS = {"B": ["MS4A1", "CD79A"], "T": ["CD3D", "CD3E"], "NK": ["NKG7", "GNLY"]}
PICTURES = {
    "imputed_spatial": lambda adata: sct.pl.imputed(adata[:20].copy(), ["MS4A1", "CD19"], figsize=(6, 5)),
    "imputed_umap": lambda adata: sct.pl.imputed(adata, "CD3D", basis="umap", shared_scale=True),
    "recovery": lambda adata: sct.pl.recovery(adata, genes=["MS4A1", "CD3D", "NKG7"]),
    "label_confidence": lambda adata: sct.pl.label_confidence(adata),
    "marker_dots": lambda adata: sct.pl.marker_dots(adata, MARKERS),
    "marker_dots_imputed": lambda adata: sct.pl.marker_dots(adata, {**MARKERS, "B": ["MS4A1", "CD19"]}, imputed="sct"),
    "confusion": lambda adata: sct.pl.confusion(adata, "known"),
    "confusion_clusters": lambda adata: sct.pl.confusion(adata, "known", key="cluster"),
}


def versions() -> dict[str, str]:
    packages = {name: ".".join(version(name).split(".")[:2]) for name in ("matplotlib", "scanpy", "squidpy")}
    return packages | {"freetype": ft2font.__freetype_version__}


@pytest.fixture(scope="module")
def adata():
    """Cells of three types and some unknown ones, with fields written by hand: no network, no random numbers."""
    genes = [gene for own in MARKERS.values() for gene in own]
    number = np.arange(80)
    kind = number % 4
    column = np.arange(6)
    counts = np.maximum((number[:, None] * (3 + column)) % 11 - 3, 0) * (kind[:, None] == column // 2)
    counts += (number[:, None] + column) % 9 == 0
    adata = AnnData(counts.astype("float32"), var=pd.DataFrame(index=genes))
    adata.obs_names = [f"c{cell}" for cell in number]
    adata.obsm["spatial"] = np.stack([number % 5, number // 5], axis=1) * 20.0
    adata.obsm["X_umap"] = np.stack([np.cos(number) + 3 * (kind % 2), np.sin(number) + 3 * (kind // 2)], axis=1)
    table = pd.DataFrame({"CD19": np.linspace(0, 1, 80)}, index=adata.obs_names)
    recovery = np.array([0.62, 0.35, 0.21, 0.15, 0.04, np.nan])
    result = {"imputed": np.ones(6, bool), "recovery": recovery, "params": {}, "details": {"scale": "counts"}}
    write_imputation(adata, "sct", layer=np.log1p(counts * 0.7 + 0.1), unmeasured=table, **result)
    names = np.array([*MARKERS, "unknown"], dtype=object)
    score = np.where(kind == 3, 0.3, 0.6 + (number % 13) / 40)
    probabilities = pd.DataFrame({"B": score, "T": (1 - score) / 2, "NK": (1 - score) / 2}, index=adata.obs_names)
    params = {"params": {"threshold": 0.5}, "details": {"scale": "counts"}}
    write_annotation(adata, labels=names[kind], score=score, probabilities=probabilities, **params)
    adata.obs["known"] = pd.Categorical(names[np.where(number % 7 == 0, 2, kind % 3)], categories=["T", "B", "NK"])
    adata.obs["cluster"] = pd.Categorical(np.array(["3", "1", "2"])[np.where(number % 11 == 0, 0, kind % 3)])
    return adata


def draw(name: str, adata: AnnData, path: Path) -> None:
    """Draw a picture in matplotlib's own style and font, whatever the user's settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["font.family"] = "DejaVu Sans"
        axes = PICTURES[name](adata.copy())
        np.ravel(axes)[0].figure.savefig(path, dpi=50, metadata={"Software": None})
        plt.close("all")


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_the_kept_one(name, adata, tmp_path):
    kept = BASELINE / f"{name}.png"
    if os.environ.get("SCANPY_SCT_WRITE_PICTURES"):
        draw(name, adata, kept)
        pytest.skip(f"wrote {kept}")
    if versions() != MADE_WITH:
        pytest.skip(f"the pictures were made with {MADE_WITH}, not with {versions()}, which draws text otherwise")
    draw(name, adata, tmp_path / kept.name)
    expected = tmp_path / "expected.png"
    expected.write_bytes(kept.read_bytes())  # what compare_images writes beside it stays out of the repository
    assert compare_images(str(expected), str(tmp_path / kept.name), tol=LARGEST_DIFFERENCE) is None


def test_every_plot_has_a_picture_and_every_picture_a_plot():
    assert {name for name in sct.pl.__all__ if not any(picture.startswith(name) for picture in PICTURES)} == set()
    assert sorted(path.stem for path in BASELINE.iterdir()) == sorted(PICTURES)


def test_pictures_are_small():
    assert [path.name for path in BASELINE.iterdir() if path.stat().st_size > LARGEST_FILE] == []

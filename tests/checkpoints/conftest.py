"""Small networks with known outputs, and checkpoints made from them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from scanpy_sct.checkpoints import Checkpoint, LabelHead, LabelHome, TokenSettings, checkpoint, read_released
from scanpy_sct.checkpoints.label_classifiers import EmbeddingClassifier, ExpressionClassifier

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder with weights and outputs of small random networks, computed by the reference implementation."""
    return GOLDEN


@pytest.fixture(autouse=True)
def reset_license_notices():
    """Licence notices are logged once; reset them for every test."""
    checkpoint.mention_license.cache_clear()


@pytest.fixture
def tiny(golden_dir: Path) -> Checkpoint:
    """The smallest golden network as a checkpoint with genes, a label head and unusual settings."""
    released = read_released(golden_dir / "f_spatial_scales")
    genes = np.full(16, "", dtype="<U15")
    genes[[0, 3, 7]] = ["ENSG00000075624", "ENSG00000141510", "ENSG00000111640"]
    rng = np.random.default_rng(0)
    profiles = rng.uniform(0, 5, size=(3, 16)).astype(np.float16).astype(np.float32)
    profiles[1, 4] = np.nan
    distances = np.array([[0.01, 0.1], [0.02, 0.2], [0, 0.05]], dtype=np.float32)
    head = LabelHead(
        labels=("B cell", "T cell", "Zelle, groß"),
        classifier=EmbeddingClassifier(
            weight=rng.normal(size=(3, 32)).astype(np.float32),
            bias=rng.normal(size=3).astype(np.float32),
            feature_mean=rng.normal(size=32).astype(np.float32),
            feature_scale=rng.uniform(0.5, 2, size=32).astype(np.float32),
        ),
        temperature=1.7,
        home=LabelHome(("blood", "Leber"), (30, 20, 10), profiles, distances),
    )
    return dataclasses.replace(
        released,
        name="tiny",
        tokens=TokenSettings(scale="log1p_counts"),
        mask_fraction=0.3,
        genes=genes,
        label_head=head,
        license="BSD-3-Clause",
        revision="abc",
    )


@pytest.fixture
def of_expression() -> ExpressionClassifier:
    """A classifier of two markers among three genes, for the 16 genes of `tiny`."""
    return ExpressionClassifier(
        weight=np.array([[1, -1], [-2, 3]], dtype=np.float32),
        bias=np.array([0.5, 0], dtype=np.float32),
        marker_mean=np.array([1, 2], dtype=np.float32),
        gene_rate=np.array([5000, 4000, 1000], dtype=np.float32),
        gene_index=np.array([0, 3, 7], dtype=np.int32),
        marker_index=np.array([0, 7], dtype=np.int32),
    )

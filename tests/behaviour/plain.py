"""The plain scene that every row changes, and the functions that rows are run on."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from scipy import sparse

import scanpy_sct as sct

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest import MonkeyPatch


N_CELLS, N_GENES = 40, 160
MARKERS = {"B": ["CD79A", "CD79B"], "Myeloid": ["LYZ", "CST3"], "NK": ["NKG7", "GNLY"]}


@dataclass
class Scene:
    """Plain objects: counts of blood cells, and labelled ones of the same genes."""

    adata: Any
    reference: Any
    model: Any
    model_folder: Path
    """The checkpoint, loaded and on disk."""
    folder: Path
    """An empty folder."""
    patch: MonkeyPatch
    markers: Any = field(default_factory=lambda: dict(MARKERS))
    arguments: dict[str, Any] = field(default_factory=dict)
    """More arguments of the functions that have them."""
    command: tuple[str, ...] = ()
    """Arguments of `sct`, for rows on "command"."""


def counts_of(adata: AnnData) -> AnnData:
    """Return an object with the counts of log-normalised cells, their labels, and nothing else."""
    linear = np.expm1(adata.X.toarray().astype(np.float64))
    unit = np.where(linear > 0, linear, np.inf).min(axis=1, keepdims=True)
    counts = sparse.csr_matrix(np.rint(linear / unit).astype(np.float32))
    result = AnnData(counts, obs=adata.obs[["bulk_labels"]].copy(), var=adata.var[[]].copy())
    result.obs["bulk_labels"] = result.obs["bulk_labels"].cat.remove_unused_categories()
    return result


def plain_objects(pbmc: AnnData, vocabulary: np.ndarray) -> tuple[AnnData, AnnData]:
    """Return cells to work on, and labelled ones of three types."""
    from scanpy_sct.read.genes import match_genes

    known = pbmc.var_names[match_genes(list(pbmc.var_names), vocabulary).columns]
    named = [gene for genes in MARKERS.values() for gene in genes]
    detected = np.asarray((pbmc[:, known].X > 0).sum(axis=0)).ravel()
    best = known[np.argsort(-detected, kind="stable")]
    genes = list(dict.fromkeys([*named, *best]))[:N_GENES]
    is_typed = pbmc.obs["bulk_labels"].isin(["CD19+ B", "CD14+ Monocyte", "CD56+ NK"])
    cells = counts_of(pbmc[is_typed, genes])
    order = np.random.default_rng(0).permutation(cells.n_obs)
    return cells[order[:N_CELLS]].copy(), cells[order[N_CELLS : 2 * N_CELLS + 20]].copy()


def _impute(scene: Scene, **arguments: Any) -> Any:
    return sct.tl.impute(scene.adata, model=scene.model, **arguments)


def _quickly(scene: Scene, **arguments: Any) -> Any:
    return _impute(scene, **{"genes": ["LYZ", "NKG7", "CD2"], "calibrate": False, "blend": False} | arguments)


def _annotate(scene: Scene, **arguments: Any) -> Any:
    arguments = {"labels_key": "bulk_labels"} | arguments
    return sct.tl.annotate(scene.adata, reference=scene.reference, model=scene.model, **arguments)


def _annotate_with_markers(scene: Scene, **arguments: Any) -> Any:
    return sct.tl.annotate(scene.adata, markers=scene.markers, model=scene.model, **arguments)


_FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "check": (sct.pp.check, lambda scene, **arguments: sct.pp.check(scene.adata, model=scene.model, **arguments)),
    "impute": (sct.tl.impute, _quickly),
    "impute all": (sct.tl.impute, _impute),
    "embed": (sct.tl.embed, lambda scene, **arguments: sct.tl.embed(scene.adata, model=scene.model, **arguments)),
    "annotate": (sct.tl.annotate, _annotate),
    "markers": (sct.tl.annotate, _annotate_with_markers),
    "label head": (
        sct.tl.annotate,
        lambda scene, **arguments: sct.tl.annotate(scene.adata, model=scene.model, **arguments),
    ),
}


def run(function: str, scene: Scene) -> Any:
    """Run a function on a scene, with those of its arguments that it takes."""
    public, call = _FUNCTIONS[function]
    taken = inspect.signature(public).parameters
    return call(scene, **{name: value for name, value in scene.arguments.items() if name in taken})

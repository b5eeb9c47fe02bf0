"""Which cells are read together.

To add a policy, write a function that gives every cell a point, and enter it in `POLICIES`: cells whose points are
close share a bag. Prediction, training and evaluation look policies up there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from scanpy_sct.sparse_tools import log_normalise, with_data


@dataclass(frozen=True)
class Bag:
    """Rows of the cells of one bag; the first ``n_targets`` are target cells, the rest context cells."""

    rows: np.ndarray
    n_targets: int


@dataclass(frozen=True)
class CellsToPlan:
    """What a policy may look at."""

    coordinates: np.ndarray | None
    """(cells, 2) on the tissue, if there are any."""
    visible_values: Callable[[], sparse.csr_matrix]
    """Gives the visible log values, (cells, genes)."""
    seed: int


def _spatial_points(cells: CellsToPlan) -> np.ndarray | None:
    return cells.coordinates


def _similar_points(cells: CellsToPlan) -> np.ndarray | None:
    return similarity_points(cells.visible_values(), cells.seed)


def _no_points(cells: CellsToPlan) -> np.ndarray | None:
    return None


POLICIES: dict[str, Callable[[CellsToPlan], np.ndarray | None]] = {
    "spatial": _spatial_points,
    "similar": _similar_points,
    "random": _no_points,
}
"""From the name of a policy to the points of the cells; None: cells at random."""


def choose_policy(bags: str, *, has_coordinates: bool) -> str:
    """Turn the argument ``bags`` into a policy; ``"auto"``: neighbours on the tissue if possible, else similar cells.

    Raises
    ------
    ValueError
        The policy is unknown, or ``"spatial"`` without coordinates.
    """
    if bags == "auto":
        return "spatial" if has_coordinates else "similar"
    if bags not in POLICIES:
        msg = f"bags={bags!r} is not known; use one of {', '.join(map(repr, ('auto', *POLICIES)))}."
        raise ValueError(msg)
    if bags == "spatial" and not has_coordinates:
        msg = "bags='spatial' needs coordinates in .obsm['spatial'], and there are none; use 'similar' or 'random'."
        raise ValueError(msg)
    return bags


def plan_bags(samples: np.ndarray, size: int, rng: np.random.Generator, points: np.ndarray | None = None) -> list[Bag]:
    """Divide the cells of each sample into bags; every cell is a target in exactly one of them.

    The cells of a sample are spread evenly over as few bags as will hold them; each bag is then topped up to ``size``
    with other cells of the sample. A sample of fewer than ``size`` cells is one smaller bag.

    Parameters
    ----------
    samples
        Sample of each cell, (n_cells,) integers: a bag never mixes samples.
    size
        Cells of a bag.
    rng
        Source of chance.
    points
        (n_cells, any dimension): a bag gathers cells close to one another. None: cells at random.
    """
    bags = []
    for sample in np.unique(samples):
        rows = np.flatnonzero(samples == sample)
        n_bags = -(-len(rows) // size)
        if points is None:
            parts = np.array_split(rng.permutation(rows), n_bags)
            bags += [_top_up_at_random(part, rows, size, rng) for part in parts]
        else:
            parts = divide(points, rows, n_bags)
            tree = cKDTree(points[rows])
            bags += [_top_up_with_nearest(part, rows, size, points, tree) for part in parts]
    return bags


def divide(points: np.ndarray, rows: np.ndarray, n_parts: int) -> list[np.ndarray]:
    """Cut ``rows`` into compact parts of nearly equal size, halving along the direction of largest spread."""
    if n_parts == 1:
        return [rows]
    centred = points[rows] - points[rows].mean(0)
    direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    # The sign of an eigenvector is arbitrary: fix it, so that the same data give the same bags on every machine.
    direction = direction * np.sign(direction[np.argmax(np.abs(direction))])
    ordered = rows[np.argsort(centred @ direction, kind="stable")]
    n_left = n_parts // 2
    cut = round(len(rows) * n_left / n_parts)
    return divide(points, ordered[:cut], n_left) + divide(points, ordered[cut:], n_parts - n_left)


def _top_up_at_random(part: np.ndarray, sample: np.ndarray, size: int, rng: np.random.Generator) -> Bag:
    # Twice the size of a bag holds enough others, whatever the size of the sample.
    drawn = rng.choice(sample, min(2 * size, len(sample)), replace=False)
    return _with_context(part, drawn, size)


def _top_up_with_nearest(part: np.ndarray, sample: np.ndarray, size: int, points: np.ndarray, tree: cKDTree) -> Bag:
    _, nearest = tree.query(points[part].mean(0), k=min(2 * size, len(sample)))
    return _with_context(part, sample[np.atleast_1d(nearest)], size)


def _with_context(part: np.ndarray, candidates: np.ndarray, size: int) -> Bag:
    others = candidates[~np.isin(candidates, part)]
    return Bag(np.concatenate([part, others[: size - len(part)]]), len(part))


def similarity_points(log_values: sparse.csr_matrix, seed: int, n_components: int = 20) -> np.ndarray:
    """Give cells points by their expression: truncated SVD of depth-normalised log values.

    Parameters
    ----------
    log_values
        (cells, genes) of ``log1p`` values, visible entries only.
    seed
        Seed of the randomised SVD.
    n_components
        Dimensions of the result.

    Returns
    -------
    (cells, up to ``n_components``) float array.
    """
    from sklearn.decomposition import TruncatedSVD

    linear = with_data(log_values, np.expm1(log_values.data.astype(np.float32)))
    values = log_normalise(linear, totals=np.asarray(linear.sum(axis=1)).ravel())
    n_components = min(n_components, min(values.shape) - 1)
    if n_components < 1 or values.nnz == 0:
        return np.zeros((values.shape[0], 1))
    return TruncatedSVD(n_components, random_state=seed).fit_transform(values)


def in_spacings(points: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Divide coordinates by the median distance of a cell to its nearest neighbour, from the middle of each sample.

    Coordinates in pixels, micrometres or rows of an array become alike: one is the distance between two spots, and the
    median position of a sample is its origin.

    Parameters
    ----------
    points
        (cells, 2).
    samples
        (cells,) integers.
    """
    result = np.array(points, dtype=np.float64)
    for sample in np.unique(samples):
        rows = np.flatnonzero(samples == sample)
        result[rows] -= np.median(result[rows], axis=0)
        different = np.unique(result[rows], axis=0)
        if len(different) > 1:
            nearest, _ = cKDTree(different).query(different, k=2)
            result[rows] /= np.median(nearest[:, 1])
    return result

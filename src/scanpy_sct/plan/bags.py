"""Plan bags: the cells that a network reads together.

To add a policy, write a function that returns a point for every cell, and add it to `POLICIES`: cells whose points are
close share a bag. Prediction, training and evaluation look policies up there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from scanpy_sct.linear_algebra import leading_components
from scanpy_sct.sparse_tools import log_normalise, with_data


@dataclass(frozen=True)
class Bag:
    """Rows of the cells of one bag; the first ``n_targets`` are target cells, the rest context cells."""

    rows: np.ndarray
    n_targets: int


@dataclass(frozen=True)
class CellsToPlan:
    """What a policy can use."""

    coordinates: np.ndarray | None
    """(cells, 2), if there are any."""
    visible_values: Callable[[], sparse.csr_matrix]
    """Returns the visible log values, (cells, genes)."""
    seed: int


POLICIES: dict[str, Callable[[CellsToPlan], np.ndarray | None]] = {
    "spatial": lambda cells: cells.coordinates,
    "similar": lambda cells: similarity_points(cells.visible_values(), cells.seed),
    "random": lambda cells: None,
}
"""Function of each policy that returns the points of the cells; None: cells are drawn at random."""


def choose_policy(bags: str, *, has_coordinates: bool) -> str:
    """Return the policy for the argument ``bags``; ``"auto"``: ``"spatial"`` with coordinates, else ``"similar"``.

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


def check_complete(coordinates: np.ndarray) -> None:
    """Raise a ValueError if the coordinates of some cells are NaN or infinite; to be called where they are used."""
    n_bad = int((~np.isfinite(coordinates)).any(axis=1).sum())
    if n_bad:
        msg = (
            f"obsm['spatial'] is NaN or infinite for {n_bad} of {len(coordinates)} cells, and coordinates are used. "
            "Remove these cells, or use no coordinates: pass bags='similar' to functions with this argument, or delete "
            "or rename obsm['spatial']."
        )
        raise ValueError(msg)


def bag_points(bags: str, cells: CellsToPlan) -> np.ndarray | None:
    """Return the points of the policy that ``bags`` names, ``"auto"`` included.

    Raises as :func:`choose_policy` and :func:`check_complete`.
    """
    policy = choose_policy(bags, has_coordinates=cells.coordinates is not None)
    if policy == "spatial":
        check_complete(cells.coordinates)
    return POLICIES[policy](cells)


def plan_bags(samples: np.ndarray, size: int, rng: np.random.Generator, points: np.ndarray | None = None) -> list[Bag]:
    """Divide the cells of each sample into bags; every cell is a target in exactly one of them.

    The cells of a sample are divided evenly into as few bags as possible; context cells of the same sample then fill
    each bag up to ``size``. A sample of fewer than ``size`` cells is one smaller bag.

    Parameters
    ----------
    samples
        (n_cells,) integers: a bag never mixes samples.
    size
        Cells of a bag.
    rng
        Random generator.
    points
        (n_cells, dimensions): cells of a bag are close to one another. None: they are drawn at random.
    """
    bags = []
    for sample in np.unique(samples):
        rows = np.flatnonzero(samples == sample)
        n_bags = -(-len(rows) // size)
        if points is None:
            parts = np.array_split(rng.permutation(rows), n_bags)
            # Twice the size of a bag holds enough cells that are not among its targets.
            draws = (rng.choice(rows, min(2 * size, len(rows)), replace=False) for _ in parts)
            bags += [_with_context(part, drawn, size) for part, drawn in zip(parts, draws, strict=True)]
        else:
            parts = divide(points, rows, n_bags)
            tree = cKDTree(points[rows])
            for part in parts:
                _, nearest = tree.query(points[part].mean(0), k=min(2 * size, len(rows)))
                bags.append(_with_context(part, rows[np.atleast_1d(nearest)], size))
    return bags


def divide(points: np.ndarray, rows: np.ndarray, n_parts: int) -> list[np.ndarray]:
    """Divide ``rows`` into compact parts of nearly equal size, by halving along the direction of largest variance."""
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


def _with_context(part: np.ndarray, candidates: np.ndarray, size: int) -> Bag:
    others = candidates[~np.isin(candidates, part)]
    return Bag(np.concatenate([part, others[: size - len(part)]]), len(part))


def similarity_points(log_values: sparse.csr_matrix, seed: int, n_components: int = 20) -> np.ndarray:
    """Embed cells by their expression: truncated SVD of depth-normalised log values.

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
    linear = with_data(log_values, np.expm1(log_values.data.astype(np.float32)))
    values = log_normalise(linear, totals=np.asarray(linear.sum(axis=1)).ravel())
    n_components = min(n_components, min(values.shape) - 1)
    if n_components < 1 or values.nnz == 0:
        return np.zeros((values.shape[0], 1))
    return values @ leading_components(values, n_components, seed).T


def in_spacings(points: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Centre the coordinates of each sample, and divide them by the median distance to the nearest neighbour.

    Coordinates in pixels, micrometres or rows of an array become comparable: 1 is the distance between two spots.

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

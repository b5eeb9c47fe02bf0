"""What methods have to predict, and what they may see for it.

To add a task, write a function that takes a `Source`, the name of the task and the number in it, and list it in
`_BUILDERS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.evaluate.hidden import choose_panel, hide_entries, hide_genes, thin_counts, visible, without_columns
from scanpy_sct.evaluate.observed import Observed, at_entries
from scanpy_sct.evaluate.source import Source
from scanpy_sct.plan.bags import plan_bags, similarity_points
from scanpy_sct.read.expression import Expression, read_expression

if TYPE_CHECKING:
    from collections.abc import Callable

_BAG_SIZE = 50
# Fewer genes are refused wherever expression is read.
_MIN_PANEL = 50
# Genes that fewer cells express are not asked about where whole genes are hidden.
_MIN_RATE = 0.01
_MIN_EXPRESSING = 3
_SHARE_OF_GENES = 0.1
_SHARE_SEEN_OF_MOLECULES = 0.9
# So many entries are enough to judge by; of more, some are drawn. A panel leaves most of a data set to predict.
_MOST_ENTRIES = 5_000_000
_MOST_ENTRIES_OF_PANEL = 2_000_000


@dataclass(frozen=True, eq=False)
class Task:
    """What a method may see, and what only its judge knows."""

    name: str
    observed: Observed
    truth: np.ndarray | None
    """float32 (n_wanted,): measured values on the log scale of the input, in row-major order; None: see `test`."""
    test: sparse.csr_matrix | None
    """(n_cells, n_genes): the molecules that were kept from the method, where counts were thinned."""
    rates: np.ndarray
    """float (n_genes,): share of all cells that express the gene, before anything was hidden."""
    seed: int
    """Chance of the resampling comes from it."""

    @property
    def hides_genes(self) -> bool:
        """Whether genes are hidden in all cells."""
        return parse_task(self.name)[0] in ("genes", "panel")


def parse_task(name: str) -> tuple[str, int]:
    """Split the name of a task into its kind and its number (0 where it has none).

    Raises
    ------
    ValueError
        No such task.
    """
    found = re.fullmatch(r"(entries|panel)_(\d+)|(genes|thinning)", name) if isinstance(name, str) else None
    if found is None:
        msg = (
            "`tasks` must be some of 'entries_15' (or another percentage), 'genes', 'thinning', 'panel_300' (or "
            f"another number of genes); found {name!r}."
        )
        raise ValueError(msg)
    kind, number = found[1] or found[3], int(found[2] or 0)
    if kind == "entries" and not 0 < number < 100:
        msg = f"Task {name!r} of `tasks` must hide between 1 and 99 % of the entries."
        raise ValueError(msg)
    if kind == "panel" and number < _MIN_PANEL:
        msg = f"Task {name!r} of `tasks` leaves {number} genes; a panel needs at least {_MIN_PANEL}."
        raise ValueError(msg)
    return kind, number


def check_task(name: str, source: Source) -> None:
    """Refuse a task that the data cannot serve.

    Raises
    ------
    ValueError
        There is no such task, it needs counts, or there are not more genes than the panel holds.
    """
    kind, number = parse_task(name)
    if kind == "thinning" and source.full.scale != "counts":
        msg = (
            f"Task 'thinning' of `tasks` needs counts; adata was read as {source.full.scale} values. Name the layer "
            "with counts with `layer=`, or leave the task out."
        )
        raise ValueError(msg)
    n_genes = len(source.positions)
    if kind == "panel" and number >= n_genes:
        msg = f"Task {name!r} of `tasks` leaves nothing to predict: adata has {n_genes} genes of the model."
        raise ValueError(msg)
    if kind == "genes" and not _often_expressed(source).any():
        msg = (
            f"Task 'genes' of `tasks` needs genes that {_MIN_EXPRESSING} cells and {_MIN_RATE:.0%} of all express; "
            "there are none."
        )
        raise ValueError(msg)


def build_task(name: str, source: Source) -> Task:
    """Hide what the task hides; the same seed hides the same, whatever else is computed.

    Hidden values are taken out of the data before these are read again, so that nothing that is computed here from
    them can reach a method. What whoever made the data computed from them can: log-normalised values were divided by
    the total of the whole cell, and the unit of what is visible tells that total, and so the sum of what is hidden.
    Counts tell nothing of it.

    Raises
    ------
    ValueError
        The data cannot serve the task.
    """
    check_task(name, source)
    kind, number = parse_task(name)
    return _BUILDERS[kind](source, name, number)


def _entries(source: Source, name: str, percent: int) -> Task:
    """Hide a percentage of the measured entries, zeros and others alike.

    A cell of which nothing would stay visible is left whole and not tested.
    """
    measured = np.zeros(source.matrix.shape[1], dtype=bool)
    measured[source.columns] = True
    hidden = hide_entries(
        *source.matrix.shape, percent / 100, measured=measured, rng=source.chance(f"{name}: what is hidden")
    )
    hidden[visible(source.matrix[:, measured], hidden[:, measured]).getnnz(axis=1) == 0] = False
    if not hidden.any():
        msg = (
            f"Task {name!r} of `tasks` hides no entry of {source.n_cells} cells x {measured.sum()} genes; "
            "use a larger percentage, or a smaller one where cells express few genes."
        )
        raise ValueError(msg)
    shown = visible(source.matrix, hidden)
    hidden = hidden[:, source.columns]
    return _task(source, name, shown, source.shown, hidden, _some_of(source, name, hidden, _MOST_ENTRIES))


def _genes(source: Source, name: str, _: int) -> Task:
    """Hide one gene in ten in every cell, among those that are expressed often enough to judge by.

    A cell of which nothing stays visible is not tested.
    """
    candidates = np.zeros(source.matrix.shape[1], dtype=bool)
    candidates[source.columns] = _often_expressed(source)
    chance = source.chance(f"{name}: what is hidden")
    chosen = hide_genes(len(candidates), _SHARE_OF_GENES, candidates=candidates, rng=chance)
    if not chosen.any():  # where there are few candidates
        chosen[chance.choice(np.flatnonzero(candidates))] = True
    shown = without_columns(source.matrix, chosen)
    hidden = np.tile(chosen[source.columns], (source.n_cells, 1))
    testable = shown[:, source.columns].getnnz(axis=1) > 0
    wanted = _some_of(source, name, hidden & testable[:, None], _MOST_ENTRIES)
    return _task(source, name, shown, source.shown, hidden, wanted)


def _panel(source: Source, name: str, n_genes: int) -> Task:
    """Keep the most variable genes, as if no others had been measured."""
    counts = source.full.token_values[:, source.positions].expm1()
    panel = choose_panel(counts, n_genes)
    asked = ~panel & _often_expressed(source)
    shown = np.zeros(source.matrix.shape[1], dtype=bool)
    shown[source.columns[panel]] = True
    testable = source.matrix[:, shown].getnnz(axis=1) > 0
    wanted = np.outer(testable, asked)
    wanted = _some_of(source, name, wanted, _MOST_ENTRIES_OF_PANEL)
    if not wanted.any():
        msg = (
            f"Task {name!r} of `tasks` has nothing to judge by: no other gene is expressed by {_MIN_EXPRESSING} cells "
            f"and {_MIN_RATE:.0%} of all. Name a smaller panel, or leave the task out."
        )
        raise ValueError(msg)
    hidden = np.tile(~panel, (source.n_cells, 1))
    return _task(source, name, source.matrix, shown, hidden, wanted)


def _thinning(source: Source, name: str, _: int) -> Task:
    """Deal the molecules out: nine in ten are seen, the tenth judges.

    Genes of which no molecule is seen are left out, as the denoising task of Open Problems leaves them out.
    """
    seen, kept = thin_counts(source.matrix, _SHARE_SEEN_OF_MOLECULES, rng=source.chance(f"{name}: what is hidden"))
    genes = seen[:, source.columns].getnnz(axis=0) > 0
    hidden = np.zeros((source.n_cells, genes.sum()), dtype=bool)
    return _task(source, name, seen, source.shown, hidden, ~hidden, genes, kept[:, source.columns[genes]])


_BUILDERS: dict[str, Callable[[Source, str, int], Task]] = {
    "entries": _entries,
    "genes": _genes,
    "panel": _panel,
    "thinning": _thinning,
}


def _task(
    source: Source,
    name: str,
    matrix: sparse.csr_matrix,
    shown: np.ndarray,
    hidden: np.ndarray,
    wanted: np.ndarray,
    genes: np.ndarray | slice = slice(None),
    test: sparse.csr_matrix | None = None,
) -> Task:
    """Read what is left visible anew.

    Parameters
    ----------
    matrix
        (n_cells, n_vars): the data without what is hidden.
    shown
        bool (n_vars,): columns that count as measured.
    hidden, wanted
        bool (n_cells, n_genes), see :class:`~scanpy_sct.evaluate.observed.Observed`.
    genes
        Which of `source.positions` take part: n_genes of them.
    test
        (n_cells, n_genes) counts that judge; None: the data judge.
    """
    seen = AnnData(X=matrix[:, shown], obs=source.obs.copy(), var=pd.DataFrame(index=source.names[shown]))
    if source.full.coordinates is not None:
        seen.obsm["spatial"] = source.full.coordinates.copy()
    expression = read_expression(seen, source.vocabulary, token_scale="log1p_counts", library_key=source.library_key)
    expected = np.zeros(len(source.vocabulary), dtype=bool)
    expected[source.full.genes.positions[shown[source.full.genes.columns]]] = True
    if expression.scale != source.full.scale or not np.array_equal(expression.measured, expected):
        msg = (
            f"adata was read as {source.full.scale} values, and as {expression.scale} ones after some were hidden, so "
            "that it cannot be evaluated. Use counts: name their layer with `layer=`."
        )
        raise ValueError(msg)
    positions = source.positions[genes]
    observed = Observed(
        counts=sparse.csr_matrix(expression.token_values[:, positions].expm1()),
        log=expression.log_values[:, positions],
        hidden=hidden,
        wanted=wanted,
        samples=expression.samples,
        bags=_bag_of_each_cell(expression, source.chance(f"{name}: bags")),
        seed=int(source.chance(f"{name}: methods").integers(2**31)),
        coordinates=source.full.coordinates,
        cell_types=source.cell_types,
        seen=seen,
        library_key=source.library_key,
        checkpoint=source.checkpoint,
        positions=positions,
    )
    truth = None
    if test is None:
        log = source.full.log_values[:, positions]
        truth = at_entries(wanted, lambda rows: log[rows].toarray())
    return Task(
        name=name,
        observed=observed,
        truth=truth,
        test=test,
        rates=source.n_expressing[genes] / source.n_cells,
        seed=int(source.chance(f"{name}: resampling").integers(2**31)),
    )


def _some_of(source: Source, name: str, wanted: np.ndarray, most: int) -> np.ndarray:
    """Draw some of the entries where there are more than `most`; bool (n_cells, n_genes)."""
    # A little under the limit, so that chance does not go beyond it.
    share = 0.99 * most / max(np.count_nonzero(wanted), 1)
    if share >= 0.99:
        return wanted
    return wanted & hide_entries(*wanted.shape, share, rng=source.chance(f"{name}: what is asked"))


def _often_expressed(source: Source) -> np.ndarray:
    """Genes that enough cells express to judge by, bool (n_genes,)."""
    return source.n_expressing >= max(_MIN_EXPRESSING, _MIN_RATE * source.n_cells)


def _bag_of_each_cell(expression: Expression, rng: np.random.Generator) -> np.ndarray:
    """Find the number of the bag in which each cell is a target, (n_cells,)."""
    points = expression.coordinates
    if points is None:
        points = similarity_points(expression.log_values, seed=int(rng.integers(2**31)))
    bag_of = np.empty(len(expression.samples), dtype=np.int64)
    for number, bag in enumerate(plan_bags(expression.samples, _BAG_SIZE, rng, points)):
        bag_of[bag.rows[: bag.n_targets]] = number
    return bag_of

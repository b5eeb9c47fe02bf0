"""What imputation methods have to predict, and what they may see for it.

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

from scanpy_sct.evaluate.masking import choose_panel, mask_entries, thin_counts
from scanpy_sct.evaluate.observed import Observed
from scanpy_sct.evaluate.source import TOKEN_SCALE, Source
from scanpy_sct.plan.bags import CellsToPlan, bag_points, plan_bags
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellReader
from scanpy_sct.sparse_tools import keep_entries, without_masked

if TYPE_CHECKING:
    from collections.abc import Callable

    from scanpy_sct.read.reader import CellBlock

_BAG_SIZE = 50
# With fewer genes, reading raises an error.
_MIN_PANEL = 50
# Genes that are detected in fewer cells are not evaluated where whole genes are masked.
_MIN_RATE = 0.01
_MIN_DETECTED = 3
_OFTEN = f"that are detected in {_MIN_DETECTED} cells and in {_MIN_RATE:.0%} of all"
_FRACTION_OF_GENES = 0.1
_VISIBLE_FRACTION_OF_MOLECULES = 0.9
# Of more target entries, some are drawn: these are enough. A panel leaves most of a data set to predict.
_MOST_ENTRIES = 5_000_000
_MOST_ENTRIES_OF_PANEL = 2_000_000
# These strings seed which entries are masked and which of them are drawn: other strings would give other tasks.
_MASK, _DRAW = "what is hidden", "what is asked"


@dataclass(frozen=True, eq=False)
class Task:
    """What a method may see, and the values it is compared with."""

    name: str
    observed: Observed
    truth: np.ndarray | None
    """float32 (n_targets,): measured values on the log scale of the input, in row-major order; None: see `test`."""
    test: sparse.csr_matrix | None
    """(n_cells, n_genes): held-out molecules, where counts were thinned."""
    rates: np.ndarray
    """float (n_genes,): detection rate of each gene over all cells, before anything was masked."""
    seed: int
    """Seed of the resampling."""

    @property
    def masks_genes(self) -> bool:
        """Whether genes are masked in all cells."""
        return self.name.startswith(("genes", "panel"))


def parse_task(name: str) -> tuple[str, int]:
    """Split the name of a task into its kind and its number (0 where it has none); a ValueError for other names."""
    found = re.fullmatch(r"(entries|panel)_(\d+)|(genes|thinning)", name) if isinstance(name, str) else None
    if found is None:
        msg = (
            "`tasks` must be some of 'entries_15' (or another percentage), 'genes', 'thinning', 'panel_300' (or "
            f"another number of genes); found {name!r}."
        )
        raise ValueError(msg)
    kind, number = found[1] or found[3], int(found[2] or 0)
    if kind == "entries" and not 0 < number < 100:
        msg = f"Task {name!r} of `tasks` must mask between 1 and 99 % of the entries."
        raise ValueError(msg)
    if kind == "panel" and number < _MIN_PANEL:
        msg = f"Task {name!r} of `tasks` leaves {number} genes; a panel must have at least {_MIN_PANEL}."
        raise ValueError(msg)
    return kind, number


def build_task(name: str, source: Source) -> Task:
    """Mask a part of the data; the same seed masks the same part, whatever else is computed.

    Masked values are removed before the data are read again, so that nothing computed from them can reach a method.
    Only log-normalised values, which were divided by the total of the whole cell, still reveal this total. Raises a
    ValueError where the data do not allow the task: no counts to thin, or too few genes.
    """
    kind, number = parse_task(name)
    return _BUILDERS[kind](source, name, number)


def _entries(source: Source, name: str, percent: int) -> Task:
    """Mask a percentage of the measured entries, zeros and others alike.

    A cell of which nothing would stay visible is not masked and not tested.
    """
    measured = np.zeros(source.matrix.shape[1], dtype=bool)
    measured[source.columns] = True
    rng = source.generator(f"{name}: {_MASK}")
    masked = mask_entries(*source.matrix.shape, percent / 100, measured=measured, rng=rng)
    masked[without_masked(source.matrix[:, measured], masked[:, measured]).getnnz(axis=1) == 0] = False
    if not masked.any():
        msg = (
            f"Task {name!r} of `tasks` masks no entry of {source.n_cells} cells x {measured.sum()} genes; "
            "use a larger percentage, or a smaller one where few genes are detected in a cell."
        )
        raise ValueError(msg)
    visible = without_masked(source.matrix, masked)
    masked = masked[:, source.columns]
    return _task(source, name, visible, source.visible, masked, _some_of(source, name, masked, _MOST_ENTRIES))


def _genes(source: Source, name: str, _: int) -> Task:
    """Mask one gene in ten in every cell, among those that are detected often enough.

    A cell of which nothing stays visible is not tested.
    """
    if not _often_detected(source).any():
        msg = f"Task 'genes' of `tasks` needs genes {_OFTEN}; there are none. Leave the task out."
        raise ValueError(msg)
    candidates = np.zeros(source.matrix.shape[1], dtype=bool)
    candidates[source.columns] = _often_detected(source)
    rng = source.generator(f"{name}: {_MASK}")
    chosen = mask_entries(1, len(candidates), _FRACTION_OF_GENES, measured=candidates, rng=rng)[0]
    if not chosen.any():  # where there are few candidates
        chosen[rng.choice(np.flatnonzero(candidates))] = True
    visible = keep_entries(source.matrix, ~chosen[source.matrix.indices])
    masked = np.tile(chosen[source.columns], (source.n_cells, 1))
    testable = visible[:, source.columns].getnnz(axis=1) > 0
    targets = _some_of(source, name, masked & testable[:, None], _MOST_ENTRIES)
    return _task(source, name, visible, source.visible, masked, targets)


def _panel(source: Source, name: str, n_genes: int) -> Task:
    """Keep the most variable genes, as if no others had been measured."""
    if n_genes >= len(source.gene_index):
        n_known = len(source.gene_index)
        msg = (
            f"Task {name!r} of `tasks` leaves nothing to predict: adata has {n_known} genes of the model. Use a "
            "smaller panel, or leave the task out."
        )
        raise ValueError(msg)
    counts = source.cells.token_values[:, source.gene_index].expm1()
    panel = choose_panel(counts, n_genes)
    kept = np.zeros(source.matrix.shape[1], dtype=bool)
    kept[source.columns[panel]] = True
    testable = source.matrix[:, kept].getnnz(axis=1) > 0
    targets = np.outer(testable, ~panel & _often_detected(source))
    targets = _some_of(source, name, targets, _MOST_ENTRIES_OF_PANEL)
    if not targets.any():
        msg = (
            f"Task {name!r} of `tasks` has nothing to predict: there are no other genes {_OFTEN}. Use a smaller panel, "
            "or leave the task out."
        )
        raise ValueError(msg)
    masked = np.tile(~panel, (source.n_cells, 1))
    return _task(source, name, source.matrix, kept, masked, targets)


def _thinning(source: Source, name: str, _: int) -> Task:
    """Split the molecules: nine in ten are visible, the tenth is held out.

    Genes of which no molecule is visible are left out, as in the denoising task of Open Problems.
    """
    if source.scale != "counts":
        msg = (
            f"Task 'thinning' of `tasks` needs counts; adata was read as {source.scale} values. Name the layer "
            "with counts with `layer=`, or leave the task out."
        )
        raise ValueError(msg)
    rng = source.generator(f"{name}: {_MASK}")
    visible, held_out = thin_counts(source.matrix, _VISIBLE_FRACTION_OF_MOLECULES, rng=rng)
    genes = visible[:, source.columns].getnnz(axis=0) > 0
    masked = np.zeros((source.n_cells, genes.sum()), dtype=bool)
    return _task(source, name, visible, source.visible, masked, ~masked, genes, held_out[:, source.columns[genes]])


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
    kept: np.ndarray,
    masked: np.ndarray,
    targets: np.ndarray,
    genes: np.ndarray | slice = slice(None),
    test: sparse.csr_matrix | None = None,
) -> Task:
    """Read again what is left visible.

    `matrix` (n_cells, n_vars) are the data without masked entries, `kept` (n_vars,) the columns that count as
    measured, `genes` the ones of `source.gene_index` that take part. See `Observed` for `masked` and `targets`, `Task`
    for `test`.
    """
    visible = AnnData(X=matrix[:, kept], obs=source.obs.copy(), var=pd.DataFrame(index=source.names[kept]))
    if source.cells.coordinates is not None:
        visible.obsm["spatial"] = source.cells.coordinates.copy()
    options = ReadOptions(library_key=source.library_key, scale=source.given_scale)
    reader = CellReader(visible, source.vocabulary, TOKEN_SCALE, options)
    expected = np.zeros(len(source.vocabulary), dtype=bool)
    expected[source.genes.gene_index[kept[source.genes.columns]]] = True
    if reader.scale != source.scale or not np.array_equal(reader.measured, expected):
        msg = (
            f"adata was read as {source.scale} values, but as {reader.scale} ones after some were masked; it cannot be "
            "evaluated. Use counts: name their layer with `layer=`."
        )
        raise ValueError(msg)
    cells, gene_index = reader.block(), source.gene_index[genes]
    if source.cells.hidden is not None:  # no truth where a sample lacks the gene
        targets = targets & ~source.cells.hidden[:, gene_index].toarray()
    column = np.full(len(source.vocabulary), -1)
    column[reader.genes.gene_index] = reader.genes.columns
    observed = Observed(
        counts=sparse.csr_matrix(cells.token_values[:, gene_index].expm1()),
        log_values=cells.log_values[:, gene_index],
        masked=masked,
        targets=targets,
        samples=cells.samples,
        bags=_bag_of_each_cell(cells, source.generator(f"{name}: bags")),
        seed=int(source.generator(f"{name}: methods").integers(2**31)),
        coordinates=source.cells.coordinates,
        labels=source.labels,
        visible=visible,
        library_key=source.library_key,
        scale=source.given_scale,
        checkpoint=source.checkpoint,
        gene_index=gene_index,
        columns=column[gene_index],
    )
    truth = None
    if test is None:
        log_values = source.cells.log_values[:, gene_index]
        truth = observed.at_targets(lambda rows: log_values[rows].toarray())
    rates = source.n_detected[genes] / source.n_cells
    return Task(name, observed, truth, test, rates, int(source.generator(f"{name}: resampling").integers(2**31)))


def _some_of(source: Source, name: str, targets: np.ndarray, most: int) -> np.ndarray:
    """Draw some of the entries where there are more than `most`; bool (n_cells, n_genes)."""
    # A little under the limit, so that the draw does not exceed it.
    fraction = 0.99 * most / max(np.count_nonzero(targets), 1)
    if fraction >= 0.99:
        return targets
    return targets & mask_entries(*targets.shape, fraction, rng=source.generator(f"{name}: {_DRAW}"))


def _often_detected(source: Source) -> np.ndarray:
    """Genes that are detected in enough cells to be evaluated, bool (n_genes,)."""
    return source.n_detected >= max(_MIN_DETECTED, _MIN_RATE * source.n_cells)


def _bag_of_each_cell(cells: CellBlock, rng: np.random.Generator) -> np.ndarray:
    """Find the number of the bag in which each cell is a target, (n_cells,)."""
    seed = 0 if cells.coordinates is not None else int(rng.integers(2**31))
    points = bag_points("auto", CellsToPlan(cells.coordinates, lambda: cells.log_values, seed))
    bag_of = np.empty(cells.n_cells, dtype=np.int64)
    for number, bag in enumerate(plan_bags(cells.samples, _BAG_SIZE, rng, points)):
        bag_of[bag.rows[: bag.n_targets]] = number
    return bag_of

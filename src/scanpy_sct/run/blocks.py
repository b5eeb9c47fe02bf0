"""Run a task on blocks of cells, one after the other: in this process, or on the workers of a dask cluster."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from scanpy_sct.run.progress import block_progress, quiet

if TYPE_CHECKING:
    from distributed import Client, Future

    from scanpy_sct.read.reader import CellReader


@dataclass(frozen=True)
class StoredCells:
    """Some cells as they are stored."""

    rows: np.ndarray
    """Their rows in the object."""
    matrix: sparse.csr_matrix
    """Their expression, from :meth:`scanpy_sct.read.reader.CellReader.rows`."""
    hidden: sparse.csr_matrix | None = None
    """Their hidden entries, from :meth:`scanpy_sct.read.reader.CellReader.hidden_columns`."""


BlockTask = Callable[..., Any]
"""Function of the number of a block and its :class:`StoredCells`; workers need it to be picklable. More arguments may
follow, the same for all blocks."""

RETRIES = 3
"""How often a block is computed again after its worker failed."""
BLOCKS_PER_WORKER = 2
"""Blocks that are on their way at once: one is computed while the next is read."""

_one_block = threading.Lock()


def find_client(client: Client | None = None) -> Client | None:
    """Return the dask client to use: the given one, else the active one of this process, else None.

    Raises
    ------
    TypeError
        ``client`` is not a client.
    """
    # A client can only be active if somebody has imported its package.
    distributed = sys.modules.get("distributed")
    if client is not None:
        if distributed is None or not isinstance(client, distributed.Client):
            msg = f"client must be a distributed.Client or None, found {type(client).__name__}."
            raise TypeError(msg)
        return client
    try:
        return None if distributed is None else distributed.default_client()
    except ValueError:
        return None


def run_blocks(
    task: BlockTask,
    reader: CellReader,
    blocks: Sequence[np.ndarray],
    *shared: Any,
    client: Client | None = None,
    keep: bool = False,
    what: str = "blocks",
    numbers: Sequence[int] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield the number and the result of each block, in the order in which they are ready.

    Parameters
    ----------
    task
        What to do with a block.
    reader
        The cells.
    blocks
        Rows of the cells of each block.
    shared
        More arguments of the task, which are sent to each worker once.
    client
        Compute on the workers of this client, one block at a time on each; None: here.
    keep
        With a client: results stay on the workers, and their futures are yielded.
    what
        Name of the progress bar.
    numbers
        Blocks to compute; None: all.
    """
    numbers = range(len(blocks)) if numbers is None else numbers
    sizes = [len(blocks[number]) for number in numbers]
    if client is None:
        found = ((number, task(number, read_cells(reader, blocks[number]), *shared)) for number in numbers)
    else:
        found = _on_cluster(task, reader, {number: blocks[number] for number in numbers}, shared, client, keep)
    if len(sizes) == 1 and client is None:  # the task has progress bars of its own
        yield from found
        return
    yield from block_progress(found, lambda item: len(blocks[item[0]]), sum(sizes), what)


def read_cells(reader: CellReader, rows: np.ndarray) -> StoredCells:
    """Read some cells; the expression of all cells in memory is not copied."""
    is_all = len(rows) == reader.n_cells and bool((np.diff(rows) == 1).all())
    chosen = None if is_all else rows
    return StoredCells(rows, reader.rows(chosen), reader.hidden_columns(chosen))


def _on_cluster(
    task: BlockTask,
    reader: CellReader,
    blocks: dict[int, np.ndarray],
    shared: tuple[Any, ...],
    client: Client,
    keep: bool,
) -> Iterator[tuple[int, Any]]:
    """Yield the number and the result, or its future, of each block; no more blocks are sent than workers can take."""
    from distributed import as_completed

    sender = _Sender(client, reader, (task, *shared))
    waiting = iter(blocks.items())
    n_sent = BLOCKS_PER_WORKER * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    number_of: dict[str, int] = {}

    def submit(number: int, rows: np.ndarray) -> Future[Any]:
        future = sender.submit(number, rows)
        number_of[future.key] = number
        return future

    running = as_completed([submit(*item) for item in islice(waiting, n_sent)], loop=client.loop)
    for future in running:
        number = number_of.pop(future.key)
        if future.status in ("lost", "cancelled"):
            running.add(submit(number, blocks[number]))
            continue
        yield number, future if keep and future.status == "finished" else future.result()
        for item in islice(waiting, 1):
            running.add(submit(*item))


class _Sender:
    """Sends blocks to workers; what this process has sent and a failed worker has lost is sent again."""

    def __init__(self, client: Client, reader: CellReader, shared: tuple[Any, ...]) -> None:
        self.client, self.reader, self.shared = client, reader, shared
        self.attempts: dict[int, int] = {}
        self.sent = self._send_shared()

    def submit(self, number: int, rows: np.ndarray) -> Future[Any]:
        """Return the future of the result of a block."""
        attempt = self.attempts[number] = self.attempts.get(number, 0) + 1
        if attempt > 1 + RETRIES:
            msg = (
                f"Block {number} was lost {RETRIES + 1} times together with its worker, often for lack of memory. Look "
                "at the logs of the workers; give them more memory, or choose a smaller scanpy_sct.settings.block_size."
            )
            raise RuntimeError(msg)
        if attempt > 1:
            self.sent = self._send_shared()
        lazy = self.reader.lazy_rows(rows)
        # What is not in memory is read by the worker.
        matrix = self._scatter(self.reader.rows(rows)) if lazy is None else self.client.compute(lazy)
        hidden = self.reader.hidden_columns(rows)
        hidden = None if hidden is None else self._scatter(hidden)
        return self.client.submit(_run_task, number, rows, matrix, hidden, *self.sent, pure=False, retries=RETRIES)

    def _scatter(self, value: Any) -> Future[Any]:
        return self.client.scatter(value, hash=False)

    def _send_shared(self) -> list[Future[Any]]:
        return [self.client.scatter(each, broadcast=True, hash=False) for each in self.shared]


def _run_task(
    number: int,
    rows: np.ndarray,
    matrix: sparse.csr_matrix,
    hidden: sparse.csr_matrix | None,
    task: BlockTask,
    *shared: Any,
) -> Any:
    """Run a task on a worker; one at a time, since each uses all cores, or the device, of the worker."""
    with _one_block, quiet():
        return task(number, StoredCells(rows, matrix, hidden), *shared)

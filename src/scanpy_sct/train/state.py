"""Files of a training run: its state, to continue from, and its log."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"

STATE_FILE, GOOD_FILE, LOG_FILE = "training_state.ckpt", "good_state.ckpt", "log.csv"


@dataclass
class Progress:
    """How far a run has come, kept with its weights."""

    step: int = 0
    """Steps done."""
    cells: int = 0
    """Cells seen."""
    minutes: float = 0.0
    """Time spent, over all starts of the run."""
    loss_sum: float = 0.0
    """Sum of the losses since the last report."""
    n_losses: int = 0
    best_loss: float = float("inf")
    """Lowest loss on held-out cells so far."""


def save_state(fabric: Fabric, folder: Path, parts: dict[str, Any], progress: Progress, name: str = STATE_FILE) -> None:
    """Write the state beside the old one, then replace it in one step: a killed process leaves a complete one."""
    partial = folder / (name + ".partial")
    fabric.save(partial, {**parts, "progress": asdict(progress)})
    if fabric.is_global_zero:
        partial.replace(folder / name)
    fabric.barrier()


def go_back(folder: Path) -> str:
    """Replace the last state by the last good one; return a sentence that says from where the run continues."""
    if not (folder / GOOD_FILE).exists():
        (folder / STATE_FILE).unlink(missing_ok=True)
        return "No report was good yet: the same call starts from the beginning."
    shutil.copyfile(folder / GOOD_FILE, folder / (STATE_FILE + ".partial"))
    (folder / (STATE_FILE + ".partial")).replace(folder / STATE_FILE)
    return f"The same call continues from the last good report, which is kept in {folder}."


def check_same_run(folder: Path, facts: dict[str, Any]) -> None:
    """Check that a run was started with the same data and settings; record those of a new run.

    Raises
    ------
    ValueError
        Something differs that cannot change within a run.
    """
    file = folder / RUN_FILE
    facts = json.loads(json.dumps(facts))
    if not file.exists():
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        partial.replace(file)
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    changed = [
        f"{name}: {before.get(name)!r} -> {value!r}" for name, value in facts.items() if before.get(name) != value
    ]
    if changed:
        msg = (
            f"{folder} holds a run with other settings ({'; '.join(changed)[:500]}). Choose another output, or delete "
            "this folder to start from the beginning."
        )
        raise ValueError(msg)


def load_state(fabric: Fabric, folder: Path, parts: dict[str, Any]) -> Progress:
    """Load the stored state, if there is one, into ``parts``."""
    file = folder / STATE_FILE
    if not file.exists():
        return Progress()
    rest = fabric.load(file, dict(parts))
    progress = Progress(**rest["progress"])
    logger.info("Continuing at step %d from %s", progress.step, folder)
    return progress


def last_report(folder: Path) -> dict[str, str] | None:
    """Return the last row of the log, None where there is none."""
    if not (folder / LOG_FILE).exists():
        return None
    with (folder / LOG_FILE).open(newline="") as handle:
        return list(csv.DictReader(handle))[-1]


class Log:
    """One row of numbers for each report, in log.csv and, where tensorboard is installed, for TensorBoard.

    Rows behind ``first_step`` are dropped: a run that was killed writes them again.
    """

    def __init__(self, folder: Path, first_step: int, *, is_writer: bool) -> None:
        self.file, self.is_writer, self.board = folder / LOG_FILE, is_writer, None
        if not is_writer:
            return
        self._drop_after(first_step)
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder / "tensorboard", purge_step=first_step + 1)

    def add(self, row: dict[str, float]) -> None:
        """Write a row; ``row`` always has the same names, ``step`` among them."""
        if not self.is_writer:
            return
        is_new = not self.file.exists()
        with self.file.open("a", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(
                {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()}
            )
        logger.info(" ".join(f"{name}={value:.4g}" for name, value in row.items()))
        if self.board is not None:
            for name, value in row.items():
                self.board.add_scalar(name, value, int(row["step"]))

    def close(self) -> None:
        """Finish the file for TensorBoard."""
        if self.board is not None:
            self.board.close()

    def _drop_after(self, first_step: int) -> None:
        if not self.file.exists():
            return
        with self.file.open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        kept = [row for row in rows if int(row["step"]) <= first_step]
        if len(kept) == len(rows):
            return
        if not kept:
            self.file.unlink()
            return
        partial = self.file.with_suffix(".partial")
        with partial.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(kept[0]))
            writer.writeheader()
            writer.writerows(kept)
        partial.replace(self.file)

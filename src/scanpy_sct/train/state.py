"""Files of a training run: its state and its log."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
STATE_FILE, GOOD_FILE, LOG_FILE = "training_state.ckpt", "good_state.ckpt", "log.csv"


@dataclass
class Progress:
    """Progress of a run, saved with its weights."""

    step: int = 0
    """Steps done."""
    cells: int = 0
    """Cells trained on."""
    minutes: float = 0.0
    """Training time, over all restarts."""
    loss_sum: float = 0.0
    """Sum of the losses since the last report."""
    n_losses: int = 0
    best_loss: float = float("inf")
    """Lowest loss on held-out cells so far."""


def save_state(fabric: Fabric, folder: Path, parts: dict[str, Any], progress: Progress, name: str = STATE_FILE) -> None:
    """Replace the saved state atomically, so that a killed process leaves a complete one."""
    partial = folder / (name + ".partial")
    try:
        fabric.save(partial, {**parts, "progress": asdict(progress)})
    except (OSError, RuntimeError) as error:  # the writer of torch raises RuntimeErrors
        partial.unlink(missing_ok=True)
        msg = (
            f"The state of the training cannot be saved in {folder}: {error}. Free some space and repeat the call, "
            "which continues from the state that was saved before."
        )
        raise OSError(getattr(error, "errno", None), msg) from error
    if fabric.is_global_zero:
        partial.replace(folder / name)
    fabric.barrier()


def go_back(folder: Path) -> str:
    """Restore the state of the last good report; return a sentence for the error message."""
    if not (folder / GOOD_FILE).exists():
        (folder / STATE_FILE).unlink(missing_ok=True)
        return "No report was good yet: the same call starts from the beginning."
    shutil.copyfile(folder / GOOD_FILE, folder / (STATE_FILE + ".partial"))
    (folder / (STATE_FILE + ".partial")).replace(folder / STATE_FILE)
    return f"The same call continues from the last good report, which is kept in {folder}."


def check_same_run(folder: Path, facts: dict[str, Any]) -> None:
    """Save the data and settings of a new run; raise a ValueError if those of a continued run differ."""
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
            f"{folder} has a run with other settings ({'; '.join(changed)[:500]}). Choose another output, or delete "
            "this folder to start again."
        )
        raise ValueError(msg)


def load_state(fabric: Fabric, folder: Path, parts: dict[str, Any]) -> Progress:
    """Load the saved state into ``parts``, if there is one."""
    file = folder / STATE_FILE
    if not file.exists():
        return Progress()
    rest = fabric.load(file, dict(parts))
    progress = Progress(**rest["progress"])
    logger.info("Continuing at step %d from %s", progress.step, folder)
    return progress


def last_report(folder: Path) -> dict[str, Any] | None:
    """Return the last row of the log, None if there is none."""
    file = folder / LOG_FILE
    return pd.read_csv(file).iloc[-1].to_dict() if file.exists() else None


class Log:
    """Write one row per report to log.csv and, if it is installed, to TensorBoard.

    Rows after ``first_step`` are dropped, since a run that was killed writes them again.
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
        """Write a row; all rows have the same names, ``step`` among them."""
        if not self.is_writer:
            return
        strings = {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()}
        pd.DataFrame([strings]).to_csv(self.file, mode="a", header=not self.file.exists(), index=False)
        logger.info(" ".join(f"{name}={value:.4g}" for name, value in row.items()))
        if self.board is not None:
            for name, value in row.items():
                self.board.add_scalar(name, value, int(row["step"]))

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self.board is not None:
            self.board.close()

    def _drop_after(self, first_step: int) -> None:
        if not self.file.exists():
            return
        rows = pd.read_csv(self.file, dtype=str)
        kept = rows[rows["step"].astype(int) <= first_step]
        partial = self.file.with_suffix(".partial")
        if len(kept):
            kept.to_csv(partial, index=False)
            partial.replace(self.file)
        else:
            self.file.unlink()

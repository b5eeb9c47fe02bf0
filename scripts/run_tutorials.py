"""Run the notebooks of `tutorials/` and keep their outputs.

    python scripts/run_tutorials.py            # all
    python scripts/run_tutorials.py 02 04      # some, by the beginning of their names

An error or a message on the standard error stops it. Needs `.[docs]`, `ipywidgets`, `leidenalg` and `igraph`. Data are
downloaded, or read from the folder that `SCANPY_SCT_DATA_DIR` names.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

# What squidpy says about its docstrings when it is imported, and about points without values.
os.environ["PYTHONWARNINGS"] = "ignore::SyntaxWarning,ignore:No data for colormapping:UserWarning"
FOLDER = Path(__file__).resolve().parents[1] / "tutorials"


def main(*beginnings: str) -> None:
    """Run notebooks in place."""
    for file in sorted(FOLDER.glob("[0-9]*.ipynb")):
        if file.name.startswith(beginnings or ("",)):
            started = time.monotonic()
            run(file)
            print(f"{file.name}: {time.monotonic() - started:.0f} s, {file.stat().st_size / 1e6:.2f} MB")


def run(file: Path) -> None:
    """Run one notebook, and write it only if nothing went wrong."""
    notebook = nbformat.read(file, as_version=4)
    # Times would change with every run.
    NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False).execute(cwd=str(FOLDER))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                msg = f"{file.name} writes to the standard error:\n{output.text}\nin\n{cell.source}"
                raise SystemExit(msg)
    nbformat.write(notebook, file)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Run the notebooks of `tutorials/`, and keep their outputs or compare them with those that are kept.

    python scripts/run_tutorials.py            # run all and keep their outputs
    python scripts/run_tutorials.py 02 04      # some, by the beginning of their names
    python scripts/run_tutorials.py --check    # write nothing; fail where a kept output is out of date

An error or a message on the standard error stops it. Needs `.[docs,tutorials]`. Tissue sections are downloaded, or read
from the folder that `SCANPY_SCT_DATA_DIR` names; `--check`, which downloads nothing, looks for them in that folder or
in `../shared/data`, and skips the notebooks that need them where they are absent.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tutorials"
DATA_VARIABLE = "SCANPY_SCT_DATA_DIR"

# What squidpy says about its docstrings when it is imported, and about points without values.
IGNORED_WARNINGS = "ignore::SyntaxWarning,ignore:No data for colormapping:UserWarning"
# Lines of `pp.check` that depend on the machine.
OF_MACHINE = re.compile(r"^(?:device|expected time) .*$", flags=re.MULTILINE)
# The size of a figure depends on its fonts.
FIGURE_SIZE = re.compile(r"(?<=<Figure size )\S+")
# 1,234  0.56  -3e-05; not the digits of `10x15`, of a hash or of a name such as CD3E.
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)")
# numpy fills shorter numbers of an array up with spaces.
PADDING = re.compile(r"\s+(?=[,\])])")
NUMBERS_VARY = "numbers-vary"
"""Tag of cells that measure time or memory: their words are compared, their numbers are not."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("beginnings", nargs="*", metavar="NAME", help="beginnings of names; default: all")
    parser.add_argument("--check", action="store_true", help="compare the outputs with those that are kept")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks to run at a time")
    options = parser.parse_args()
    beginnings = tuple(options.beginnings) or ("",)
    files = [file for file in sorted(FOLDER.glob("[0-9]*.ipynb")) if file.name.startswith(beginnings)]
    if not files:
        raise SystemExit(f"No notebook in {FOLDER.name}/ begins with {' or '.join(options.beginnings)}.")
    prepare_environment(check=options.check)
    # Processes, since the clients of kernels are not made for threads.
    with ProcessPoolExecutor(options.jobs) as pool:
        problems = [problem for found in pool.map(partial(run, check=options.check), files) for problem in found]
    if problems:
        raise SystemExit("\n\n".join(problems))


def prepare_environment(*, check: bool) -> None:
    """Set what the kernels inherit: no warnings of other packages, commands of this environment, the data."""
    os.environ["PYTHONWARNINGS"] = IGNORED_WARNINGS
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if check and DATA_VARIABLE not in os.environ:
        os.environ[DATA_VARIABLE] = str(ROOT.parent / "shared" / "data")


def run(file: Path, *, check: bool) -> list[str]:
    """Run a notebook, write it unless it is checked, and return what differs from what was kept."""
    import nbformat

    kept = nbformat.read(file, as_version=4)
    folder = Path(os.environ.get(DATA_VARIABLE, ""))
    if check and needs_data(kept) and not folder.is_dir():
        print(f"{file.name}: SKIPPED, data not found at {folder}; set {DATA_VARIABLE} to their folder", flush=True)
        return []
    started = time.monotonic()
    notebook = executed(file)
    seconds = time.monotonic() - started
    if not check:
        nbformat.write(notebook, file)
    print(f"{file.name}: {seconds:.0f} s, {file.stat().st_size / 1e6:.2f} MB", flush=True)
    return list(differences(file.name, kept, notebook)) if check else []


def needs_data(notebook: Any) -> bool:
    """Return whether a notebook reads tissue sections, which do not come with a package."""
    return any("her2st(" in cell.source for cell in notebook.cells if cell.cell_type == "code")


def executed(file: Path) -> Any:
    """Return the notebook with the outputs of a run."""
    # Here, so that the comparison can be tested where notebooks are not run.
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    notebook = nbformat.read(file, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        # Without the settings of whoever runs it; what notebooks write goes where it is deleted.
        environment = os.environ | {"IPYTHONDIR": folder, "TMPDIR": folder}
        # Reached by files, not by ports, which other users of the machine could listen to.
        by_files = {"KernelManager": {"transport": "ipc", "ip": os.path.join(folder, "kernel")}}
        # Times would change with every run. A busy machine is several times slower than a quiet one.
        options = {"kernel_name": "python3", "timeout": 1800, "record_timing": False, "config": Config(by_files)}
        NotebookClient(notebook, **options).execute(cwd=str(FOLDER), env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
            check_errors(file.name, cell)
    return notebook


def joined(outputs: Any) -> list[Any]:
    """Join what was printed in pieces, whose number depends on time."""
    found: list[Any] = []
    for output in outputs:
        last = found[-1] if found else None
        if last and last.output_type == output.output_type == "stream" and last.name == output.name:
            last.text += output.text
        else:
            found.append(output)
    return found


def check_errors(name: str, cell: Any) -> None:
    """Stop if a cell wrote to the standard error: a warning does not belong into a tutorial."""
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            msg = f"{name} writes to the standard error:\n{output.text}\nin\n{cell.source}"
            raise SystemExit(msg)


def differences(name: str, kept: Any, found: Any) -> Iterator[str]:
    """Describe the cells whose outputs are not those that were kept."""
    for old, new in zip(kept.cells, found.cells, strict=True):
        if old.cell_type != "code":
            continue
        numbers_vary = NUMBERS_VARY in old.metadata.get("tags", ())
        pairs = zip_longest(texts(old.outputs), texts(new.outputs), fillvalue="(no output)")
        for before, after in pairs:
            if not same_text(before, after, numbers_vary=numbers_vary):
                yield (
                    f"{name}: an output is not the one that is kept; run `python scripts/run_tutorials.py {name[:2]}` "
                    f"and read the notebook again.\n--- cell\n{old.source}\n--- kept\n{before}\n--- now\n{after}"
                )


def texts(outputs: Any) -> list[str]:
    """Return what was printed, together, and then the text of each result, after the formats that it has."""
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    results = [
        f"{', '.join(sorted(output.data))}\n{output.data.get('text/plain', '')}"
        for output in outputs
        if output.output_type in {"display_data", "execute_result"}
    ]
    return [printed, *results]


def same_text(kept: str, found: str, *, numbers_vary: bool = False) -> bool:
    """Return whether two texts have the same words and nearly the same numbers.

    Numbers may differ by 5 %, and by 0.02 or, if they are integers, by 2: as much as another processor or another
    version of a library changes a result that depends on a cluster or a label of a few cells.
    """
    kept, found = (FIGURE_SIZE.sub("", OF_MACHINE.sub("", text)) for text in (kept, found))
    words = [PADDING.sub("", NUMBER.sub("#", text)).split() for text in (kept, found)]
    if words[0] != words[1]:
        return False
    return numbers_vary or all(map(near, NUMBER.findall(kept), NUMBER.findall(found)))


def near(kept: str, found: str) -> bool:
    """Return whether two numbers are nearly the same."""
    before, after = (float(text.replace(",", "")) for text in (kept, found))
    slack = 2.0 if before.is_integer() and after.is_integer() else 0.02
    return abs(before - after) <= slack + 0.05 * abs(before)


if __name__ == "__main__":
    main()

"""Compare the results of the same calls: twice, in two processes, with 1 and 2 threads, with another Python.

    python benchmarks/reproducible.py
    python benchmarks/reproducible.py --python ~/envs/py313/bin/python

imputes, embeds and annotates some blood cells with `sct-mini` in a process for each case, and prints the largest
difference of every result from that of the first process. Exits with status 1 if one is above the tolerance of
docs/concepts.md. With `--python`, that interpreter (in whose environment the package is installed) is one more case.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TOLERANCE = {"probabilities": 2e-3, "novelty": 2e-3}
"""Classifiers of a reference stop a little elsewhere in other versions of scikit-learn; for all other results 1e-4."""
N_CELLS = 300
MARKERS = {"B": ["CD79A", "MS4A1"], "Myeloid": ["LYZ", "CST3"], "NK": ["NKG7", "GNLY"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, action="append", default=[], help="another interpreter")
    parser.add_argument("--save", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.save:
        save(options.save)
        return
    cases = {
        "first process": (sys.executable, 1),
        "second process": (sys.executable, 1),
        "2 threads": (sys.executable, 2),
    }
    cases |= {str(path): (str(path), 1) for path in options.python}
    with tempfile.TemporaryDirectory() as folder:
        found = {case: run(*how, Path(folder) / f"{number}.npz") for number, (case, how) in enumerate(cases.items())}
    sys.exit(0 if report(found) else 1)


def run(python: str, n_threads: int, path: Path) -> dict[str, np.ndarray]:
    """Compute in a new process, and return what it saved."""
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = os.environ | dict.fromkeys(variables, str(n_threads))
    subprocess.run([python, __file__, "--save", str(path)], env=environment, check=True)
    with np.load(path) as arrays:
        return dict(arrays)


def save(path: Path) -> None:
    """Run all functions twice, and save the results of both."""
    first, again = ({f"{name}{suffix}": values for name, values in results().items()} for suffix in ("", " again"))
    np.savez(path, **first, **again)


def results() -> dict[str, np.ndarray]:
    """Return what the functions write."""
    import torch

    import scanpy_sct as sct

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sct.settings.progress = False
    cells = sct.datasets.pbmc68k()
    query, reference = cells[:N_CELLS].copy(), cells[N_CELLS:].copy()
    sct.tl.impute(query)
    sct.tl.embed(query)
    sct.tl.annotate(query, reference=reference, labels_key="bulk_labels")
    sct.tl.annotate(query, markers=MARKERS, key_added="by_markers")
    numbers = {
        "imputed": query.layers["sct"],
        "recovery": query.var["sct_recovery"],
        "embedding": query.obsm["X_sct"],
        "probabilities": query.obsm["sct_label_probs"],
        "novelty": query.obs["sct_label_novelty"],
        "marker probabilities": query.obsm["by_markers_probs"],
    }
    labels = {"labels": query.obs["sct_label"], "marker labels": query.obs["by_markers"]}
    return {name: np.asarray(values) for name, values in numbers.items()} | {
        name: np.asarray(values.astype(str), dtype=str) for name, values in labels.items()
    }


def report(found: dict[str, dict[str, np.ndarray]]) -> bool:
    """Print the largest differences, and return whether all are within the tolerance."""
    known = found["first process"]
    names = [name for name in known if not name.endswith(" again")]
    columns = {"same process, again": {name: known[f"{name} again"] for name in names}} | {
        case: values for case, values in found.items() if case != "first process"
    }
    fine = True
    print(f"| largest difference | {' | '.join(columns)} |")
    print(f"|---|{'---|' * len(columns)}")
    for name in names:
        differences = [difference(known[name], values[name]) for values in columns.values()]
        fine &= max(differences) <= (0 if known[name].dtype.kind == "U" else TOLERANCE.get(name, 1e-4))
        print(f"| {name} | {' | '.join(f'{value:.1g}' for value in differences)} |")
    return fine


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference of numbers, or the number of different labels."""
    if one.dtype.kind == "U":
        return float((one != other).sum())
    if (np.isnan(one) != np.isnan(other)).any():
        return float("inf")
    assert (np.isnan(one) == np.isnan(other)).all()
    return float(np.nanmax(np.abs(one.astype(np.float64) - other.astype(np.float64))))


if __name__ == "__main__":
    main()

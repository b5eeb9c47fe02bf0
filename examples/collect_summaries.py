"""Collect the summaries that `sct ... --summary` wrote into one table with a row for each sample.

    python collect_summaries.py --output summary.tsv a.imputed.h5ad.summary.json a.annotated.h5ad.summary.json ...

Files are named SAMPLE.STEP.h5ad.summary.json (or .zarr.summary.json); files of the same sample share a row. Needs only
Python.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

COUNTS = "cells_per_label"


def main() -> None:
    """Read the command line, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("summaries", nargs="+", type=Path, metavar="SAMPLE.STEP.h5ad.summary.json")
    parser.add_argument("--output", required=True, type=Path, help="the table, tab-separated")
    options = parser.parse_args()
    rows = collect(options.summaries)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with options.output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: row.get(name, missing(name)) for name in columns})


def missing(name: str) -> object:
    """Return what a sample without the column gets: cells of a type that it lacks were counted, there are none."""
    return 0 if name.startswith(f"{COUNTS}:") else ""


def collect(paths: list[Path]) -> list[dict[str, object]]:
    """Return a row for each sample, in the order of their names; the columns with counts of labels are the last."""
    samples: dict[str, list[dict[str, object]]] = {}
    for path in sorted(paths):
        sample, _step, *rest = path.name.rsplit(".", 4)
        if len(rest) != 3 or rest[1:] != ["summary", "json"]:
            raise SystemExit(f"{path} is not called SAMPLE.STEP.h5ad.summary.json; rename it, or name other files.")
        samples.setdefault(sample, []).append(json.loads(path.read_text(encoding="utf-8")))
    return [row_of(sample, summaries) for sample, summaries in samples.items()]


def row_of(sample: str, summaries: list[dict[str, object]]) -> dict[str, object]:
    """Put the figures of all steps of a sample into one row."""
    # The steps come in the order in which they were run, not in that of their names.
    summaries = sorted(summaries, key=lambda summary: ["impute", "embed", "annotate"].index(str(summary["command"])))
    row: dict[str, object] = {"sample": sample}
    for summary in summaries:
        row |= {name: value for name, value in summary.items() if name not in {"command", "output", "warnings", COUNTS}}
    warnings = dict.fromkeys(text for summary in summaries for text in summary["warnings"])
    row["warnings"] = "; ".join(" ".join(text.split()) for text in warnings)
    for summary in summaries:
        row |= {f"{COUNTS}:{label}": number for label, number in sorted(summary.get(COUNTS, {}).items())}
    return row


if __name__ == "__main__":
    main()

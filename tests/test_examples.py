"""The workflows in `examples/`: their options exist, and their table has what the summaries say."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import typer

from scanpy_sct.cli.app import app
from scanpy_sct.cli.summary import write_summary

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
# Where commands of `sct` are written: parts in quotation marks in Snakemake, lines that end with \\ in Nextflow.
FILES = {
    "snakemake": EXAMPLES / "snakemake" / "Snakefile",
    "nextflow": EXAMPLES / "nextflow" / "main.nf",
    "page": ROOT / "docs" / "pipelines.md",
    "container": EXAMPLES / "container" / "Dockerfile",
}


def commands_in(text: str) -> list[str]:
    """Return the commands that start with `sct` and a name, each in one line."""
    text = re.sub(r'"\s*\n\s*"', "", text)  # parts of a string of Python
    text = re.sub(r"\\{1,2}\n\s*", "", text)  # lines that go on
    return re.findall(r"\bsct ((?:check|impute|annotate|embed) [^\n`\"|>#]*)", text)


def options_of(name: str) -> set[str]:
    """Return the options of a command, and those of all commands."""
    root = typer.main.get_command(app)
    parameters = [*root.commands[name].params, *root.params]
    return {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("where", FILES)
def test_options_of_the_workflows_exist(where):
    commands = commands_in(FILES[where].read_text(encoding="utf-8"))
    assert len(commands) >= {"container": 1}.get(where, 2)
    for command in commands:
        name, *arguments = shlex.split(command)
        given = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
        assert given - options_of(name) == set(), command


def test_workflows_run_the_same_commands():
    names = "impute", "annotate"
    for name in names:
        snakemake, nextflow = (
            next(
                command for command in commands_in(FILES[where].read_text(encoding="utf-8")) if command.startswith(name)
            )
            for where in ("snakemake", "nextflow")
        )
        assert set(re.findall(r"--[a-z-]+", snakemake)) == set(re.findall(r"--[a-z-]+", nextflow))


@pytest.fixture
def collected(tmp_path, monkeypatch):
    """Run the script that collects summaries, and read its table."""

    def collect(*paths: Path) -> list[dict[str, str]]:
        output = tmp_path / "summary.tsv"
        monkeypatch.setattr(sys, "argv", ["collect_summaries.py", "--output", str(output), *map(str, paths)])
        runpy.run_path(str(EXAMPLES / "collect_summaries.py"), run_name="__main__")
        with output.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t"))

    return collect


def test_the_table_has_a_row_for_each_sample(collected, tmp_path):
    def summary(sample: str, step: str, **figures: object) -> Path:
        return write_summary({"cells": 5, **figures}, tmp_path / f"{sample}.{step}.h5ad")[0]

    first = summary("a.1", "imputed", command="impute", median_recovery=0.25, warnings=["few\ngenes"])
    second = summary("a.1", "annotated", command="annotate", cells_per_label={"T": 3, "B": 2}, warnings=["few\ngenes"])
    third = summary("b", "annotated", command="annotate", cells_per_label={"NK": 5}, warnings=[])
    rows = collected(third, second, first)
    assert [row["sample"] for row in rows] == ["a.1", "b"]
    assert rows[0]["median_recovery"] == "0.25" and rows[1]["median_recovery"] == ""
    assert [[row[f"cells_per_label:{label}"] for label in ("B", "NK", "T")] for row in rows] == [
        ["2", "0", "3"],
        ["0", "5", "0"],
    ]
    assert rows[0]["warnings"] == "few genes"
    assert {row["cells"] for row in rows} == {"5"}


def test_other_files_are_refused(collected, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"a\.json is not called SAMPLE\.STEP"):
        collected(path)

"""Pages of results are what the scripts write from what was measured, and are not changed by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def pages():
    """Write pages with the scripts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
        import write_results_pages

        yield write_results_pages


def measured(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "benchmarks" / "results" / name)


def test_results_are_as_the_script_writes_them(pages):
    text = pages.results_page(measured("imputation.csv.gz"))
    assert text == (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_trust_is_as_the_script_writes_it(pages):
    text = pages.recovery_page(measured("recovery.csv"))
    assert text == (ROOT / "docs" / "which_genes.md").read_text(encoding="utf-8")


def test_panels_are_as_the_script_writes_them(pages):
    text = pages.folded(pages.panels_page(measured("panels.csv")))
    assert text == (ROOT / "docs" / "panels.md").read_text(encoding="utf-8")


def test_conclusions_follow_the_figures(pages):
    from conclusions import of_imputation, of_losses

    results = measured("imputation.csv.gz")
    chosen = (results["method"] == "sct") & (results["data_set"] == "pbmc3k") & (results["task"] == "entries_15")
    assert "on all four data sets" in of_imputation(results).replace("\n", " ")
    results.loc[chosen & (results["metric"] == "average_precision"), "value"] = 0.1
    assert "on three of four data sets" in of_imputation(results).replace("\n", " ")
    assert "largest on breast_wu" in of_losses(results)


def test_tables_are_folded(pages):
    table = "| gain (higher is better) | a |\n|---|---|\n| b | 1 |\n"
    assert pages.folded(f"Text.\n\n{table}\nMore.\n") == f"Text.\n\n:::{{dropdown}} gain\n{table}:::\n\nMore.\n"

"""What a command says of its result: a sentence, and for pipelines a summary as JSON and as a table."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from scanpy_sct.cli.wording import in_shell
from scanpy_sct.impute.recovery import TRUSTED
from scanpy_sct.keys import AnnotationKeys, ImputationKeys

if TYPE_CHECKING:
    from anndata import AnnData


@contextmanager
def warnings_noted() -> Iterator[list[str]]:
    """Collect the warnings that the package logs."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(in_shell(record.getMessage()))

    handler = Collect(logging.WARNING)
    logger = logging.getLogger("scanpy_sct")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def report(
    adata: AnnData, function: str, key: str, output: Path, warnings: list[str], *, summary: bool, json: bool
) -> None:
    """Say what was written and how good it is; write a summary beside it, or print it, as is asked for."""
    found = summarise(adata, function, key)
    for_pipelines = found | {"output": str(output), "warnings": warnings}
    written = [output, *(write_summary(for_pipelines, output) if summary else [])]
    if json:
        typer.echo(as_json(for_pipelines))
        return
    for path in written:
        typer.echo(f"Wrote {path}")
    typer.echo(_sentence(function, found))


def _sentence(function: str, found: dict[str, Any]) -> str:
    """Return the main figures of a result as a sentence."""
    cells = f"{found['cells']:,} cells"
    if function == "embed":
        return f"{cells}: a vector of {found['dimensions']} numbers each."
    if function == "annotate":
        labels = sum(name != "unknown" for name in found["cells_per_label"])
        unknown = f"{100 * found['unknown_fraction']:.1f} % of them 'unknown'"
        return f"{cells}, {unknown}; {labels} labels, median score {found['median_score']:.2f}."
    parts = [f"measured genes imputed: {found['genes_imputed']:,}"]
    if found["median_recovery"] is not None:
        trusted = found[f"genes_with_recovery_of_{TRUSTED}"]
        parts[0] += f" (median recovery {found['median_recovery']:.2f}; {TRUSTED} or more: {trusted:,} genes)"
    if "unmeasured_genes" in found:
        trust = found.get("median_trust")
        known = "no recovery known" if trust is None else f"median trust {trust:.2f}"
        parts.append(f"unmeasured genes: {found['unmeasured_genes']:,} ({known})")
    return f"{cells}; {', '.join(parts)}."


def summarise(adata: AnnData, function: str, key: str) -> dict[str, Any]:
    """Return the main figures of a result; values are numbers, strings, lists, or counts by name."""
    record = adata.uns.get(key, {})
    of_function = {"impute": _of_imputation, "embed": _of_embedding, "annotate": _of_annotation}[function]
    return {
        "command": function,
        "cells": adata.n_obs,
        "model": record.get("model", {}).get("name"),
        "version": record.get("versions", {}).get("scanpy_sct"),
        **of_function(adata, key, record),
    }


def _of_imputation(adata: AnnData, key: str, record: Any) -> dict[str, Any]:
    from scanpy_sct.read.columns import as_series

    keys = ImputationKeys.of(key)
    recovery = as_series(adata.var[keys.recovery]).to_numpy(dtype=float)
    known = recovery[np.isfinite(recovery)]
    found: dict[str, Any] = {
        "genes_imputed": int(as_series(adata.var[keys.imputed]).sum()),
        "median_recovery": round(float(np.median(known)), 4) if len(known) else None,
        f"genes_with_recovery_of_{TRUSTED}": int((known >= TRUSTED).sum()),
        "bags": record.get("bags"),
        "passes": record.get("passes"),
    }
    if keys.unmeasured in adata.obsm:
        found["unmeasured_genes"] = len(adata.obsm[keys.unmeasured].columns)
    if "unmeasured" in record:
        trust = as_series(record["unmeasured"]["trust"]).to_numpy(dtype=float)
        found["median_trust"] = round(float(np.nanmedian(trust)), 4) if np.isfinite(trust).any() else None
    return found


def _of_embedding(adata: AnnData, key: str, record: Any) -> dict[str, Any]:
    return {"dimensions": int(adata.obsm[key].shape[1])}


def _of_annotation(adata: AnnData, key: str, record: Any) -> dict[str, Any]:
    from scanpy_sct.read.columns import as_series

    keys = AnnotationKeys.of(key)
    labels = as_series(adata.obs[keys.labels]).astype(str)
    return {
        "source": record.get("source"),
        "median_score": round(float(np.median(as_series(adata.obs[keys.score]))), 4),
        "unknown_fraction": round(float((labels == "unknown").mean()), 4),
        "cells_per_label": {name: int(number) for name, number in labels.value_counts().items()},
    }


def write_summary(summary: dict[str, Any], output: Path) -> list[Path]:
    """Write OUTPUT.summary.json and OUTPUT.summary.tsv, a line per figure; return their paths."""
    paths = [output.with_name(f"{output.name}.summary.{suffix}") for suffix in ("json", "tsv")]
    paths[0].write_text(as_json(summary) + "\n", encoding="utf-8")
    lines = ["name\tvalue"]
    for name, value in summary.items():
        if isinstance(value, dict):
            lines += [f"{name}:{each}\t{number}" for each, number in value.items()]
        elif isinstance(value, list):
            lines += [f"{name}\t{each}" for each in value]
        else:
            lines.append(f"{name}\t{'' if value is None else value}")
    paths[1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


def as_json(summary: dict[str, Any]) -> str:
    """Return a summary as JSON."""
    return json.dumps(summary, indent=2)

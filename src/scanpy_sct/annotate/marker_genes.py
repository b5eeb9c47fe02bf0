"""Find the genes of markers in the vocabulary of a model, and report what is not used or was read as something else."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scanpy_sct.annotate.labels import check_label_names
from scanpy_sct.annotate.marker_names import (
    MarkerName,
    Reading,
    protein_of,
    read_marker_names,
    symbols_of,
    why_unused,
)
from scanpy_sct.annotate.marker_table import Markers, marker_table

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellReader

logger = logging.getLogger(__name__)

NOT_SYMBOLS = {Reading.PROTEIN, Reading.ALIAS, Reading.SPELLING}
MAX_NAMED = 40
"""At most this many markers are named in a message; all are recorded."""


@dataclass(frozen=True)
class MarkerGenes:
    """The genes of each type, and what became of the names."""

    genes: Mapping[str, np.ndarray]
    """`gene_index` of the markers of each type."""
    details: Mapping[str, Any]
    """Recorded in `.uns`: `read_as`, the genes of names that are no current symbols, and `unused`."""


def read_markers(markers: Markers, checkpoint: Checkpoint, cells: CellReader) -> MarkerGenes:
    """Find the genes of the markers of each type; types without a gene that the model knows are left out.

    Warnings in the log list the markers that are not used, with the genes that may be meant, and names that were only
    found in another spelling.

    Parameters
    ----------
    markers
        The user's argument.
    checkpoint
        Its name is used in messages.
    cells
        Markers are names of their columns, symbols, Ensembl ids, or names of proteins.

    Raises
    ------
    ValueError, TypeError
        The markers cannot be read, or fewer than two types have a gene that the model knows.
    """
    columns = _columns_of(cells)
    table = marker_table(markers, columns)
    labels = table["label"].unique()
    check_label_names(labels, "markers")
    names = read_marker_names(table["gene"][table["gene"] != ""], cells.vocabulary, columns)
    _check_present(table, names)
    of_id = {ensembl_id: index for index, ensembl_id in enumerate(cells.vocabulary) if ensembl_id}
    index_of = {
        name: [of_id[ensembl_id] for ensembl_id in meaning.ensembl_ids if ensembl_id in of_id and meaning.is_found]
        for name, meaning in names.items()
    }
    unused = {name: why_unused(name, meaning) for name, meaning in names.items() if not index_of[name]}
    table["gene_index"] = table["gene"].map(lambda name: index_of.get(name, []))
    found = _genes_of_types(table)
    lost = {
        label: rows["gene"].tolist() for label, rows in table[table["gene"].isin(unused)].groupby("label", sort=False)
    }
    _check_types(found, labels, checkpoint, _listed(lost, unused))
    _log_readings(names, unused, lost)
    used = {name: meaning for name, meaning in names.items() if name not in unused}
    all_lost = [f"{label}: {', '.join(genes)}" for label, genes in lost.items()]
    return MarkerGenes(found, {"read_as": _as_genes(used, NOT_SYMBOLS), "unused": all_lost})


def _columns_of(cells: CellReader) -> dict[str, str]:
    """Return the Ensembl id of each column of the object that is a gene, of the first of several with one name."""
    names, ids = cells.var_names[cells.genes.columns], cells.vocabulary[cells.genes.gene_index]
    return dict(zip(names[::-1], ids[::-1].tolist(), strict=True))


def _genes_of_types(table: pd.DataFrame) -> dict[str, np.ndarray]:
    rows = table.explode("gene_index").dropna(subset="gene_index").drop_duplicates(["label", "gene_index"])
    return {label: of_type["gene_index"].to_numpy(dtype=int) for label, of_type in rows.groupby("label", sort=False)}


def _check_present(table: pd.DataFrame, names: Mapping[str, MarkerName]) -> None:
    """Raise an error for markers that the cells of a type lack."""
    absent = [name for name, meaning in names.items() if meaning.reading is Reading.ABSENT]
    if absent:
        labels = table["label"][table["gene"].isin(absent)].unique()
        msg = (
            f"markers: {_some(absent)} (of {_some(labels)}) are markers that cells lack; only genes that a type "
            "expresses are used: remove them."
        )
        raise ValueError(msg)


def _check_types(found: Mapping[str, np.ndarray], labels: np.ndarray, checkpoint: Checkpoint, unused: str) -> None:
    """Raise an error if fewer than two types can be told apart; warn of types that are left out or alike."""
    if len(found) < 2:
        msg = (
            f"markers: {len(found)} of {len(labels)} types have a gene that the model {checkpoint.name!r} knows; at "
            f"least two are needed: give symbols or Ensembl ids of human genes.{unused}"
        )
        raise ValueError(msg)
    missing = [label for label in labels if label not in found]
    if missing:
        logger.warning("markers: types without a gene that the model knows are left out: %s.", ", ".join(missing))
    same: dict[frozenset[int], list[str]] = {}
    for label, genes in found.items():
        same.setdefault(frozenset(genes.tolist()), []).append(label)
    alike = [_some(labels) for labels in same.values() if len(labels) > 1]
    if len(same) == 1:
        msg = f"markers: all types ({alike[0]}) have the same genes; give each type at least one gene of its own."
        raise ValueError(msg)
    if alike:
        logger.warning(
            "markers: these types have the same genes, so that cells get the first of them: %s. Merge them, or give "
            "each a gene of its own.",
            "; ".join(alike),
        )


def _log_readings(names: Mapping[str, MarkerName], unused: Mapping[str, str], lost: Mapping[str, list[str]]) -> None:
    """Log which markers are not used, and which were found by another name."""
    if lost:
        logger.warning(
            "markers: %d of %d names are not used.%s Give symbols or Ensembl ids of human genes.",
            len(unused),
            len(names),
            _listed(lost, unused),
        )
    used = {name: meaning for name, meaning in names.items() if name not in unused}
    spelt = _as_genes(used, {Reading.SPELLING})
    if spelt:
        logger.warning(
            "markers: %s are read as human genes of the same name in capital letters. A gene of mouse may be another "
            "one in humans: to be sure, give human symbols.",
            _some(spelt, MAX_NAMED),
        )
    other = [
        f"{name} is read as the gene {name}, while the protein of this name is that of {_some(symbols_of(ids))}"
        for name, meaning in used.items()
        if meaning.reading not in NOT_SYMBOLS and (ids := _other_genes(name, meaning))
    ]
    if other:
        logger.warning("markers: %s. If that is meant, give its symbol.", "; ".join(other))
    known = _as_genes(used, {Reading.PROTEIN, Reading.ALIAS})
    if known:
        logger.info("markers: proteins and synonyms were read as %s.", _some(known, MAX_NAMED))


def _other_genes(name: str, meaning: MarkerName) -> tuple[str, ...]:
    """Return the genes of the protein that has the name of another gene."""
    protein = protein_of(name)
    return () if protein is None or set(meaning.ensembl_ids) & set(protein.ensembl_ids) else protein.ensembl_ids


def _as_genes(names: Mapping[str, MarkerName], readings: set[Reading]) -> list[str]:
    return [
        f"{name} = {' + '.join(symbols_of(meaning.ensembl_ids))}"
        for name, meaning in names.items()
        if meaning.reading in readings
    ]


def _listed(lost: Mapping[str, list[str]], why: Mapping[str, str]) -> str:
    """Return the markers that are not used, by their type, and why; "" for none."""
    types, n_named = [], 0
    for label, genes in lost.items():
        if n_named >= MAX_NAMED:
            types.append(f"and those of {len(lost) - len(types)} more types, see .uns")
            break
        n_named += len(genes)
        by_reason: dict[str, list[str]] = {}
        for gene in genes:
            by_reason.setdefault(why[gene], []).append(gene)
        types.append(f"{label}: " + ", ".join(f"{_some(own, 10)} ({reason})" for reason, own in by_reason.items()))
    return f" Not used: {'; '.join(types)}." if types else ""


def _some(values: Iterable[str], n_named: int = 5, separator: str = ", ") -> str:
    values = list(values)
    more = f"{separator}and {len(values) - n_named} more" if len(values) > n_named else ""
    return separator.join(values[:n_named]) + more

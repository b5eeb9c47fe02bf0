"""The genes that names of markers mean: symbols, Ensembl ids, and names of proteins such as CD20 or PD-1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from functools import lru_cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import pandas as pd

from scanpy_sct.read.genes import load_gene_table, to_ensembl
from scanpy_sct.read.symbols import Evidence

GREEK = {
    **dict(zip("αβγδεζκλ", "abgdezkl", strict=True)),
    **{name: name[0] for name in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "kappa", "lambda")},
}
DATE = re.compile(r"\d{1,2}-[A-Z][a-z]{2}|[A-Z][a-z]{2}-\d{1,2}")
N_CANDIDATES, N_NAMED = 3, 5
MIN_SIMILARITY = 0.75
ABSENT = re.compile(
    r"^[-\u2212!](?P<before>.+)$|^(?P<after>.+?)[ _]?(?:[-\u2212\u2013]|neg|negative|low|lo|dim)$", re.I
)
"""Writings of a marker that the cells of a type lack, such as CD3E-."""
PRESENT = re.compile(r"(?<=\w)(\++|hi|high|bright|pos)$")
"""What may follow a marker that they have, such as CD56bright."""


class Reading(Enum):
    """How a name was read."""

    COLUMN = "the name of a column of the data"
    GENE = "an Ensembl id or a current symbol"
    PROTEIN = "the name of a protein"
    ALIAS = "a former symbol or a synonym"
    SPELLING = "another spelling, such as that of mouse genes"
    ABSENT = "a marker that the cells lack"
    AMBIGUOUS = "several genes"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class MarkerName:
    """What the name of a marker means."""

    reading: Reading
    ensembl_ids: tuple[str, ...] = ()
    """Its genes; of an ambiguous name those it may mean."""
    reason: str = ""
    """Why a known name of a protein is not used."""

    @property
    def is_found(self) -> bool:
        """Whether its genes are known for certain."""
        return self.reading not in (Reading.ABSENT, Reading.AMBIGUOUS, Reading.UNKNOWN)


def read_marker_names(
    names: Iterable[str], vocabulary: np.ndarray | None = None, columns: Mapping[str, str] | None = None
) -> dict[str, MarkerName]:
    """Find the genes that each name means.

    The name of a column of the data is that gene, and a current symbol is preferred to the name of a protein; that is
    preferred to other names of genes, because some of these are short and mean another gene (TCR, IgA, p21).

    Parameters
    ----------
    names
        Names of markers, without surrounding spaces.
    vocabulary
        Ensembl ids to prefer where a name fits several genes; None: those of the released network.
    columns
        Ensembl id of each column of the data that is a gene, by its name.
    """
    names = list(dict.fromkeys(names))
    plain = [PRESENT.sub("", name).strip() for name in names]
    # In one call, which takes about as long for a thousand names as for one.
    found = to_ensembl([*plain, *map(str.upper, plain)], vocabulary=vocabulary, one_data_set=False)
    upper = found.ensembl_ids[len(plain) :]
    several = set(found.ambiguous)
    result = {}
    for number, name in enumerate(names):
        if columns is not None and name in columns:
            result[name] = MarkerName(Reading.COLUMN, (columns[name],))
            continue
        gene = (found.ensembl_ids[number], found.evidence[number])
        result[name] = _read_name(plain[number], gene, upper[number], plain[number] in several)
    return result


def _read_name(name: str, gene: tuple[str, int], upper: str, is_ambiguous: bool) -> MarkerName:
    """Read a name that is not a column; ``gene`` is its id and evidence as a gene, ``upper`` its id in upper case."""
    ensembl_id, evidence = gene
    if ensembl_id and evidence <= Evidence.EXACT:
        return MarkerName(Reading.GENE, (ensembl_id,))
    absent = ABSENT.match(name)
    if absent and not ensembl_id:
        base = absent["before"] or absent["after"]
        if read_marker_names([base])[base].is_found:
            return MarkerName(Reading.ABSENT)
    protein = protein_of(name)
    if protein is not None:
        return protein
    if ensembl_id:
        return MarkerName(Reading.ALIAS, (ensembl_id,))
    if is_ambiguous:
        return MarkerName(Reading.AMBIGUOUS, _genes_with_name(name))
    respelt = _symbol_keys().get(as_key(name)) or upper
    if respelt:
        # CD79a is the protein in humans, too; Cd79a is the gene of mouse.
        return MarkerName(Reading.PROTEIN if name[:2].isupper() else Reading.SPELLING, (respelt,))
    return MarkerName(Reading.UNKNOWN)


def as_key(name: str) -> str:
    """Return a name in lower case, with Greek letters as Latin ones and without punctuation."""
    key = name.casefold()
    for greek, latin in GREEK.items():
        key = key.replace(greek, latin)
    return re.sub(r"[^a-z0-9]", "", key)


def symbols_of(ensembl_ids: Iterable[str]) -> list[str]:
    """Return the current symbol of each gene."""
    return load_gene_table()["symbol"].reindex(list(ensembl_ids)).fillna("").tolist()


def protein_of(name: str) -> MarkerName | None:
    """Return what a name means as that of a protein; None: it is not in the table of proteins."""
    # "K" and "L" are too short to be taken for the kappa and lambda chain, whose keys they are.
    return None if len(name) == 1 and name.isascii() else _proteins().get(as_key(name))


def why_unused(name: str, meaning: MarkerName) -> str:
    """Return why a name has no gene of the model, or which genes it may mean."""
    genes = symbols_of(meaning.ensembl_ids)
    if meaning.reason:
        return meaning.reason
    if meaning.reading is Reading.AMBIGUOUS:
        # Some symbols have several ids.
        alike = len(set(genes)) < len(genes)
        return "may be " + " or ".join(meaning.ensembl_ids[:N_NAMED] if alike else genes[:N_NAMED])
    if genes:
        return "not in the model" if genes == [name] else f"{', '.join(genes)}, not in the model"
    if name.startswith("ENSMUSG"):
        return "a gene of mouse"
    if DATE.fullmatch(name):
        return "a date, into which spreadsheets turn genes such as MARCHF1 and SEPTIN1"
    similar = similar_symbols(name)
    return f"unknown; did you mean {' or '.join(similar)}?" if similar else "unknown"


def similar_symbols(name: str) -> list[str]:
    """Return symbols of protein-coding genes that a misspelt name may mean, the most similar first."""
    upper = name.upper()
    near = [symbol for symbol in _coding_symbols().get(upper[:1], []) if abs(len(symbol) - len(upper)) <= 2]
    return get_close_matches(upper, near, n=N_CANDIDATES, cutoff=MIN_SIMILARITY)


@lru_cache(maxsize=1)
def _proteins() -> dict[str, MarkerName]:
    """Return the table of proteins, by the key of each of their names."""
    with as_file(files("scanpy_sct.annotate") / "data" / "proteins.tsv") as path:
        table = pd.read_csv(path, sep="\t", comment="#", keep_default_na=False)
    genes = load_gene_table()["symbol"]
    # Some symbols are those of several genes, of which one is that of the protein.
    id_of = dict(zip(genes[::-1], genes.index[::-1], strict=True))
    result = {}
    for row in table.itertuples():
        reading = Reading.PROTEIN if row.genes else Reading.AMBIGUOUS
        meaning = MarkerName(reading, tuple(id_of[symbol] for symbol in row.genes.split()), row.reason)
        result.update({as_key(name): meaning for name in row.proteins.split(";")})
    return result


@lru_cache(maxsize=1)
def _symbol_keys() -> dict[str, str]:
    """Return the Ensembl id of each symbol by its key, of those that have it alone."""
    symbols = load_gene_table()["symbol"]
    keys = symbols.map(as_key)
    alone = ~keys.duplicated(keep=False)
    return dict(zip(keys[alone], symbols.index[alone], strict=True))


@lru_cache(maxsize=1)
def _coding_symbols() -> dict[str, list[str]]:
    """Return the symbols of protein-coding genes by their first letter."""
    table = load_gene_table()
    symbols = table["symbol"][table["biotype"] == "protein_coding"]
    return {letter: group.tolist() for letter, group in symbols.groupby(symbols.str[0])}


def _genes_with_name(name: str) -> tuple[str, ...]:
    """Return the Ensembl ids of the genes with a synonym, those of proteins first."""
    table = load_gene_table()
    with_name = f"|{name}|"
    has_name = [
        with_name in f"|{symbol}|{aliases}|" for symbol, aliases in zip(table["symbol"], table["aliases"], strict=True)
    ]
    found = table[has_name]
    return tuple(found.index[np.argsort(found["biotype"] != "protein_coding", kind="stable")])


def as_text(value: Any) -> str:
    """Return a name without surrounding spaces; whole numbers without decimals."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).replace("\xa0", " ").strip()


def split_names(genes: Any) -> list[str]:
    """Return the names in a value: several are separated by commas or similar, as in CellMarker, or are a list."""
    if isinstance(genes, list | tuple | set | np.ndarray):
        return [name for gene in genes for name in split_names(gene)]
    if genes is None or pd.isna(genes):
        return []
    names = re.split(r"[,;|\n\t]", as_text(genes).strip("[](){}"))
    return [name for name in (part.strip(" '\"[]") for part in names) if name]


def fractions_of_genes(
    parts: Mapping[str, Iterable[Any]], columns: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Return, for each list of values, the fraction of different ones that are names of genes.

    Of values with several names, the first counts.
    """
    names = {part: {split[0] for split in map(split_names, values) if split} for part, values in parts.items()}
    found = read_marker_names(set().union(*names.values()), columns=columns)
    return {
        part: float(np.mean([_is_gene(name, found[name].reading) for name in own])) if own else 0.0
        for part, own in names.items()
    }


def fraction_of_genes(values: Iterable[Any], columns: Mapping[str, str] | None = None) -> float:
    """Return the fraction of different values that are names of genes, as :func:`fractions_of_genes`."""
    return fractions_of_genes({"": values}, columns)[""]


def _is_gene(name: str, reading: Reading) -> bool:
    """Whether a name is that of a gene rather than of a cell type: HSC, DC and CMP are synonyms of genes, too."""
    if reading is Reading.SPELLING and re.match("[a-z]+[A-Z]", name):  # cDC1, vSMC
        return False
    if reading in (Reading.ALIAS, Reading.AMBIGUOUS, Reading.SPELLING):
        return len(name) > 3 and any(map(str.isdigit, name))
    return reading is not Reading.UNKNOWN

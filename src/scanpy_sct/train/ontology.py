"""Names for the labels of cells: those the user gives, or proposals from the Cell Ontology."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from unicodedata import lookup

import pandas as pd

CELL_ONTOLOGY = "cell_ontology"
"""In the place of a mapping: take the proposals."""
GREEK = {
    ord(lookup(f"GREEK SMALL LETTER {name}")): f" {name} " for name in ("alpha", "beta", "gamma", "delta", "epsilon")
}


def cell_ontology_names(labels: Iterable[object]) -> pd.DataFrame:
    """Propose the Cell Ontology name of each label.

    Only what is written alike is found: the name of a cell type or one of its exact synonyms, word for word; else both
    with light normalisation, which ignores case, a plural at the end, and the difference between spaces and ``_``,
    ``-``, ``.`` or ``,``, and which reads ``CD14+`` as CD14-positive, ``CD14-`` as CD14-negative and Greek letters as
    their names. Nothing is guessed: "Dendritic" and "CD4+ Memory" get no proposal. Read the table before using it; what
    authors mean by a name may differ from its definition.

    Parameters
    ----------
    labels
        Labels as text, each as often as it likes, such as a column of `.obs`; missing ones are passed over.

    Returns
    -------
    One row for each different label, in the order of their first appearance. `name` and `id` ("CL:0000236") are ""
    where nothing fits and where several cell types fit equally well; `how` says by what the proposal was found:
    "label", "synonym", "label, normalised" or "synonym, normalised", the first of these by which any was; "ambiguous",
    or "" where there is nothing.

    Raises
    ------
    ImportError
        `cellxgene-ontology-guide`, which carries the Cell Ontology, is not installed. No network is needed.
    TypeError
        `labels` is a single text.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> table = sct.train.cell_ontology_names(["B cells", "CD14+ Monocyte", "Dendritic"])
    >>> table["name"].tolist()
    ['B cell', 'CD14-positive monocyte', '']
    """
    if isinstance(labels, str):
        msg = f"labels={labels!r} is a single text; give a list of labels, [{labels!r}]."
        raise TypeError(msg)
    wanted = pd.Series(list(labels), dtype=object).dropna().astype(str).unique()
    return propose(wanted.tolist(), _read_cell_ontology())


def _read_cell_ontology() -> Mapping[str, Mapping[str, Any]]:
    """All terms by their ids."""
    try:
        from cellxgene_ontology_guide.ontology_parser import OntologyParser
    except ImportError as error:
        msg = 'Names of the Cell Ontology need a package of their own: pip install "scanpy_sct[ontology]"'
        raise ImportError(msg) from error
    return OntologyParser().cxg_schema.ontology("CL")


def propose(labels: Sequence[str], terms: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Propose a term for each of the different ``labels``; see :func:`cell_ontology_names`.

    Parameters
    ----------
    labels
        Different texts.
    terms
        By id: `label`, and if there are any `synonyms` and `deprecated`. Deprecated terms are passed over.
    """
    terms = {term_id: term for term_id, term in terms.items() if not term.get("deprecated")}
    ways = [
        (f"{field}{suffix}", key, _index(terms, field, key))
        for suffix, key in (("", str), (", normalised", normalise))
        for field in ("label", "synonym")
    ]
    rows = []
    for label in labels:
        how, ids = next(((how, found[key(label)]) for how, key, found in ways if key(label) in found), ("", set()))
        if len(ids) == 1:
            (term_id,) = ids
            rows.append((terms[term_id]["label"], term_id, how))
        else:
            rows.append(("", "", "ambiguous" if ids else ""))
    return pd.DataFrame(rows, index=pd.Index(labels, dtype=object), columns=["name", "id", "how"], dtype=object)


def _index(terms: Mapping[str, Mapping[str, Any]], field: str, key: Callable[[str], str]) -> dict[str, set[str]]:
    """Ids of the terms by their label, or by each of their synonyms, both seen through ``key``."""
    found = defaultdict(set)
    for term_id, term in terms.items():
        for text in [term["label"]] if field == "label" else term.get("synonyms") or []:
            found[key(text)].add(term_id)
    return dict(found)


def normalise(text: str) -> str:
    """Write a name so that its usual spellings become the same; "γδ T-Cells" becomes "gamma delta t cell"."""
    text = re.sub(r"(?<=\w)\+", " positive ", text.casefold())
    # A hyphen joins two words; a minus sign has nothing behind it.
    text = re.sub(r"(?<=\w)-(?!\w)", " negative ", text).translate(GREEK)
    words = ["cell" if word == "cells" else word for word in re.sub(r"[_\-.,]", " ", text).split()]
    # Not all words that end in "s" are plurals ("nucleus"), but names of the ontology are shortened the same way.
    if words and words[-1].endswith("s") and not words[-1].endswith("ss"):
        words[-1] = words[-1][:-1]
    return " ".join(words)


def read_names(names: Mapping[str, str | None] | str, labels: list[str], labels_key: str) -> dict[str, str | None]:
    """Find the name wanted for each label; None: its cells are left out.

    Parameters
    ----------
    names
        A mapping, or "cell_ontology", as :func:`scanpy_sct.train.fit_label_head` takes it.
    labels
        The different labels of the data, text.
    labels_key
        Their column, for messages.

    Raises
    ------
    ValueError, TypeError
        If a label has no name; all such labels are listed.
    """
    if isinstance(names, str):
        return _cell_ontology(names, labels, labels_key)
    if not isinstance(names, Mapping):
        msg = (
            f'names must be a mapping from labels to names, or "{CELL_ONTOLOGY}"; found {type(names).__name__}. '
            "A column of a table becomes one with .to_dict()."
        )
        raise TypeError(msg)
    name_of = {str(label): name for label, name in names.items()}
    lost = [label for label in labels if label not in name_of]
    if lost:
        msg = (
            f"names lacks {len(lost)} of the {len(labels)} labels of labels_key={labels_key!r}: {lost}. Give each a "
            "name, its own to keep it, or None to leave its cells out."
        )
        raise ValueError(msg)
    wrong = {label: name_of[label] for label in labels if not _is_name(name_of[label])}
    if wrong:
        msg = f"names must give text, or None to leave the cells of a label out; found {wrong}."
        raise ValueError(msg)
    return {label: name_of[label] for label in labels}


def _is_name(name: object) -> bool:
    return name is None or (isinstance(name, str) and bool(name.strip()))


def _cell_ontology(names: str, labels: list[str], labels_key: str) -> dict[str, str | None]:
    if names != CELL_ONTOLOGY:
        msg = f'names={names!r} is not known; give "{CELL_ONTOLOGY}", or a mapping from labels to names.'
        raise ValueError(msg)
    table = cell_ontology_names(labels)
    lost = table.index[table["name"] == ""].tolist()
    if lost:
        msg = (
            f'names="{CELL_ONTOLOGY}": no name was found for {len(lost)} of the {len(labels)} labels of '
            f"labels_key={labels_key!r}: {lost}. Start from sct.train.cell_ontology_names(labels)['name'].to_dict(), "
            "fill in what is missing, None to leave cells out, and give that as names."
        )
        raise ValueError(msg)
    return table["name"].to_dict()

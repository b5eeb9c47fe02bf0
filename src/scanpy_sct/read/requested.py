"""Find the genes that a user requests in a vocabulary."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches

import numpy as np

from scanpy_sct.read.gene_table import iterate_genes
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.read.reader import CellReader
from scanpy_sct.read.reference import ReferenceCells

logger = logging.getLogger(__name__)

ALL = "all"
"""Requests all genes that the model, or the reference, knows."""
LONG_LIST = 10
"""In a longer list, unknown genes are left out with a warning."""


def as_gene_list(genes: str | Iterable[str] | None) -> list[str] | None:
    """Read the argument `genes`; None stays None.

    Raises
    ------
    ValueError
        It is empty.
    """
    if genes is None:
        return None
    genes = [genes] if isinstance(genes, str) else [str(gene) for gene in genes]
    if ALL in genes and len(genes) > 1:
        msg = f"genes: {ALL!r} means all genes, and stands alone; leave out the other {len(genes) - 1} names."
        raise ValueError(msg)
    if not genes:
        msg = "genes is empty; give at least one gene, or None for all measured genes the model knows."
        raise ValueError(msg)
    return genes


def find_genes_of_object(genes: list[str], reader: CellReader) -> list[int | None]:
    """Return the index into the vocabulary of each column name, symbol or Ensembl id; None: unknown."""
    # Reversed, so that the first of several columns of the same name is found.
    columns = reader.var_names[reader.genes.columns]
    of_column = dict(zip(columns[::-1], reader.genes.gene_index[::-1].tolist(), strict=True))
    of_id = {name: index for index, name in enumerate(reader.vocabulary) if name}
    ids = to_ensembl(genes, vocabulary=reader.vocabulary).ensembl_ids
    return [of_column.get(gene, of_id.get(ensembl_id)) for gene, ensembl_id in zip(genes, ids, strict=True)]


def requested_genes(
    genes: list[str] | None, reader: CellReader, model: str, reference: ReferenceCells | None = None
) -> tuple[np.ndarray | None, dict[int, str]]:
    """Find the genes to predict.

    Parameters
    ----------
    genes
        Column names of the object, symbols or Ensembl ids; `["all"]`: all genes that the model or the reference knows;
        None: the same if there is a reference, else all measured genes.
    reader
        The object.
    model
        Name of the model, for messages.
    reference
        Cells of a reference, which knows more genes.

    Returns
    -------
    Indices into the vocabulary of the model of the genes that it can predict, increasing, or None; and the name of each
    requested gene that is not measured, by its index into the vocabulary (that of the reference, if there is one).

    Raises
    ------
    KeyError
        A gene is neither in the vocabulary nor a column of the object; in a list of more than ten names, none is.
    """
    n_genes = len(reader.vocabulary)
    if genes == [ALL] or (genes is None and reference is not None):
        known = _all_genes(reader, reference)
    elif genes is None:
        return None, {}
    else:
        known = _named_genes(genes, reader, model, reference)
    unmeasured = {index: gene for index, gene in known.items() if index >= n_genes or not reader.measured[index]}
    return np.array(sorted(index for index in known if index < n_genes), dtype=np.int64), unmeasured


def _named_genes(genes: list[str], reader: CellReader, model: str, reference: ReferenceCells | None) -> dict[int, str]:
    """Return the name of each known gene by its index."""
    found = dict(zip(genes, find_genes_of_object(genes, reader), strict=True))
    if reference is not None:
        found |= _genes_of_reference([gene for gene, index in found.items() if index is None], reader, reference)
    missing = [gene for gene, index in found.items() if index is None]
    unknown = [gene for gene in missing if gene not in reader.var_names]
    known = {index: gene for gene, index in found.items() if index is not None}
    nobody_knows = (
        f"the model {model!r} does not know"
        if reference is None
        else f"neither the model {model!r} nor the reference knows"
    )
    if reference is not None and not known and not unknown:
        msg = (
            f"genes: {missing} are measured, and the model {model!r} does not know them: there is nothing to impute. "
            "Request other genes."
        )
        raise KeyError(msg)
    if not known or (unknown and len(genes) <= LONG_LIST):
        raise _unknown_genes(unknown or missing, reader, nobody_knows)
    if unknown:
        names = [*unknown[:LONG_LIST], *([f"and {len(unknown) - LONG_LIST} more"] if len(unknown) > LONG_LIST else [])]
        logger.warning("genes: %s are left out: %s them.", names, nobody_knows)
    for gene in _other_columns(reader).intersection(known.values()):
        logger.warning("genes: the column %r is an antibody or the like; the gene of this name is imputed.", gene)
    kept = [gene for gene in missing if gene in reader.var_names]
    if kept:
        logger.warning("genes: %s keep their values: the model %r does not know them.", kept, model)
    return known


def _genes_of_reference(genes: list[str], reader: CellReader, reference: ReferenceCells) -> dict[str, int]:
    """Find genes that the reference has, and the object has not, among names that the model does not know."""
    index_of = {reference.vocabulary[index]: int(index) for index in reference.gene_index}
    ids = to_ensembl(genes, vocabulary=reader.vocabulary).ensembl_ids
    own = _ids_of_other_columns(reader)
    return {gene: index_of[name] for gene, name in zip(genes, ids, strict=True) if name in index_of and name not in own}


def _ids_of_other_columns(reader: CellReader) -> set[str]:
    """Return the Ensembl ids of measured genes that the model does not know."""
    return set(to_ensembl(list(reader.genes.unmatched), vocabulary=reader.vocabulary).ensembl_ids) - {""}


def _all_genes(reader: CellReader, reference: ReferenceCells | None) -> dict[int, str]:
    """Return the name of each gene that the object measured, the model or the reference knows, by its index."""
    vocabulary = reader.vocabulary if reference is None else reference.vocabulary
    known = np.zeros(len(vocabulary), dtype=bool)
    known[: len(reader.vocabulary)] = reader.vocabulary != ""
    if reference is not None:
        known[reference.gene_index] = True
        known[np.isin(vocabulary, list(_ids_of_other_columns(reader)))] = False
    names = vocabulary
    if reader.genes.id_type == "symbol":
        symbols = {ensembl_id: symbol for ensembl_id, symbol, *_ in iterate_genes()}
        shared = {symbol for symbol, number in Counter(symbols.values()).items() if number > 1}
        found = [symbols.get(name, name) for name in vocabulary]
        names = np.array([name if symbol in shared else symbol for name, symbol in zip(vocabulary, found, strict=True)])
    found = {int(index): str(names[index]) for index in np.flatnonzero(known)}
    if reference is not None and reference.id_type == reader.genes.id_type:
        of_reference = zip(reference.gene_index.tolist(), reference.names.tolist(), strict=True)
        found |= {index: str(name) for index, name in of_reference if index in found}
    return found


def _other_columns(reader: CellReader) -> set[str]:
    """Return the names of columns that are not genes, without those that genes have, too."""
    if reader.not_genes is None:
        return set()
    return set(reader.var_names[reader.not_genes]) - set(reader.var_names[reader.genes.columns])


def _unknown_genes(unknown: list[str], reader: CellReader, nobody_knows: str) -> KeyError:
    close = {match for gene in unknown for match in get_close_matches(gene, reader.var_names, n=1) if match != gene}
    hint = f" Did you mean {sorted(close)}?" if close else ""
    return KeyError(f"genes: {nobody_knows} {unknown}; give symbols or Ensembl ids of human genes.{hint}")

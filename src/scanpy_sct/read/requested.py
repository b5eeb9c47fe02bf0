"""Find the genes that a user requests in a vocabulary."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from difflib import get_close_matches

import numpy as np

from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.read.reader import CellReader

logger = logging.getLogger(__name__)


def as_gene_list(genes: str | Iterable[str] | None) -> list[str] | None:
    """Read the argument `genes`; None stays None.

    Raises
    ------
    ValueError
        It is empty.
    """
    if genes is None:
        return None
    genes = [genes] if isinstance(genes, str) else list(genes)
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
    genes: list[str] | None, reader: CellReader, model: str
) -> tuple[np.ndarray | None, dict[int, str]]:
    """Find the genes to predict.

    Parameters
    ----------
    genes
        Column names of the object, symbols or Ensembl ids; None: all measured genes.
    reader
        The object.
    model
        Name of the model, for messages.

    Returns
    -------
    Indices into the vocabulary, increasing, or None; and the requested name of each unmeasured gene, by its index.

    Raises
    ------
    KeyError
        A gene is neither in the vocabulary nor a column of the object.
    """
    if genes is None:
        return None, {}
    found = dict(zip(genes, find_genes_of_object(genes, reader), strict=True))
    missing = [gene for gene, index in found.items() if index is None]
    unknown = [gene for gene in missing if gene not in reader.var_names]
    known = {index: gene for gene, index in found.items() if index is not None}
    if unknown or not known:
        raise _unknown_genes(unknown or missing, reader, model)
    for gene in _other_columns(reader).intersection(known.values()):
        logger.warning("genes: the column %r is an antibody or the like; the gene of this name is imputed.", gene)
    if missing:
        logger.warning("genes: %s keep their values: the model %r does not know them.", missing, model)
    unmeasured = {index: gene for index, gene in known.items() if not reader.measured[index]}
    return np.array(sorted(known), dtype=np.int64), unmeasured


def _other_columns(reader: CellReader) -> set[str]:
    """Return the names of columns that are not genes, without those that genes have, too."""
    if reader.not_genes is None:
        return set()
    return set(reader.var_names[reader.not_genes]) - set(reader.var_names[reader.genes.columns])


def _unknown_genes(unknown: list[str], reader: CellReader, model: str) -> KeyError:
    close = {match for gene in unknown for match in get_close_matches(gene, reader.var_names, n=1) if match != gene}
    hint = f" Did you mean {sorted(close)}?" if close else ""
    return KeyError(
        f"genes: the model {model!r} does not know {unknown}; give symbols or Ensembl ids of human genes.{hint}"
    )

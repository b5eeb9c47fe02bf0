"""Tables of markers: which columns hold types and which genes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from scanpy_sct.annotate.marker_names import (
    Reading,
    fraction_of_genes,
    fractions_of_genes,
    read_marker_names,
    similar_symbols,
)

logger = logging.getLogger(__name__)

# The first of several counts. CellMarker has a `cell_type` that is "Normal cell" beside its `cell_name`.
TYPE_HEADERS = ("cellname", "celltype", "celltypes", "label", "labels", "type", "types", "annotation", "population")
TYPE_HEADERS += ("cellpopulation", "cell", "celllabel", "cluster", "clusters", "group")
GENE_HEADERS = ("officialgenesymbol", "genesymbol", "symbol", "hgncsymbol", "gene", "genes", "genename", "names")
GENE_HEADERS += ("markergene", "markergenes", "marker", "markers", "cellmarker", "ensemblid", "ensembl", "geneid")
GENE_HEADERS += ("feature", "features", "protein", "proteins", "antigen", "antibody")
SPECIES_HEADERS = ("species", "speciestype", "organism")
HUMAN = re.compile(r"\b(?:hs|human|homo sapiens|h\. ?sapiens|9606)\b", re.IGNORECASE)
RANK = re.compile(r"(?:gene|marker|rank|row|top|symbol|feature|unnamed)?[ _.:-]*\d+", re.IGNORECASE)
"""Names of columns or rows that only count."""
FOLD_CHANGE = re.compile(r"(?:avg|mean|average|summary)?(?:log(?:2|10|e)?|ln)(?:fc|foldchanges?)|lfc")
"""Names, in lower case and without punctuation, of logarithms of fold changes in tables of differential genes."""
LIKE_A_SYMBOL = re.compile(r"(?=.*\d)[A-Z][A-Z0-9.-]{3,}")
MOST, FEW = 0.5, 0.2
"""A column holds genes if at least this fraction of its values is known, and perhaps if the second is."""
NAME_COLUMNS = "name the two columns of a long table 'type' and 'gene', or pass a dict {type: [genes]}"


def rows_of_table(table: pd.DataFrame, columns: Mapping[str, str] | None) -> pd.DataFrame:
    """Return one row per type and gene of a table, columns `label` and `gene`.

    Headers decide, else the values do. Where they leave several readings, an error says how to choose.

    Parameters
    ----------
    table
        Long, wide or binary.
    columns
        Ensembl id of each column of the data that is a gene, by its name.
    """
    table = _human_rows(_with_index(table))
    _check_fold_changes(table)
    type_headers, gene_headers = _headed(table, TYPE_HEADERS), _headed(table, GENE_HEADERS)
    if type_headers and gene_headers:
        return _long(table, _preferred(type_headers), gene_headers[:1])
    fractions = fractions_of_genes({name: table[name] for name in table if _is_text(table[name])}, columns)
    binary = [name for name in table if _is_binary(table[name])]
    if len(binary) > 1:
        return _binary(table, binary, fractions, columns)
    genes = gene_headers[:1] or [name for name, fraction in fractions.items() if fraction >= MOST]
    genes = [name for name in genes if name not in type_headers]
    no_types = {*genes, *gene_headers, *table.columns[table.isna().all()]}
    types = type_headers or [name for name in fractions if name not in no_types]
    if not genes or len(genes) + len(types) < 2:
        raise ValueError(_no_genes(table, fractions))
    if not types:
        return _wide(table, genes)
    if type_headers:
        return _long(table, _preferred(types), genes)
    if not gene_headers:
        _check_no_typos(table, types, fractions)
        genes = _genes_of_rows(table, genes)
    return _long(table, _first_two(table, types, genes), genes)


def _with_index(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the names of its rows as a column, and without columns that only count the rows."""
    if isinstance(table.index, pd.MultiIndex):
        table = table.reset_index()
    elif not isinstance(table.index, pd.RangeIndex) and not is_numeric_dtype(table.index.dtype):
        name = "rows" if table.index.name is None else str(table.index.name)
        if not all(map(RANK.fullmatch, table.index.astype(str))):
            table = table.reset_index(names=f"{name} (index)" if name in table else name)
    table = table.set_axis(table.columns.astype(str), axis=1)
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        msg = f"markers has several columns {twice[0]!r}; give each column a name of its own."
        raise ValueError(msg)
    counts = [name for name in table if name.startswith("Unnamed") and not _is_text(table[name])]
    return table.drop(columns=counts + [name for name in table if _only_counts(table[name])])


def _only_counts(values: pd.Series) -> bool:
    """Whether a column holds "marker 1", "marker 2", ..., not the names of clusters "1", "2"."""
    names = values.dropna().astype(str)
    return bool(len(names)) and all(RANK.fullmatch(name) and not name.isdigit() for name in names) and names.is_unique


def _human_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are for humans or have no species, where a column has the species."""
    species = _headed(table, SPECIES_HEADERS)
    if not species:
        return table
    values = table[species[0]]
    is_human = values.isna() | values.astype(str).str.contains(HUMAN)
    if not is_human.any():
        msg = (
            f"markers: no row is for humans; the column {species[0]!r} holds {_some(values.unique())}. Give markers of "
            "human cells; if they are, remove this column."
        )
        raise ValueError(msg)
    return table[is_human].drop(columns=species[0])


def _check_fold_changes(table: pd.DataFrame) -> None:
    """Raise an error if a table of differential genes holds some that are lower in the type than in other cells."""
    for name in table:
        if _is_text(table[name]) or not FOLD_CHANGE.fullmatch(_plain(name)):
            continue
        n_negative = int((table[name] < 0).sum())
        if n_negative:
            msg = (
                f"markers: the column {name!r} is negative in {n_negative:,} of {len(table):,} rows; these genes are "
                "lower in the type than in other cells, so they do not mark it. Keep the rows with a positive fold "
                f"change: markers[markers[{name!r}] > 0]."
            )
            raise ValueError(msg)


def _plain(header: str) -> str:
    return re.sub(r"[^a-z0-9]", "", header.casefold())


def _headed(table: pd.DataFrame, headers: Iterable[str]) -> list[str]:
    """Return the columns with one of the headers, in the order of these."""
    name_of = {_plain(name): name for name in table.columns[::-1].astype(str)}
    return [name_of[header] for header in headers if header in name_of]


def _is_text(values: pd.Series) -> bool:
    return not is_numeric_dtype(values) and not is_bool_dtype(values)


def _is_binary(values: pd.Series) -> bool:
    return not _is_text(values) and set(values.dropna().unique()) <= {0, 1}


def _preferred(types: list[str]) -> str:
    """Return the column whose header is the most common for types; warn if another may be meant."""
    if len(types) > 1 and not _headed(pd.DataFrame(columns=types[:1]), TYPE_HEADERS[:1]):
        logger.warning(
            "markers: types are read from the column %r, not from %s; rename the columns to choose another.",
            types[0],
            _some(map(repr, types[1:])),
        )
    return types[0]


def _long(table: pd.DataFrame, types: str, genes: list[str]) -> pd.DataFrame:
    """Read types from one column, and genes from one or more."""
    parts = [pd.DataFrame({"label": table[types], "gene": table[name]}).astype(object) for name in genes]
    rows = pd.concat(parts).sort_index(kind="stable")
    return rows[rows.notna().any(axis=1)].reset_index(drop=True)


def _wide(table: pd.DataFrame, genes: list[str]) -> pd.DataFrame:
    """Read a table that has a column of genes per type; empty columns are types without genes."""
    repeated = [name for name in genes if table[name].dropna().duplicated().any()]
    if len(genes) == 2 and repeated:
        msg = (
            f"markers: the columns {_some(map(repr, genes))} both hold names of genes, and one has some twice: they "
            f"may be two types, or types and their genes. Remove duplicates, or {NAME_COLUMNS}."
        )
        raise ValueError(msg)
    labels = [name for name in table if name in genes or table[name].isna().all()]
    return table[labels].astype(object).melt(var_name="label", value_name="gene")


def _genes_of_rows(table: pd.DataFrame, genes: list[str]) -> list[str]:
    """Return the columns with the genes of the type of each row: all, or one of several that name the same genes."""
    if len(genes) == 1 or all(map(RANK.fullmatch, genes)):
        return genes
    rows = table[genes].dropna().head(100).astype(str)
    found = read_marker_names(rows.to_numpy().ravel())
    ids = rows.map(lambda name: found[name].ensembl_ids)
    if len(rows) and (ids.nunique(axis=1) == 1).mean() > MOST:
        return genes[:1]
    msg = (
        f"markers: the columns {_some(map(repr, genes))} hold genes, so they may be types, or several genes of the "
        f"type in each row; leave out the other columns of a wide table, or {NAME_COLUMNS}."
    )
    raise ValueError(msg)


def _binary(
    table: pd.DataFrame, binary: list[str], fractions: dict[str, float], columns: Mapping[str, str] | None
) -> pd.DataFrame:
    """Read zeros and ones, of types in columns and genes in rows or the other way round."""
    if len(fractions) != 1:
        msg = (
            f"markers: the columns {_some(binary)} hold zeros and ones, and {len(fractions)} others hold text; a "
            f"binary table needs one column, or an index, that names its rows. For a long table, {NAME_COLUMNS}."
        )
        raise ValueError(msg)
    ((name, fraction),) = fractions.items()
    in_rows = bool(_headed(table, GENE_HEADERS)) or fraction >= MOST
    in_columns = fraction_of_genes(binary, columns) >= MOST
    if _headed(table, TYPE_HEADERS):
        in_rows = False
    elif _headed(table, GENE_HEADERS):
        in_columns = False
    if in_rows == in_columns:
        names = f"rows ({_some(table[name])}) and columns ({_some(binary)})"
        problem = "both hold names of genes" if in_rows else "hold no names of genes"
        msg = f"markers: {names} of a binary table {problem}; call the column that names the rows 'type' or 'gene'."
        raise ValueError(msg)
    rows = table.melt(id_vars=name, value_vars=binary, var_name="column of table", value_name="is marker")
    rows = rows[rows["is marker"] == 1]
    renamed = rows.rename(
        columns={name: "gene", "column of table": "label"} if in_rows else {name: "label", "column of table": "gene"}
    )
    return renamed[["label", "gene"]].astype(object).reset_index(drop=True)


def _first_two(table: pd.DataFrame, types: list[str], genes: list[str]) -> str:
    """Return the column of types: the only one that may be, or the one that is among the first two with the genes."""
    if len(types) == 1:
        return types[0]
    first = list(table.columns[:2])
    chosen = [name for name in first if name in types]
    if len(chosen) != 1 or not set(first) & set(genes):
        msg = f"markers: any of the columns {_some(map(repr, types))} may hold the types; {NAME_COLUMNS}."
        raise ValueError(msg)
    logger.warning(
        "markers: types are read from the column %r, not from %s. To choose another, %s.",
        chosen[0],
        _some(repr(name) for name in types if name != chosen[0]),
        NAME_COLUMNS,
    )
    return chosen[0]


def _check_no_typos(table: pd.DataFrame, types: list[str], fractions: dict[str, float]) -> None:
    """Raise an error if a column that would hold types may hold misspelt genes of a wide table."""
    for name in types:
        values = table[name].dropna().astype(str)
        if values.duplicated().any():
            continue
        found = read_marker_names(values)
        unknown = [value for value in values if found[value].reading is Reading.UNKNOWN]
        like_genes = [value for value in unknown if LIKE_A_SYMBOL.fullmatch(value)]
        misspelt = [value for value in like_genes if similar_symbols(value)]
        if (fractions[name] >= FEW and like_genes) or len(misspelt) > len(unknown) / 2:
            msg = (
                f"markers: the column {name!r} may hold types, or genes of a type {name!r}, of which these are "
                f"not known: {_some(unknown)}. Correct them, or {NAME_COLUMNS}."
            )
            raise ValueError(msg)


def _no_genes(table: pd.DataFrame, fractions: dict[str, float]) -> str:
    found = f"markers has the columns {list(table.columns)}"
    if len(fractions) < 2:
        numbers = [name for name in table if name not in fractions]
        also = " Numbers other than 0 and 1, such as weights, are not used." if len(numbers) > 1 else ""
        if any(separator in str(name) for name in table for separator in ";\t,"):
            also = " Its values seem to be separated by another character: pass sep= to pandas.read_csv."
        return f"{found}; give a table with two columns, type and gene.{also}"
    return f"{found}, and none of them holds mostly genes; {NAME_COLUMNS}."


def _some(values: Iterable[object]) -> str:
    values = [str(value) for value in values]
    return ", ".join(values[:5]) + (", ..." if len(values) > 5 else "")

"""Find the columns of an object that are not genes: antibodies, guides, peaks, control probes, spike-ins."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from scanpy_sct.read.columns import as_series, index_of
from scanpy_sct.sparse_tools import keep_entries

# Names of columns of `.var` and their values are compared in lower case, without anything but letters and digits.
_TYPE_COLUMNS = frozenset(
    "featuretype featuretypes featureclass featurebiotype modality modalities codeclass probetype targettype "
    "analyte analytetype".split()
)
_BIOTYPE_COLUMNS = frozenset("genetype genetypes genebiotype biotype type class".split())

_NOT_GENES = frozenset(
    "antibodycapture antigencapture multiplexingcapture antibody antibodies antibodyderivedtag antibodyderivedtags adt "
    "adts cellsurfaceprotein surfaceprotein surfaceproteins citeseq abseq hto htos hashtag hashtags cellhashing "
    "sampletag sampletags samplebarcode lineagebarcode crispr crisprguide crisprguidecapture guiderna grna sgrna "
    "atac peak peaks chromatinaccessibility negativecontrolprobe negativecontrolcodeword negativecontrol "
    "negativecontrols negativeprobe negativeprobes unassignedcodeword deprecatedcodeword blankcodeword genomiccontrol "
    "controlprobe controlcodeword systemcontrol falsecode blank blanks spikein spikeins ercc".split()
)
# Beside biotypes, "protein" may well mean a gene that codes for one.
_NOT_GENES_BY_TYPE = _NOT_GENES | frozenset(
    "custom protein proteins prot ab guide guides control controls positive negative vdj vdjt vdjb tcr bcr".split()
)

# Names of letters and digits alone, as most genes have, are compared with these only.
_PLAIN_NAMES = [
    # Xenium, MERSCOPE, MERFISH
    r"blank(codeword)?[-_. ]?\d+",
    # CosMx, GeoMx, nCounter
    r"neg(ative)?([-_. ]?(control|prb|prob|probe)s?)?([-_. ]?\d+|[-_]wt[xa]|[-_]kilo|[-_]ctp\d+)",
    r"negative([-_. ]?(control|prb|probe)s?)?",
    r"(systemcontrol|falsecode)[-_. ]?\d*",
    # spike-ins
    r"sirv\d+",
    # sample tags
    r"(hto|hashtag|sampletag)[-_ ]?\d+.*",
]
_NAMES_WITH_SIGNS = [
    # Xenium
    r"(NegControl(Probe|Codeword)|UnassignedCodeword|DeprecatedCodeword|Intergenic_Region|antisense)_.*",
    # CosMx, GeoMx, nCounter
    r"(pos|neg)_[a-h]\([\d.]+\)",
    # spike-ins
    r"(gspikein[-_])?ercc[-_.]\d{5}",
    # antibodies
    r".+[-_. ]totalseq[-_ ]?[abcd]?",
    r".+[-_. ]total[abc]",
    r"(ab|adt|hto|cite|prot|protein|antibody|anti-(human|mouse))[_:].+",
    r"(adt|hto|antibody|anti-(human|mouse))-.+",
    r".+[_:](adt|hto|prot|protein|antibody)",
    r".+\|pabo",
    # as CITE-seq-Count writes them: name and sequence
    r".+-[ACGT]{12,}",
    # peaks
    r"chr(\d+|[xym]|mt)[:_-]\d{3,}[-_:]\d{3,}",
]
_IS_PLAIN_NOT_GENE = re.compile("|".join(_PLAIN_NAMES), re.IGNORECASE).fullmatch
_IS_NOT_GENE = re.compile("|".join([*_PLAIN_NAMES, *_NAMES_WITH_SIGNS]), re.IGNORECASE).fullmatch


def find_not_genes(var: Any, names: pd.Series, owner: str = "adata") -> np.ndarray:
    """Find the columns of the matrix that are not genes, (n_vars,) bool.

    They are declared in a column of `.var` such as `feature_types`, or have the names that instruments and protocols
    give to antibodies, control probes and spike-ins, in ``names`` or in the index. Unknown types are taken for genes.

    Raises
    ------
    ValueError
        No column is a gene.
    """
    declared = _declared(var)
    found = declared.ne("").to_numpy()
    index = pd.Series(index_of(var))
    for each in [names] if names.equals(index) else [names, index]:
        texts = each.astype(object).fillna("").astype(str).str.strip()
        found |= np.array([_is_not_gene(text) for text in texts], dtype=bool)
    if found.all():
        types = ", ".join(f"{value!r} ({n:,})" for value, n in declared.value_counts().items() if value)
        why = f"{owner}.var says that they are {types}" if types else f"names such as {names.iloc[0]!r} say so"
        msg = (
            f"None of the {len(found):,} columns of {owner} is a gene: {why}. Pass the object with the gene expression "
            "(of a MuData `mdata['rna']`); if the columns are genes, correct or delete this column of .var."
        )
        raise ValueError(msg)
    return found


def has_types(var: Any) -> bool:
    """Return whether `.var` has a column with the type of each column of the matrix, as Cell Ranger writes it."""
    return any(_plain(name) in _TYPE_COLUMNS for name in var)


def without_columns(matrix: sparse.csr_matrix, columns: np.ndarray | None) -> sparse.csr_matrix:
    """Return a matrix without the entries of some columns, (n_vars,) bool, which stay as empty ones; None: as it is."""
    return matrix if columns is None else keep_entries(matrix, ~columns[matrix.indices])


def _is_not_gene(name: str) -> bool:
    is_match = _IS_PLAIN_NOT_GENE if name.isalnum() else _IS_NOT_GENE
    return is_match(name) is not None


def _declared(var: Any) -> pd.Series:
    """Return the type that a column of `.var` gives to each column that is not a gene, "" for all others."""
    result = pd.Series("", index=range(len(index_of(var))), dtype=object)
    for name in var:
        known = _NOT_GENES_BY_TYPE if _plain(name) in _TYPE_COLUMNS else _NOT_GENES
        if _plain(name) not in _TYPE_COLUMNS | _BIOTYPE_COLUMNS:
            continue
        types = as_series(var[name]).astype(object).reset_index(drop=True)
        is_not_gene = types.map({value: _plain(value) in known for value in types.dropna().unique()}).eq(True)
        result = result.mask(is_not_gene, types)
    return result


def _plain(text: object) -> str:
    return re.sub(r"[\W_]", "", str(text)).lower()

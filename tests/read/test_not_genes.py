from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scanpy_sct.read.genes import load_gene_table
from scanpy_sct.read.not_genes import find_not_genes


def found(names, **columns):
    var = pd.DataFrame(columns, index=names)
    return find_not_genes(var, pd.Series(var.index)).tolist()


@pytest.mark.parametrize("column", ["feature_types", "feature_type", "Feature Class", "modality", "CodeClass"])
@pytest.mark.parametrize(
    ("gene", "other"),
    [
        ("Gene Expression", "Antibody Capture"),
        ("Gene Expression", "CRISPR Guide Capture"),
        ("Gene Expression", "Peaks"),
        ("Gene Expression", "Custom"),
        ("Gene Expression", "Negative Control Probe"),
        ("gene", "unassigned_codeword"),
        ("Endogenous", "Negative"),
        ("rna", "prot"),
        ("Multiplexing of my own", "Multiplexing Capture"),
        (np.nan, "Antibody Capture"),
    ],
)
def test_declared_types(column, gene, other):
    assert found(["A", "CD4", "B"], **{column: [gene, other, gene]}) == [False, True, False]
    assert found(["A", "CD4", "B"], **{column: pd.Categorical([gene, other, gene])}) == [False, True, False]


@pytest.mark.parametrize("values", [["protein_coding", "lncRNA"], ["antisense", "misc_RNA"], ["protein", "TR_V_gene"]])
def test_biotypes_of_genes_are_no_reason(values):
    assert found(["A", "B"], gene_type=values) == [False, False]
    assert found(["A", "B"], gene_type=["spike-in", values[1]]) == [True, False]


def test_columns_about_something_else_are_not_read():
    assert found(["A", "B"], cell_type=["Antibody Capture", "Peaks"], highly_variable=[True, False]) == [False, False]


@pytest.mark.parametrize(
    "name",
    """NegControlProbe_00042 NegControlCodeword_0500 BLANK_0006 UnassignedCodeword_0003 antisense_PROKR2
    DeprecatedCodeword_0001 Intergenic_Region_13 Negative1 Negative01 NegPrb01 SystemControl1 FalseCode1 Blank-1 blank_0
    NegProbe-WTX NEG_A(0) ERCC-00002 CD3_TotalSeqB CD3_TotalC CD4-TotalSeqA ADT_CD4 ab_CD4 adt-CD4 prot:CD4 CD4_PROT
    HTO_1 hashtag_2_TotalSeqC CD86-GTCTTTGTCAGTGCA CD4:SK3|CD4|AHS0032|pAbO chr1:1000-2000 anti-human_CD4""".split(),
)
def test_names_of_controls_antibodies_and_spike_ins(name):
    assert found([name, "ACTB"]) == [True, False]
    # The other column of names counts as well.
    var = pd.DataFrame(index=["CD4", "ACTB"])
    assert find_not_genes(var, pd.Series([name, "ACTB"])).tolist() == [True, False]


def test_no_name_of_a_gene_is_taken_for_one():
    table = load_gene_table()
    names = pd.concat([table["symbol"], table["aliases"].str.split("|").explode(), pd.Series(table.index)])
    assert not any(found([*names, *names.str.upper()]))


def test_without_any_gene():
    with pytest.raises(ValueError, match=r"None of the 2 columns of adata is a gene: .* 'Peaks' \(2\).*mdata\['rna'\]"):
        found(["A", "B"], feature_types=["Peaks", "Peaks"])
    with pytest.raises(ValueError, match=r"names such as 'ADT_CD4' say so"):
        found(["ADT_CD4", "ADT_CD8"])
    assert found(["A", "B"], feature_types=["Multiome", "Whatever"]) == [False, False]

from __future__ import annotations

import numpy as np
import pandas as pd

from scanpy_sct.read.gene_table import iterate_genes
from scanpy_sct.read.symbols import Evidence, find_genes

NONE = np.array([], dtype=str)
TNFAIP3 = "ENSG00000118503"


def find(*names, preferred=NONE, **options):
    found = find_genes(pd.Series(names, index=range(5, 5 + len(names))), np.asarray(preferred), **options)
    assert found.index.tolist() == list(range(5, 5 + len(names)))
    return found


def test_better_evidence_is_a_smaller_number():
    kinds = [Evidence.ID, Evidence.EXACT, Evidence.ALIAS, Evidence.SPELLING, Evidence.SUFFIX, Evidence.UNKNOWN]
    assert [int(kind) for kind in kinds] == [-1, 0, 1, 2, 3, 4]


def test_how_a_name_was_found():
    found = find("TNFAIP3", "CD45", "HLA.A", "C1ORF112", "TNFAIP3-1", "CD3E-2", "no_gene", "TNFAIP3")
    assert found["evidence"].tolist() == [0, 1, 2, 2, 3, 4, 4, 0]
    assert not found["ambiguous"].any()
    assert (found["ensembl_id"] != "").tolist() == [True] * 5 + [False, False, True]
    assert found["ensembl_id"].iloc[[0, 4, 7]].tolist() == [TNFAIP3] * 3


def test_genes_that_code_for_proteins_are_preferred_to_others_but_not_to_the_vocabulary():
    """A20 is an alias of TNFAIP3 and of a gene that codes for no protein, C2orf27B one of two such genes."""
    found = find("A20", "C2orf27B")
    assert found["ensembl_id"].tolist() == [TNFAIP3, ""]
    assert found["ambiguous"].tolist() == [False, True]
    (other,) = {gene for gene, symbol, aliases, _ in iterate_genes() if "A20" in aliases} - {TNFAIP3}
    assert find("A20", preferred=[other])["ensembl_id"].tolist() == [other]
    assert find("A20", preferred=[other, TNFAIP3])["ambiguous"].tolist() == [True]


def test_one_name_decides_on_another_in_one_data_set():
    assert find("SARS")["ambiguous"].tolist() == [True]
    both = find("SARS", "SARS2")
    assert both["ambiguous"].tolist() == [False, False]
    assert both["ensembl_id"].iloc[0] == "ENSG00000031698"  # SARS1
    assert find("SARS", "SARS2", one_data_set=False)["ambiguous"].tolist() == [True, False]

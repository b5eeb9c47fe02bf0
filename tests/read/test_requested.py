from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.read.genes import load_gene_table
from scanpy_sct.read.reader import CellReader
from scanpy_sct.read.reference import ReferenceCells, reference_vocabulary
from scanpy_sct.read.requested import as_gene_list, requested_genes

ACTB, TP53, PTPRC, GAPDH, CD4 = (
    "ENSG00000075624",
    "ENSG00000141510",
    "ENSG00000081237",
    "ENSG00000111640",
    "ENSG00000010610",
)
VOCABULARY = np.array([ACTB, "", TP53, PTPRC, GAPDH, CD4])


@pytest.fixture
def reader():
    """Cells with ACTB, TP53, a gene that the model lacks, and an antibody named like a gene."""
    var = pd.DataFrame({"feature_types": ["Gene Expression"] * 3 + ["Antibody Capture"]})
    var.index = ["ACTB", "TP53", "XIST", "CD4"]
    adata = ad.AnnData(np.random.default_rng(0).poisson(3, (30, 4)).astype(np.float32), var=var)
    return CellReader(adata, VOCABULARY, "log1p_counts", min_genes=2)


def test_a_list_of_genes():
    assert as_gene_list(None) is None
    assert as_gene_list("ACTB") == ["ACTB"]
    assert as_gene_list(iter(["ACTB", "TP53"])) == ["ACTB", "TP53"]
    with pytest.raises(ValueError, match="genes is empty"):
        as_gene_list([])


def test_names_symbols_and_ids(reader, caplog):
    with caplog.at_level(logging.WARNING):
        found, unmeasured = requested_genes(["GAPDH", TP53, "CD45", "ACTB"], reader, "m")
    assert found.tolist() == [0, 2, 3, 4]  # increasing
    assert unmeasured == {4: "GAPDH", 3: "CD45"}
    assert not caplog.records


def test_all_measured_genes(reader):
    assert requested_genes(None, reader, "m") == (None, {})


def test_a_column_that_the_model_does_not_know_is_kept(reader, caplog):
    found, unmeasured = requested_genes(["XIST", "ACTB"], reader, "m")
    assert (found.tolist(), unmeasured) == ([0], {})
    assert "['XIST'] keep their values: the model 'm' does not know them" in caplog.text
    with pytest.raises(KeyError, match=r"the model 'm' does not know \['XIST'\]"):
        requested_genes(["XIST"], reader, "m")


def test_a_gene_named_like_an_antibody(reader, caplog):
    found, unmeasured = requested_genes(["CD4"], reader, "m")
    assert (found.tolist(), unmeasured) == ([5], {5: "CD4"})
    assert "the column 'CD4' is an antibody or the like; the gene of this name is imputed" in caplog.text


def test_genes_that_nothing_knows(reader):
    with pytest.raises(KeyError, match=r"does not know \['TP35'\].*Did you mean \['TP53'\]\?") as error:
        requested_genes(["ACTB", "TP35"], reader, "m")
    assert "ACTB" not in str(error.value)
    with pytest.raises(KeyError, match="of human genes") as error:
        requested_genes(["qqqqqqqq"], reader, "m")
    assert "Did you mean" not in str(error.value)


def test_all_genes_have_the_names_of_the_reference(reader):
    symbols = load_gene_table()["symbol"]
    xist, myc = (symbols.index[symbols == name][0] for name in ("XIST", "MYC"))
    vocabulary = reference_vocabulary(VOCABULARY)
    index = {name: number for number, name in enumerate(vocabulary)}
    names = {GAPDH: "GAPD", xist: "xist, which the object measured", myc: "MYC of the reference"}
    order = sorted(names, key=index.get)
    reference = ReferenceCells(
        counts=sparse.csr_matrix((60, 3), dtype=np.float32),
        gene_index=np.array([index[name] for name in order]),
        names=np.array([names[name] for name in order], dtype=object),
        id_type="symbol",
        vocabulary=vocabulary,
    )
    found, unmeasured = requested_genes(["all"], reader, "m", reference)
    assert found.tolist() == [0, 2, 3, 4, 5]
    assert unmeasured == {3: "PTPRC", 4: "GAPD", 5: "CD4", index[myc]: "MYC of the reference"}

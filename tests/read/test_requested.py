from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.read.genes import load_gene_table
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellReader
from scanpy_sct.read.reference import ReferenceCells, reference_vocabulary
from scanpy_sct.read.requested import as_gene_list, find_genes_of_object, requested_genes

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
    assert as_gene_list(["all"]) == ["all"]
    with pytest.raises(ValueError, match="genes is empty"):
        as_gene_list([])
    with pytest.raises(ValueError, match="'all' means all genes, and stands alone; leave out the other 1 names"):
        as_gene_list(["all", "ACTB"])


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


def test_the_first_of_several_columns_of_one_name():
    adata = ad.AnnData(np.ones((30, 3), dtype=np.float32), var=pd.DataFrame({"id": [TP53, ACTB, CD4]}, list("aab")))
    reader = CellReader(adata, VOCABULARY, "log1p_counts", ReadOptions(gene_names="id"), min_genes=2)
    assert find_genes_of_object(["a", "b", "ACTB", "c", ""], reader) == [2, 5, 0, None, None]


def test_a_gene_named_like_an_antibody(reader, caplog):
    found, unmeasured = requested_genes(["CD4"], reader, "m")
    assert (found.tolist(), unmeasured) == ([5], {5: "CD4"})
    assert "the column 'CD4' is an antibody or the like; the gene of this name is imputed" in caplog.text


def test_genes_that_nothing_knows(reader):
    with pytest.raises(KeyError, match=r"does not know \['TP35'\].*Did you mean \['TP53'\]\?") as error:
        requested_genes(["ACTB", "TP35"], reader, "m")
    assert "ACTB" not in str(error.value)
    with pytest.raises(KeyError) as error:
        requested_genes(["XIST"], reader, "m")
    assert "Did you mean" not in str(error.value)
    reader.var_names = pd.Index(["TP53", "TP63"])  # as similar to TP83
    with pytest.raises(KeyError, match=r"Did you mean \['TP63'\]\?"):
        requested_genes(["TP83"], reader, "m")
    with pytest.raises(KeyError, match="of human genes") as error:
        requested_genes(["qqqqqqqq"], reader, "m")
    assert "Did you mean" not in str(error.value)


@pytest.mark.parametrize(
    ("n_unknown", "text"),
    [
        (10, "['x0', 'x1', 'x2', 'x3', 'x4', 'x5', 'x6', 'x7', 'x8', 'x9'] are left out"),
        (11, "'x8', 'x9', 'and 1 more'] are left out: the model 'm' does not know them."),
    ],
)
def test_unknown_genes_of_a_long_list_are_left_out(reader, caplog, n_unknown, text):
    found, _ = requested_genes(["ACTB", *(f"x{number}" for number in range(n_unknown))], reader, "m")
    assert found.tolist() == [0]
    assert text in caplog.text


def test_unknown_genes_of_a_list_of_ten_are_an_error(reader):
    with pytest.raises(KeyError, match=r"does not know \['x'\]"):
        requested_genes(["ACTB", *["TP53"] * 8, "x"], reader, "m")


SYMBOLS = load_gene_table()["symbol"]
XIST, MYC = (SYMBOLS.index[SYMBOLS == name][0] for name in ("XIST", "MYC"))


@pytest.fixture(scope="module")
def reference():
    """Make a reference with GAPDH and genes that the model does not know: the first such one, XIST, MYC."""
    vocabulary = reference_vocabulary(VOCABULARY)

    def made(id_type="symbol"):
        index = {name: number for number, name in enumerate(vocabulary)}
        names = {GAPDH: "GAPD", vocabulary[6]: "first", XIST: "xist", MYC: "MYC of the reference"}
        order = sorted(names, key=index.get)
        return ReferenceCells(
            counts=sparse.csr_matrix((60, 4), dtype=np.float32),
            gene_index=np.array([index[name] for name in order]),
            names=np.array([names[name] for name in order], dtype=object),
            id_type=id_type,
            vocabulary=vocabulary,
        )

    return made


@pytest.mark.parametrize("genes", [["all"], None])
def test_all_genes_have_the_names_of_the_reference(reader, reference, genes):
    found, unmeasured = requested_genes(genes, reader, "m", reference())
    assert found.tolist() == [0, 2, 3, 4, 5]
    myc = reference().vocabulary.tolist().index(MYC)
    assert unmeasured == {3: "PTPRC", 4: "GAPD", 5: "CD4", 6: "first", myc: "MYC of the reference"}


def test_ids_of_a_reference_are_no_names_for_symbols(reader, reference):
    _, unmeasured = requested_genes(["all"], reader, "m", reference("ensembl"))
    assert {"CD4", "GAPDH", "MYC", "PTPRC"} < set(unmeasured.values())


def test_named_genes_of_a_reference(reader, reference, caplog):
    found, unmeasured = requested_genes(["MYC", "TP53", "GAPDH", "XIST"], reader, "m", reference())
    assert found.tolist() == [2, 4]
    assert unmeasured == {4: "GAPDH", reference().vocabulary.tolist().index(MYC): "MYC"}
    assert "['XIST'] keep their values" in caplog.text
    with pytest.raises(KeyError, match=r"\['XIST'\] are measured, .* there is nothing to impute"):
        requested_genes(["XIST"], reader, "m", reference())
    with pytest.raises(KeyError, match=r"neither the model 'm' nor the reference knows \['TSIX'\]"):
        requested_genes(["XIST", "TSIX"], reader, "m", reference())


def test_names_of_all_genes():
    """Symbols where the object has symbols, but ids for genes that share a symbol; ids where it has ids."""
    shared = SYMBOLS.index[SYMBOLS == "POLR2J3"]
    assert len(shared) == 2
    vocabulary = np.array([ACTB, TP53, shared[0], GAPDH])
    adata = ad.AnnData(np.ones((30, 2), dtype=np.float32), var=pd.DataFrame(index=["ACTB", "TP53"]))
    reader = CellReader(adata, vocabulary, "log1p_counts", min_genes=2)
    assert requested_genes(["all"], reader, "m")[1] == {2: shared[0], 3: "GAPDH"}
    adata.var_names = [ACTB, TP53]
    reader = CellReader(adata, vocabulary, "log1p_counts", min_genes=2)
    assert requested_genes(["all"], reader, "m")[1] == {2: shared[0], 3: GAPDH}

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from scanpy_sct.train import cell_ontology_names
from scanpy_sct.train.ontology import normalise, propose

TERMS = {
    "CL:1": {"label": "T cell", "synonyms": ["T lymphocyte", "T-lymphocyte"]},
    "CL:2": {"label": "gamma-delta T cell", "synonyms": ["twin"]},
    "CL:3": {"label": "CD14-positive monocyte", "synonyms": ["Twin", "shared"]},
    "CL:4": {"label": "CD16-negative monocyte", "synonyms": ["shared", "t CELL"]},
    "CL:5": {"label": "erythrocyte", "synonyms": None, "deprecated": False},
    "CL:6": {"label": "obsolete blood cell", "synonyms": ["erythrocyte", "RBC"], "deprecated": True},
    "CL:7": {"label": "neuron of nucleus"},
}


@pytest.mark.parametrize(
    ("label", "name", "term_id", "how"),
    [
        ("T cell", "T cell", "CL:1", "label"),
        ("T lymphocyte", "T cell", "CL:1", "synonym"),
        ("t CELL", "CD16-negative monocyte", "CL:4", "synonym"),  # to the letter, before anything is normalised
        ("T_cells", "T cell", "CL:1", "label, normalised"),
        ("γδ T-Cells", "gamma-delta T cell", "CL:2", "label, normalised"),
        ("CD14+ Monocytes", "CD14-positive monocyte", "CL:3", "label, normalised"),
        ("CD16- monocyte", "CD16-negative monocyte", "CL:4", "label, normalised"),
        ("t.lymphocytes", "T cell", "CL:1", "synonym, normalised"),
        ("Neuron of nucleus", "neuron of nucleus", "CL:7", "label, normalised"),
        ("twin", "gamma-delta T cell", "CL:2", "synonym"),
        ("TWIN", "", "", "ambiguous"),
        ("shared", "", "", "ambiguous"),
        ("Erythrocytes", "erythrocyte", "CL:5", "label, normalised"),
        ("RBC", "", "", ""),
        ("obsolete blood cell", "", "", ""),
        ("CD14 monocyte", "", "", ""),
        ("CD14- monocyte", "", "", ""),
        ("T", "", "", ""),
        ("", "", "", ""),
    ],
)
def test_only_what_is_written_alike_is_proposed(label, name, term_id, how):
    assert propose([label], TERMS).loc[label].tolist() == [name, term_id, how]


def test_normalise():
    assert normalise(" CD4+CD8- T-Cells ") == "cd4 positive cd8 negative t cell"
    assert normalise("β-cell") == normalise("Beta cells") == "beta cell"
    assert normalise("cells of mass") == "cell of mass"
    assert normalise("+") == "+"


def test_names_of_the_real_ontology():
    pytest.importorskip("cellxgene_ontology_guide")
    # Stable names and ids of http://purl.obolibrary.org/obo/cl.owl.
    labels = pd.Series(["B cells", "NK cell", "B cells", np.nan, "CD14+ Monocyte", "fibroblast", 7], name="cell_type")
    table = cell_ontology_names(labels.astype("category"))
    expected = pd.DataFrame(
        [
            ("B cell", "CL:0000236", "label, normalised"),
            ("natural killer cell", "CL:0000623", "synonym"),
            ("CD14-positive monocyte", "CL:0001054", "label, normalised"),
            ("fibroblast", "CL:0000057", "label"),
            ("", "", ""),
        ],
        index=["B cells", "NK cell", "CD14+ Monocyte", "fibroblast", "7"],
        columns=["name", "id", "how"],
    )
    pd.testing.assert_frame_equal(table, expected)
    assert list(cell_ontology_names([]).columns) == ["name", "id", "how"]


def test_every_name_of_the_real_ontology_is_its_own_proposal():
    pytest.importorskip("cellxgene_ontology_guide")
    from cellxgene_ontology_guide.ontology_parser import OntologyParser

    parser = OntologyParser()
    ids = {
        name: key for name, key in parser.get_term_label_to_id_map("CL").items() if not parser.is_term_deprecated(key)
    }
    assert len(ids) > 2000
    table = cell_ontology_names(list(ids))
    assert table["id"].to_dict() == ids
    assert set(table["how"]) == {"label"}
    # Written otherwise they stay what they are: no two names become the same.
    written = {name.upper().replace("-", "_"): key for name, key in ids.items() if "," not in name}
    table = cell_ontology_names(list(written))
    plain = table[table["how"].str.startswith("label")]
    assert len(plain) > 2000
    assert plain["id"].to_dict() == {name: written[name] for name in plain.index}


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cellxgene_ontology_guide", None)
    monkeypatch.setitem(sys.modules, "cellxgene_ontology_guide.ontology_parser", None)
    with pytest.raises(ImportError, match=r'pip install "scanpy_sct\[ontology\]"'):
        cell_ontology_names(["B cell"])


def test_a_single_text_is_refused():
    with pytest.raises(TypeError, match=r"give a list of labels, \['B cell'\]"):
        cell_ontology_names("B cell")

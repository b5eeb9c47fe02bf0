from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from scanpy_sct.annotate.labels import Annotation, check_label_names, check_labels, choose_labels, has_no_label

EMPTY = np.array([False, False, True])


def annotation(novelty=None):
    return Annotation(("x", "y"), np.array([[0.9, 0.1], [0.45, 0.55], [1.0, 0.0]]), EMPTY, novelty)


def test_the_most_probable_label_is_chosen_or_unknown():
    given = annotation()
    labels, score, probabilities = choose_labels(given, 0.6)
    assert labels.tolist() == ["x", "unknown", "unknown"]
    np.testing.assert_allclose(score, [0.9, 0.55, 0.5])
    np.testing.assert_allclose(probabilities[2], 0.5)
    assert given.probabilities[2, 0] == 1  # the argument stays as it was
    assert choose_labels(given, 0)[0].tolist() == ["x", "y", "unknown"]


def test_novelty_lowers_the_score_and_not_the_probabilities():
    labels, score, probabilities = choose_labels(annotation(np.array([0.5, 0.0, np.nan])), 0.5)
    np.testing.assert_allclose(score, [0.45, 0.55, 0.5])
    assert labels.tolist() == ["unknown", "y", "unknown"]
    np.testing.assert_allclose(probabilities[0], [0.9, 0.1])


def test_rare_labels_and_empty_cells_are_left_out(caplog):
    labels = ["a"] * 4 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2
    has_counts = np.ones(len(labels), dtype=bool)
    has_counts[10] = False  # leaves two of c
    with caplog.at_level(logging.WARNING):
        strings, usable = check_labels(labels, "labels", has_counts)
    assert strings.tolist() == labels
    assert np.flatnonzero(usable).tolist() == list(range(8))
    assert "c, d" in caplog.text


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 4 + ["b"] * 4 + [None, np.nan], r"2 of 10 cells have no label; remove these cells\."),
        (
            ["a"] * 4 + ["b"] * 3 + ["nan", "nan", None],
            r"3 of 10 cells have no label \('nan': 2\); remove these cells, or",
        ),
        (["a", "b", "b ", " a", "a"] * 2, "differ only in spaces: ' a' and 'a'; 'b' and 'b '"),
        (["T cell", "T  cell", "a", "a", "a"] * 2, "differ only in spaces"),
        (["a"] * 5 + ["unknown "] * 5, "'unknown ' is reserved"),
        (["a"] * 5 + ["Unknown"] * 5, "'Unknown' is reserved"),
        (["a/b"] * 5 + ["a|b"] * 5, "would become the same in a file"),
        (["a"] * 8 + ["b"] * 2, r"at least two labels .* found a \(8\), b \(2\)"),
    ],
)
def test_labels_that_cannot_be_used(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, "labels", np.ones(10, dtype=bool))


def test_numbers_become_strings():
    labels, usable = check_labels([0, 0, 0, 1, 1, 1], "labels", np.ones(6, dtype=bool))
    assert labels.tolist() == ["0", "0", "0", "1", "1", "1"]
    assert usable.all()


def test_other_labels_pass():
    check_label_names(["unknown cells", "B"], "markers")


@pytest.mark.parametrize(
    "text", ["nan", "NaN", "", " ", "NA", "N/A", "None", "null", "<NA>", "-", "Unassigned", "not_assigned"]
)
def test_texts_that_mean_no_label(text):
    assert has_no_label(pd.Series(["a", text, None])).tolist() == [False, True, True]
    with pytest.raises(ValueError, match=f"4 of 10 cells have no label .{text!r}: 4"):
        check_labels(["a"] * 3 + ["b"] * 3 + [text] * 4, "labels", np.ones(10, dtype=bool))
    with pytest.raises(ValueError, match='is read as "no label"'):
        check_label_names(["a", text], "markers")


def test_labels_that_only_resemble_such_texts_pass(caplog):
    labels = ["NAM", "nancy", "None of these", "0", "Nanog+", "CD4+ T", "CD4- T", "naive"]
    assert not has_no_label(pd.Series([*labels, 0, 1.5, False], dtype=object)).any()
    check_label_names(labels, "labels")
    assert not caplog.text


def test_labels_that_hardly_differ_or_name_no_type_are_warned_of(caplog):
    check_label_names(["T cell", "t cell", "T-cell", "B", "Doublets", "other"], "labels")
    assert "'T cell' and 't cell' and 'T-cell' differ only in" in caplog.text
    assert "'Doublets', 'other' is read as a label like any other" in caplog.text

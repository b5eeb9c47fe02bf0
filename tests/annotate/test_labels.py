from __future__ import annotations

import logging

import numpy as np
import pytest

from scanpy_sct.annotate.labels import Annotation, check_label_names, check_labels, choose_labels

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
        (["a"] * 4 + ["b"] * 4 + [None, np.nan], "2 of 10 cells have no label"),
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

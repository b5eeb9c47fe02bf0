from __future__ import annotations

import inspect

import pytest

from scanpy_sct.annotate.annotators import ANNOTATORS, Annotator


@pytest.mark.parametrize("name", ["reference", "markers", "label_head"])
def test_annotators_follow_the_protocol(name):
    annotator = ANNOTATORS[name]
    assert annotator.name == name
    assert isinstance(annotator.learns, bool)
    assert isinstance(annotator.calibrated, bool)
    expected = list(inspect.signature(Annotator.annotate).parameters)
    assert list(inspect.signature(annotator.annotate).parameters) == expected


def test_only_annotators_that_learn_need_labelled_cells():
    assert [name for name, annotator in ANNOTATORS.items() if annotator.learns] == ["reference"]
    assert [name for name, annotator in ANNOTATORS.items() if not annotator.calibrated] == ["markers"]

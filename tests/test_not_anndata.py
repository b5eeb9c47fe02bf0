"""Every public function that takes an AnnData refuses other objects, before it reads anything."""

from __future__ import annotations

import pytest

import scanpy_sct as sct

MODEL = "a model/that is not there"
CALLS = {
    "pp.check": lambda found: sct.pp.check(found, model=MODEL),
    "tl.impute": lambda found: sct.tl.impute(found, model=MODEL),
    "tl.embed": lambda found: sct.tl.embed(found, model=MODEL),
    "tl.annotate": lambda found: sct.tl.annotate(found, model=MODEL),
    "get.imputed": lambda found: sct.get.imputed(found, ["CD3E"]),
    "pl.imputed": lambda found: sct.pl.imputed(found, ["CD3E"]),
    "pl.recovery": lambda found: sct.pl.recovery(found),
    "pl.label_confidence": lambda found: sct.pl.label_confidence(found),
    "pl.marker_dots": lambda found: sct.pl.marker_dots(found, {"T": ["CD3E"]}),
    "pl.confusion": lambda found: sct.pl.confusion(found, "labels"),
    "evaluate.imputation": lambda found: sct.evaluate.imputation(found, model=MODEL),
    "evaluate.embedding": lambda found: sct.evaluate.embedding(found, model=MODEL),
    "evaluate.annotation": lambda found: sct.evaluate.annotation(found, "labels", model=MODEL),
    "train.finetune": lambda found: sct.train.finetune(MODEL, found),
    "train.fit_label_head": lambda found: sct.train.fit_label_head(MODEL, found, "labels"),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("holder", ["spatialdata", "mudata"])
def test_the_line_that_passes_a_part_is_named(name, holder):
    parts = {"cells": None}
    # `layers` of a MuData is None.
    body = {
        "__module__": f"{holder}.core",
        "tables": parts,
        "mod": parts,
        "layers": None,
        "uns": {},
        "obs": {},
        "obsm": {},
    }
    found = type("Holder", (), body)()
    place = {"spatialdata": r"sdata\.tables", "mudata": r"mdata\.mod"}[holder]
    with pytest.raises(TypeError, match=rf"must be an AnnData, found Holder.*`{place}\['cells'\]`"):
        CALLS[name](found)


def test_nothing_public_is_left_out():
    """Of all that is public, these take none: they load, list, or take files only."""
    public = {f"{part}.{name}" for part in ("pp", "tl", "get", "pl") for name in getattr(sct, part).__all__}
    assert public - {"pp.Report"} <= set(CALLS)

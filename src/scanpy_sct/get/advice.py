"""What to call to get genes that were not imputed: a call that works for the object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anndata import AnnData

from scanpy_sct.checkpoints.registry import DEFAULT_MODEL, known_genes
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.storable import NONE

DEFAULTS = {
    "layer": None,
    "library_key": None,
    "gene_names": None,
    "scale": "auto",
    "bags": "auto",
    "calibrate": True,
    "blend": True,
    "denoise": False,
    "values": "auto",
    "hide": None,
}
"""Arguments of `tl.impute` that are repeated where they differ from these values."""


def advise_impute(adata: AnnData, key: str) -> str:
    """Return the call that makes a result under this key."""
    if any(key in getattr(adata, name) for name in ("uns", "layers", "obs", "obsm")):
        key = _free_key(adata, "sct")
    return "sct.tl.impute(adata)" if key == "sct" else f"sct.tl.impute(adata, key_added={key!r})"


def advise_genes(adata: AnnData, names: list[str], absent: list[str], key: str) -> str:
    """Say what to do about requested genes that are not in the result.

    Parameters
    ----------
    adata, key
        The object and the name of its result.
    names
        All requested genes.
    absent
        Those that were not imputed.
    """
    recorded = adata.uns.get(key, {})
    params, model = recorded.get("params", {}), recorded.get("model", {}).get("name", DEFAULT_MODEL)
    vocabulary = known_genes(model)
    ids = dict(zip(names, to_ensembl(names).ensembl_ids, strict=True))
    unknown = [name for name in absent if not ids[name] or (vocabulary is not None and ids[name] not in vocabulary)]
    sentences = []
    if unknown:
        sentences.append(f"the model {model!r} does not know {unknown}; give symbols or Ensembl ids of human genes")
    measured = [name for name in unknown if name in adata.var_names]
    if measured:
        sentences.append(f"the measured values of {measured} are in adata[:, {measured}].layers[{key!r}]")
    if len(unknown) < len(absent):
        genes = [name for name in names if name not in unknown]
        new = _free_key(adata, key)
        call = _call(genes, params, model if vocabulary is not None else None, new)
        sentences.append(f"impute them with {call} and get them with key={new!r}")
    return "; ".join(sentences)


def _call(genes: list[str], params: Mapping[str, Any], model: str | None, key: str) -> str:
    options: dict[str, Any] = {"genes": genes}
    for name, default in DEFAULTS.items():
        value = params.get(name, default)
        if not (value == default or (default is None and value in (None, NONE))):
            options[name] = value
    # Of a matrix to hide, only that there was one is recorded.
    in_hand = {name for name, value in options.items() if name == "hide" and value == "matrix"}
    arguments = [f"{name}={name if name in in_hand else repr(value)}" for name, value in options.items()]
    if model != DEFAULT_MODEL:  # None: a checkpoint that only its user can load
        arguments.append("model=model" if model is None else f"model={model!r}")
    return f"sct.tl.impute(adata, {', '.join(arguments)}, key_added={key!r})"


def _free_key(adata: AnnData, key: str) -> str:
    number, free = 2, key
    while any(free in getattr(adata, name) for name in ("uns", "layers", "obs", "obsm")):
        free, number = f"{key}_{number}", number + 1
    return free

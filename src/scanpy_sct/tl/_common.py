"""What all verbs share: reading, the seed, the record of what was done."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from scanpy_sct.checkpoints.registry import load_model
from scanpy_sct.read.expression import Expression, read_expression

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from scipy import sparse

    from scanpy_sct.checkpoints.checkpoint import Checkpoint


def read(
    adata: AnnData,
    model: str | PathLike[str] | Checkpoint,
    *,
    layer: str | None,
    library_key: str | None,
    gene_names: str | None,
    hide: sparse.csr_matrix | None = None,
) -> tuple[Checkpoint, Expression]:
    """Load the checkpoint and read the object for it."""
    checkpoint = load_model(model)
    expression = read_expression(
        adata,
        checkpoint.genes,
        token_scale=checkpoint.tokens.scale,
        layer=layer,
        library_key=library_key,
        gene_names=gene_names,
        hide=hide,
    )
    return checkpoint, expression


def refuse_backed_copy(adata: AnnData, copy: bool) -> None:
    """Refuse what anndata could not write to: a copy or a view of an object whose matrix is on disk."""
    if getattr(adata, "isbacked", False) and (copy or adata.is_view):
        found = "copy=True" if copy else "adata is a view"
        msg = f"{found}, and the matrix of adata is on disk (backed); give adata.to_memory()."
        raise ValueError(msg)


def refuse_foreign_key(adata: AnnData, key_added: str) -> None:
    """Refuse a key under which another tool keeps what it did in `.uns`, such as "neighbors"."""
    found = getattr(adata, "uns", {}).get(key_added)
    is_ours = isinstance(found, Mapping) and "scanpy_sct" in found.get("versions", {})
    if found is not None and not is_ours:
        msg = f"key_added={key_added!r}: adata.uns[{key_added!r}] already exists and was not written by scanpy_sct."
        raise ValueError(msg)


def as_seed(rng: int | np.random.Generator | None) -> int:
    """Turn the argument ``rng`` into a whole number; None asks for a fresh one."""
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer | np.random.Generator | None):
        msg = f"rng={rng!r} must be a whole number, a numpy.random.Generator or None."
        raise TypeError(msg)
    if isinstance(rng, int | np.integer):
        if not 0 <= rng < 2**32:
            msg = f"rng={rng} must not be negative, and smaller than 2**32."
            raise ValueError(msg)
        return int(rng)
    return int((np.random.default_rng() if rng is None else rng).integers(2**31))


def record(checkpoint: Checkpoint, expression: Expression, **more: Any) -> dict[str, Any]:
    """Collect what is needed to trace a result: model, weights, genes, versions."""
    genes = expression.genes
    return {
        "model": {
            "name": checkpoint.name,
            "revision": checkpoint.revision or "",
            "sha256": checkpoint.sha256,
            "license": checkpoint.license,
        },
        "genes": {
            "matched": len(genes.columns),
            "unmatched": len(genes.unmatched),
            "ambiguous": len(genes.ambiguous),
            "duplicates": len(genes.duplicates),
            "id_type": genes.id_type,
        },
        "scale": expression.scale,
        "versions": {name: version(name) for name in ("scanpy_sct", "torch", "anndata", "numpy")},
        **more,
    }

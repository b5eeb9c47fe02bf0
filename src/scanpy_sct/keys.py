"""Names of the fields that results are written to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IMPUTATION = {
    "imputed": "var",
    "recovery": "var",
    "unmeasured": "obsm",
    "bins": "layers",
    "confidence": "layers",
    "network_fraction": "var",
    "source": "var",
    "similarity": "obs",
}
ANNOTATION = {"score": "obs", "novelty": "obs", "probs": "obsm"}
FURTHER = {"imputation": IMPUTATION, "annotation": ANNOTATION, "embedding": {}}
"""Further fields of a result: what follows its name, and where the field is."""
Kind = Literal["imputation", "annotation", "embedding"]


@dataclass(frozen=True)
class ImputationKeys:
    """Names of the fields of an imputation."""

    values: str
    """In `.layers`, and in `.uns` for the parameters."""
    imputed: str
    recovery: str
    """Both in `.var`."""
    unmeasured: str
    """In `.obsm`."""
    bins: str
    confidence: str
    """Both in `.layers`."""
    network_fraction: str
    source: str
    """Both in `.var`."""
    similarity: str
    """In `.obs`."""

    @classmethod
    def of(cls, key: str) -> ImputationKeys:
        """Names that belong to `key_added`."""
        return cls(checked_key(key), *(f"{key}_{suffix}" for suffix in IMPUTATION))


@dataclass(frozen=True)
class AnnotationKeys:
    """Names of the fields of an annotation."""

    labels: str
    """In `.obs`, and in `.uns` for the parameters."""
    score: str
    novelty: str
    """Both in `.obs`."""
    probabilities: str
    """In `.obsm`."""

    @classmethod
    def of(cls, key: str) -> AnnotationKeys:
        """Names that belong to `key_added`."""
        return cls(checked_key(key), *(f"{key}_{suffix}" for suffix in ANNOTATION))


def fields_of(key: str, kind: Kind) -> list[tuple[str, str]]:
    """Return container and name of the fields of a result, and of those that would be confused with it."""
    further = [(container, f"{key}_{suffix}") for suffix, container in FURTHER[kind].items()]
    return [*((container, key) for container in ("uns", "layers", "obs", "obsm")), *further]


def checked_key(key: str) -> str:
    """Return the name of a result, or raise an error if a file cannot store it."""
    if not isinstance(key, str):
        msg = f"key_added={key!r} must be a string, found {type(key).__name__}."
        raise TypeError(msg)
    if key in ("", ".", "..", "_index") or "/" in key:
        msg = f"key_added={key!r} cannot be stored in a file; use one or more letters or digits without '/'."
        raise ValueError(msg)
    return key

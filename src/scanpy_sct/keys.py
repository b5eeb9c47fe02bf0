"""Names of the fields that results are written to."""

from __future__ import annotations

from dataclasses import dataclass


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
        suffixes = ("imputed", "recovery", "unmeasured", "bins", "confidence", "network_fraction", "source")
        return cls(checked_key(key), *(f"{key}_{suffix}" for suffix in (*suffixes, "similarity")))


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
        return cls(checked_key(key), f"{key}_score", f"{key}_novelty", f"{key}_probs")


def checked_key(key: str) -> str:
    """Return the name of a result, or raise an error if a file cannot store it."""
    if not isinstance(key, str):
        msg = f"key_added={key!r} must be a string, found {type(key).__name__}."
        raise TypeError(msg)
    if key in ("", ".", "..", "_index") or "/" in key:
        msg = f"key_added={key!r} cannot be stored in a file; use one or more letters or digits without '/'."
        raise ValueError(msg)
    return key

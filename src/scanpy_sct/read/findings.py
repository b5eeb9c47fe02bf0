"""Warnings about the data, in the log once for each text."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache

logger = logging.getLogger(__name__)


def warn_once(findings: Iterable[str]) -> list[str]:
    """Log each text that was not logged before in this process, and return all but empty ones."""
    found = [text for text in findings if text]
    for text in found:
        _warn_once(text)
    return found


@cache
def _warn_once(text: str) -> None:
    logger.warning(text)

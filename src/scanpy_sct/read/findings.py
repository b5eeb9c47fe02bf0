"""Warnings about the data, in the log once for each object."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache

logger = logging.getLogger(__name__)


def warn_once(findings: Iterable[str], cells: int) -> list[str]:
    """Log each text that was not logged before for the same ``cells``, a hash of their names; empty texts are left out.

    Returns all texts but the empty ones.
    """
    found = [text for text in findings if text]
    for text in found:
        _warn_once(text, cells)
    return found


@cache
def _warn_once(text: str, cells: int) -> None:
    logger.warning(text)

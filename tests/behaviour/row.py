"""A row of the behaviour table: unusual data or arguments, and what the functions must do with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from behaviour.plain import Scene

EVERYWHERE = ("check", "impute", "embed", "annotate")
"""Functions that read the object in the same way."""

Change = Callable[["Scene"], Any]
"""Makes a plain scene unusual; may return another object to give to the functions in its place."""


@dataclass(frozen=True)
class Same:
    """The result is that of the plain scene, or of one with another change."""

    than: Change | None = None
    tolerance: float = 1e-5


@dataclass(frozen=True)
class Warns:
    """There is a result, and the log says what was assumed; what it says about the data stands in the report, too."""

    texts: tuple[str, ...]
    in_report: bool = True


@dataclass(frozen=True)
class Refused:
    """An error before anything is computed; all objects and files stay as they were."""

    error: type[Exception]
    argument: str
    finding: str
    remedy: str
    """Patterns of what the message names."""


@dataclass(frozen=True)
class Row:
    """One case."""

    group: str
    case: str
    """What a user has or does, for the page."""
    outcome: str
    """What happens, for the page; "" if the kind of outcome says all."""
    change: Change
    expected: Same | Warns | Refused
    functions: tuple[str, ...]
    """Names in :data:`behaviour.plain.FUNCTIONS`, on each of which the row is run."""

    @property
    def name(self) -> str:
        """Name of the test."""
        return f"{self.group}: {self.change.__name__}"


@dataclass(frozen=True)
class Group:
    """Rows of one kind, in their order on the page."""

    title: str
    notes: tuple[str, ...] = ()
    """More to know, below the table."""
    rows: list[Row] = field(default_factory=list)

    def same(
        self,
        case: str,
        outcome: str = "",
        *,
        than: Change | None = None,
        on: tuple[str, ...] = ("impute", "embed"),
        tolerance: float = 1e-5,
    ) -> Callable[[Change], Change]:
        """Add the decorated change: the functions ``on`` give the same result as without it."""
        return self._add(case, outcome, Same(than, tolerance), on)

    def warns(
        self, case: str, outcome: str, *texts: str, on: tuple[str, ...] = ("check", "embed"), in_report: bool = True
    ) -> Callable[[Change], Change]:
        """Add the decorated change: there is a result, and a warning that holds ``texts`` (patterns)."""
        return self._add(case, outcome, Warns(texts, in_report), on)

    def refused(
        self,
        case: str,
        outcome: str,
        error: type[Exception],
        argument: str,
        finding: str,
        remedy: str,
        *,
        on: tuple[str, ...] = ("check", "impute"),
    ) -> Callable[[Change], Change]:
        """Add the decorated change: an error that names ``argument``, ``finding`` and ``remedy`` (patterns)."""
        return self._add(case, outcome, Refused(error, argument, finding, remedy), on)

    def _add(
        self, case: str, outcome: str, expected: Same | Warns | Refused, on: tuple[str, ...]
    ) -> Callable[[Change], Change]:
        def added(change: Change) -> Change:
            self.rows.append(Row(self.title, case, outcome, change, expected, on))
            return change

        return added

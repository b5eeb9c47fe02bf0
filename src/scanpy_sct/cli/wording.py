"""Messages of the package, which speak of Python's arguments and objects, as a user of the shell knows them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

OBJECTS = {"adata": "cells", "reference": "reference"}
"""Objects of which messages speak, and the parameters of commands that name their files."""

running: ContextVar[Any] = ContextVar("running", default=None)
"""The context of typer of the command that runs."""

_FIELD = r"(?:X|raw|layers|obs|var|obsm|varm|obsp|varp|uns|obs_names|var_names)\b"


def in_shell(message: str) -> str:
    """Return a message with the options and files of the command that runs now."""
    context = running.get()
    if context is None:
        return message
    given = {name: context.params.get(parameter) for name, parameter in OBJECTS.items()}
    files = {name: path for name, path in given.items() if isinstance(path, Path)}
    return with_files(with_flags(message, context.command.params), files)


class ShellFormatter(logging.Formatter):
    """Log messages as a user of the shell knows them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return in_shell(super().format(record))


def with_flags(message: str, parameters: Sequence[Any]) -> str:
    """Name arguments in a message as options of the command: `--library-key 'a'` for `library_key='a'`."""
    for parameter in parameters:
        flag = next((name for name in parameter.opts if name.startswith("--")), None)
        if flag is not None:
            # None cannot be given in a shell, and some messages begin with the argument.
            message = re.sub(rf"(?<![\w.]){parameter.name}=None reads", f"Without {flag}, the command reads", message)
            message = message.replace(f"Error: {parameter.name}: ", f"Error: {flag}: ", 1)
            message = re.sub(rf"`{parameter.name}=?`", f"`{flag}`", message)
            message = re.sub(rf"(?<![\w.]){parameter.name}=(?=\S)", f"{flag} ", message)
            message = re.sub(rf"(?<![\w.`]){parameter.name}=(?=\s)", flag, message)
    return message


def with_files(message: str, files: Mapping[str, Path]) -> str:
    """Name files instead of objects: `X of cells.h5ad` for `adata.X`; code to run in Python stays as it is."""
    for name, path in files.items():
        # (?>...) takes all of a name such as adata.raw.var['a'], so that what follows it tells whether it is code.
        field = rf"(?<![\w.`])(?<!del ){name}\.((?>{_FIELD}(?:\.{_FIELD})*(?:\[[^\]]*\])*))(?!\.\w|[\w(\[]|\s*=)"
        message = re.sub(field, rf"\1 of {_literal(path)}", message)
    if "adata" in files:
        cells = files["adata"]
        message = re.sub(r"(?<![\w.`(/])adata(?!\.\w|[\w\[(`/]|\s*=)", _literal(cells), message)
        if re.search(r"(?<![\w.])adata\b", message.replace(str(cells), "")):
            message += f" (adata: {cells}, read in Python.)"
    return message


def _literal(path: Path) -> str:
    """Return a path as the replacement in a regular expression."""
    return str(path).replace("\\", r"\\")

"""What all commands of `sct` share: options that may stand after the command, and errors as one plain message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

# Errors that users can fix are printed as one message; all others are defects and keep their traceback.
USER_ERRORS = (ValueError, TypeError, KeyError, OSError)
ANYWHERE = {"--verbose": 0, "-v": 0, "--quiet": 0, "-q": 0, "--debug": 0, "--threads": 1}
"""Options of all commands, and how many values each takes: they may also stand after the name of the command."""


class Commands(TyperGroup):
    """Commands whose user errors are one plain message instead of a traceback; the exit code is then 1."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the options of all commands to the front."""
        return super().parse_args(ctx, _moved(args))

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except USER_ERRORS as error:
            if ctx.params.get("debug") or isinstance(error, BrokenPipeError):  # as in `sct --help | head`
                raise
            # str() of a KeyError adds quotes.
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            notes = getattr(error, "__notes__", [])
            command = self.commands.get(ctx.invoked_subcommand)
            text = with_flags(" ".join([f"Error: {message}", *notes]), [] if command is None else command.params)
            typer.secho(text, err=True, fg="red")
            typer.echo(f"(`sct {ctx.invoked_subcommand} ... --debug` shows the traceback.)", err=True)
            raise typer.Exit(1) from error


def _moved(args: Sequence[str]) -> list[str]:
    first: list[str] = []
    rest: list[str] = []
    waiting = 0
    for number, arg in enumerate(args):
        if arg == "--":
            return [*first, *rest, *args[number:]]
        if waiting or arg in ANYWHERE:
            first.append(arg)
            waiting = waiting - 1 if waiting else ANYWHERE[arg]
        else:
            rest.append(arg)
    return first + rest


def with_flags(message: str, parameters: Sequence[Any]) -> str:
    """Name arguments in a message as options of the command: `--library-key 'a'` for `library_key='a'`."""
    for parameter in parameters:
        flag = next((name for name in parameter.opts if name.startswith("--")), None)
        if flag is not None:
            # None cannot be given in a shell, and some messages begin with the argument.
            message = re.sub(rf"(?<![\w.]){parameter.name}=None reads", f"Without {flag}, the command reads", message)
            message = message.replace(f"Error: {parameter.name}: ", f"Error: {flag}: ", 1)
            message = re.sub(rf"(?<![\w.]){parameter.name}=(?=\S)", f"{flag} ", message)
            message = re.sub(rf"`{parameter.name}=?`", f"`{flag}`", message)
    return message

"""What all commands of `sct` share: options that may stand after the command, and errors as one plain message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from scanpy_sct.cli.wording import in_shell, running

# Errors that users can fix are printed as one message; all others are defects and keep their traceback.
USER_ERRORS = (ValueError, TypeError, KeyError, OSError)
ANYWHERE = {"--verbose": 0, "-v": 0, "--quiet": 0, "-q": 0, "--debug": 0, "--threads": 1}
"""Options of all commands, and how many values each takes: they may also stand after the name of the command."""


class Commands(TyperGroup):
    """Commands after which the options of all commands may stand, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the options of all commands to the front."""
        return super().parse_args(ctx, _moved(args))


class Command(TyperCommand):
    """A command whose user errors are one plain message instead of a traceback; the exit code is then 1."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Say how several genes are given where they stand as words of their own."""
        given = list(args)  # the parser empties the list
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # typer does not export the type of this one
            if "unexpected extra argument" not in str(error) or "--genes" not in given:
                raise
            msg = f"{error}. Give several genes with commas, without spaces: --genes CD3E,CD14."
            raise typer.BadParameter(msg, ctx) from error

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        of_shell = running.set(ctx)
        try:
            return super().invoke(ctx)
        except USER_ERRORS as error:
            if ctx.find_root().params.get("debug") or isinstance(error, BrokenPipeError):  # as in `sct --help | head`
                raise
            # str() of a KeyError adds quotes.
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            text = in_shell(" ".join([f"Error: {message}", *getattr(error, "__notes__", [])]))
            typer.secho(text, err=True, fg="red")
            typer.echo(f"(`{ctx.command_path} ... --debug` shows the traceback.)", err=True)
            raise typer.Exit(1) from error
        finally:
            running.reset(of_shell)


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

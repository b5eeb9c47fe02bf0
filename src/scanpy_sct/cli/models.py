"""The commands `sct models`."""

from __future__ import annotations

from typing import Annotated

import typer

import scanpy_sct as sct
from scanpy_sct.cli.group import Command
from scanpy_sct.cli.options import flag

DETAILS = "<!-- details -->"
"""Line of a model card between what every user must know and all the rest."""

models_app = typer.Typer(no_args_is_help=True, help="Checkpoints that can be loaded by name.")


@models_app.command("list", cls=Command)
def list_models() -> None:
    """List the checkpoints that can be loaded by name."""
    typer.echo(sct.models.list().to_string())


@models_app.command("describe", cls=Command)
def describe_model(
    name: Annotated[str, typer.Argument(help="Name, folder, or downloaded hub repository.")],
    full: Annotated[bool, flag("--full", help="The whole card, with recipe, all figures and limits.")] = False,
) -> None:
    """Print what a user must know of a checkpoint: what it was trained on, what it is good for, figures, licence."""
    short, mark, details = sct.models.describe(name).partition(DETAILS)
    typer.echo(short.rstrip())
    if not mark:
        return
    typer.echo(f"\n{details.strip()}" if full else f"\n(`sct models describe {name} --full` prints the whole card.)")


@models_app.command("download", cls=Command)
def download_model(
    name: Annotated[str, typer.Argument(help="Name, or OWNER/NAME on the Hugging Face hub.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or full commit hash.")] = None,
) -> None:
    """Download a checkpoint and print its folder."""
    typer.echo(sct.models.download(name, revision=revision))

"""The commands `sct models`."""

from __future__ import annotations

from typing import Annotated

import typer

import scanpy_sct as sct

models_app = typer.Typer(no_args_is_help=True, help="Checkpoints that can be loaded by name.")


@models_app.command("list")
def list_models() -> None:
    """List the checkpoints that can be loaded by name."""
    typer.echo(sct.models.list().to_string())


@models_app.command("describe")
def describe_model(name: Annotated[str, typer.Argument(help="Name, folder, or downloaded hub repository.")]) -> None:
    """Print the model card: data, licence, metrics."""
    typer.echo(sct.models.describe(name))


@models_app.command("download")
def download_model(
    name: Annotated[str, typer.Argument(help="Name, or OWNER/NAME on the Hugging Face hub.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or full commit hash.")] = None,
) -> None:
    """Download a checkpoint and print its folder."""
    typer.echo(sct.models.download(name, revision=revision))

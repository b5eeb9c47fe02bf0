"""The command `sct`: the functions of the package on h5ad and zarr files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import scanpy_sct as sct
from scanpy_sct import files
from scanpy_sct.cli.options import (
    Bags,
    BatchSize,
    Device,
    GeneNames,
    Input,
    KeyAdded,
    Layer,
    LibraryKey,
    Model,
    Output,
    Overwrite,
    Precision,
    Rng,
    as_batch_size,
    as_names,
    flag,
    is_known_gene,
)
from scanpy_sct.cli.training import finetune, pretrain

__all__ = ["app"]

# Errors that a user can correct become one plain message; any other error is a defect and keeps its traceback.
USER_ERRORS = (ValueError, TypeError, KeyError, OSError)


class Commands(TyperGroup):
    """Commands whose user errors are one plain message instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except USER_ERRORS as error:
            if ctx.params.get("debug") or isinstance(error, BrokenPipeError):  # as in `sct --help | head`
                raise
            # The text of a KeyError comes in quotes; its argument does not.
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            typer.secho(f"Error: {message}", err=True, fg="red")
            typer.echo(f"(`sct --debug {ctx.invoked_subcommand} ...` shows where this came from.)", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The single-Cell Transformer on h5ad and zarr files.",
)
models_app = typer.Typer(no_args_is_help=True, help="The checkpoints that can be used by name.")
app.add_typer(models_app, name="models")


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(sct.__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, metavar="", help="Show the version.")
    ] = False,
    verbose: Annotated[bool, flag("--verbose", "-v", help="Show what is done.")] = False,
    quiet: Annotated[bool, flag("--quiet", "-q", help="No progress bars.")] = False,
    debug: Annotated[bool, flag("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Apply the options that all commands share."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    sct.settings.progress = not quiet


def _save(adata: Any, output: Path, *, overwrite: bool) -> None:
    files.write_cells(adata, output, overwrite=overwrite)
    typer.echo(f"Wrote {output}")


@app.command()
def check(
    cells: Input,
    model: Model = "sct-mini",
    layer: Layer = None,
    library_key: LibraryKey = None,
    gene_names: GeneNames = None,
) -> None:
    """Report what would be used of a file: genes, scale, samples, bags, time. Changes nothing."""
    adata = files.read_cells(cells)
    typer.echo(sct.pp.check(adata, model=model, layer=layer, library_key=library_key, gene_names=gene_names))


@app.command()
def impute(
    cells: Input,
    output: Output,
    genes: Annotated[
        str | None,
        typer.Option(help="Genes to predict, measured or not, separated by commas; without it, all measured."),
    ] = None,
    model: Model = "sct-mini",
    layer: Layer = None,
    library_key: LibraryKey = None,
    gene_names: GeneNames = None,
    bags: Bags = "auto",
    hide: Annotated[str | None, typer.Option(help="Boolean layer: entries to mask in all passes.")] = None,
    calibrate: Annotated[bool, flag(help="Fit each gene's detection rate to these data.")] = True,
    blend: Annotated[bool, flag(help="Blend the network with a low-rank reconstruction of these data.")] = True,
    denoise: Annotated[bool, flag("--denoise", help="Combine each prediction with the value measured there.")] = False,
    key_added: KeyAdded = "sct",
    store_bins: Annotated[
        bool, flag("--store-bins", help="Keep the most probable bin and its probability too.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = "auto",
    rng: Rng = 0,
    overwrite: Overwrite = False,
) -> None:
    """Predict every measured value from all others, and unmeasured genes on request."""
    files.check_output(output, overwrite=overwrite)
    adata = files.read_cells(cells)
    sct.tl.impute(
        adata,
        as_names(genes),
        model=model,
        layer=layer,
        library_key=library_key,
        gene_names=gene_names,
        bags=bags,
        hide=hide,
        calibrate=calibrate,
        blend=blend,
        denoise=denoise,
        key_added=key_added,
        store_bins=store_bins,
        device=device,
        precision=precision,
        batch_size=as_batch_size(batch_size),
        rng=rng,
    )
    _save(adata, output, overwrite=overwrite)


@app.command()
def embed(
    cells: Input,
    output: Output,
    model: Model = "sct-mini",
    layer: Layer = None,
    library_key: LibraryKey = None,
    gene_names: GeneNames = None,
    bags: Bags = "random",
    key_added: KeyAdded = "X_sct",
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = "auto",
    rng: Rng = 0,
    overwrite: Overwrite = False,
) -> None:
    """Compute one vector per cell."""
    files.check_output(output, overwrite=overwrite)
    adata = files.read_cells(cells)
    sct.tl.embed(
        adata,
        model=model,
        layer=layer,
        library_key=library_key,
        gene_names=gene_names,
        bags=bags,
        key_added=key_added,
        device=device,
        precision=precision,
        batch_size=as_batch_size(batch_size),
        rng=rng,
    )
    _save(adata, output, overwrite=overwrite)


@app.command()
def annotate(
    cells: Input,
    output: Output,
    reference: Annotated[Path | None, typer.Option(help="Labelled cells, .h5ad or .zarr.")] = None,
    labels_key: Annotated[str | None, typer.Option(help="Column of the reference's .obs with the labels.")] = None,
    markers: Annotated[
        Path | None,
        typer.Option(help="Marker genes: .json (type -> genes), or .csv / .tsv (type, gene) with a header line."),
    ] = None,
    model: Model = "sct-mini",
    layer: Layer = None,
    library_key: LibraryKey = None,
    gene_names: GeneNames = None,
    reference_layer: Annotated[str | None, typer.Option(help="Layer of the reference to read; without it, X.")] = None,
    bags: Bags = "random",
    threshold: Annotated[
        float, typer.Option(help="Cells whose best label is less probable than this are 'unknown'.")
    ] = 0.5,
    key_added: KeyAdded = "sct_label",
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = "auto",
    rng: Rng = 0,
    overwrite: Overwrite = False,
) -> None:
    """Annotate cells from a labelled reference, from marker genes, or with the label head of the checkpoint."""
    files.check_output(output, overwrite=overwrite)
    adata = files.read_cells(cells)
    sct.tl.annotate(
        adata,
        reference=None if reference is None else files.read_cells(reference),
        labels_key=labels_key,
        markers=None if markers is None else files.read_markers(markers, is_gene=is_known_gene),
        model=model,
        layer=layer,
        library_key=library_key,
        gene_names=gene_names,
        reference_layer=reference_layer,
        bags=bags,
        threshold=threshold,
        key_added=key_added,
        device=device,
        precision=precision,
        batch_size=as_batch_size(batch_size),
        rng=rng,
    )
    _save(adata, output, overwrite=overwrite)


app.command()(pretrain)
app.command()(finetune)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("sct-demo"),
    quick: Annotated[bool, flag("--quick", help="Fewer cells.")] = False,
    section: Annotated[bool, flag("--section", help="Also a section of tissue, which is downloaded once.")] = False,
) -> None:
    """Impute, embed and annotate real cells that come with scanpy, and plot them; works offline without --section."""
    from scanpy_sct.demo import run_demo

    run_demo(output, quick=quick, section=section)


@models_app.command("list")
def list_models() -> None:
    """List the checkpoints that can be used by name."""
    typer.echo(sct.models.list().to_string())


@models_app.command("describe")
def describe_model(name: Annotated[str, typer.Argument(help="Name, folder, or downloaded hub repository.")]) -> None:
    """Show the model card: data, licence, metrics."""
    typer.echo(sct.models.describe(name))


@models_app.command("download")
def download_model(
    name: Annotated[str, typer.Argument(help="Name, or OWNER/NAME on the Hugging Face hub.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or full commit hash.")] = None,
) -> None:
    """Download a checkpoint and show its folder."""
    typer.echo(sct.models.download(name, revision=revision))

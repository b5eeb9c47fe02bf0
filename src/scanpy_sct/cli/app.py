"""The command `sct`: the functions of the package on h5ad and zarr files."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

import scanpy_sct as sct
from scanpy_sct import files
from scanpy_sct.cli import options
from scanpy_sct.cli.group import Command, Commands
from scanpy_sct.cli.models import models_app
from scanpy_sct.cli.options import flag
from scanpy_sct.cli.summary import report, warnings_noted
from scanpy_sct.cli.training import finetune, pretrain
from scanpy_sct.cli.wording import ShellFormatter, in_shell
from scanpy_sct.impute.options import Values
from scanpy_sct.keys import AnnotationKeys

__all__ = ["app"]

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The single-Cell Transformer on h5ad and zarr files.",
)
app.add_typer(models_app, name="models")
command = partial(app.command, cls=Command)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(sct.__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, metavar="", help="Show the version.")
    ] = False,
    verbose: Annotated[bool, flag("--verbose", "-v", help="Show the log.")] = False,
    quiet: Annotated[bool, flag("--quiet", "-q", help="No progress bars and no warnings.")] = False,
    threads: Annotated[int | None, typer.Option(help="Number of threads; default: all cores.", min=1)] = None,
    debug: Annotated[bool, flag("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Apply the options of all commands, which may also stand after the command."""
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    handler = logging.StreamHandler()
    handler.setFormatter(ShellFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    # In the log of a pipeline, a progress bar would be a thousand lines.
    sct.settings.progress = not quiet and sys.stderr.isatty()
    if threads is not None:
        _limit_threads(threads)


def _limit_threads(number: int) -> None:
    from threadpoolctl import threadpool_limits

    os.environ["OMP_NUM_THREADS"] = str(number)  # for torch, which is imported later
    threadpool_limits(number)


@command()
def check(
    cells: options.Input,
    model: options.Model = "sct-mini",
    layer: options.Layer = None,
    library_key: options.LibraryKey = None,
    gene_names: options.GeneNames = None,
    scale: options.Scale = "auto",
) -> None:
    """Report what impute would read and do: genes, scale, samples, bags and run time."""
    with files.cells_for(cells) as adata:
        found = sct.pp.check(
            adata, model=model, layer=layer, library_key=library_key, gene_names=gene_names, scale=scale
        )
        for text in (str(found), *(f"\n{note}" for note in files.output_notes(adata))):
            typer.echo(in_shell(text))


@command()
def impute(
    cells: options.Input,
    output: options.Output,
    genes: Annotated[
        str | None,
        typer.Option(
            help="Genes to impute, measured or not, as CD3E,CD14 (commas, no spaces), or 'all'; default: all measured."
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Cells in which more genes were measured, .h5ad or .zarr: for unmeasured genes.")
    ] = None,
    model: options.Model = "sct-mini",
    layer: options.Layer = None,
    library_key: options.LibraryKey = None,
    gene_names: options.GeneNames = None,
    scale: options.Scale = "auto",
    bags: options.Bags = "auto",
    hide: Annotated[str | None, typer.Option(help="Boolean layer: values to treat as unknown.")] = None,
    calibrate: Annotated[bool, flag(help="Shift detection rates and means to these data.")] = True,
    blend: Annotated[bool, flag(help="Blend the network with a low-rank reconstruction of these data.")] = True,
    denoise: Annotated[bool, flag("--denoise", help="Combine each prediction with the measured value.")] = False,
    values: Annotated[Values, typer.Option(help="What is written; auto: on the log scale of the input.")] = "auto",
    reference_layer: options.ReferenceLayer = None,
    reference_scale: options.ReferenceScale = "auto",
    reference_gene_names: options.ReferenceGeneNames = None,
    key_added: options.KeyAdded = "sct",
    store_bins: Annotated[
        bool, flag("--store-bins", help="Also write the most probable bin and its probability.")
    ] = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = "auto",
    rng: options.Rng = 0,
    compression: options.Compression = "gzip",
    summary: options.Summary = False,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Impute every measured gene, or the requested ones, in every cell.

    With an output that ends in .zarr, cells are read and results written block by block, and an interrupted command
    goes on where it was when it is run again.
    """
    files.check_output(output, overwrite=overwrite, others=[] if reference is None else [reference])
    if reference is not None:
        files.check_input(reference)
    names = options.as_names(genes)
    n_genes = None if names is None or names == ["all"] else len(names)
    with (
        files.cells_for(cells, output, ("layers", key_added), n_genes) as adata,
        files.store_for(output) as out,
        warnings_noted() as warnings,
    ):
        sct.tl.impute(
            adata,
            names,
            reference=None if reference is None else files.read_cells(reference),
            reference_layer=reference_layer,
            reference_gene_names=reference_gene_names,
            reference_scale=reference_scale,
            model=model,
            layer=layer,
            library_key=library_key,
            gene_names=gene_names,
            scale=scale,
            bags=bags,
            hide=hide,
            calibrate=calibrate,
            blend=blend,
            denoise=denoise,
            values=values,
            key_added=key_added,
            store_bins=store_bins,
            device=device,
            precision=precision,
            batch_size=options.as_batch_size(batch_size),
            rng=rng,
            out=out,
        )
        if out is None:
            files.write_cells(adata, output, overwrite=overwrite, compression=compression)
        report(adata, "impute", key_added, output, warnings, summary=summary, json=json)


@command()
def embed(
    cells: options.Input,
    output: options.Output,
    model: options.Model = "sct-mini",
    layer: options.Layer = None,
    library_key: options.LibraryKey = None,
    gene_names: options.GeneNames = None,
    scale: options.Scale = "auto",
    bags: options.Bags = "random",
    key_added: options.KeyAdded = "X_sct",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = "auto",
    rng: options.Rng = 0,
    compression: options.Compression = "gzip",
    summary: options.Summary = False,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Compute the cell embedding: one vector per cell."""
    files.check_output(output, overwrite=overwrite)
    with files.cells_for(cells, output, ("obsm", key_added)) as adata, warnings_noted() as warnings:
        sct.tl.embed(
            adata,
            model=model,
            layer=layer,
            library_key=library_key,
            gene_names=gene_names,
            scale=scale,
            bags=bags,
            key_added=key_added,
            device=device,
            precision=precision,
            batch_size=options.as_batch_size(batch_size),
            rng=rng,
        )
        files.write_cells(adata, output, overwrite=overwrite, compression=compression)
        report(adata, "embed", key_added, output, warnings, summary=summary, json=json)


@command()
def annotate(
    cells: options.Input,
    output: options.Output,
    reference: Annotated[Path | None, typer.Option(help="Labelled cells, .h5ad or .zarr.")] = None,
    labels_key: Annotated[str | None, typer.Option(help="Column of the reference's .obs with the labels.")] = None,
    markers: Annotated[
        Path | None,
        typer.Option(help="Marker genes: .json (type -> genes), or a table as .csv or .tsv; see sct.tl.annotate."),
    ] = None,
    label_head: Annotated[bool, flag("--label-head", help="Use the label head of the checkpoint.")] = False,
    model: options.Model = "sct-mini",
    layer: options.Layer = None,
    library_key: options.LibraryKey = None,
    gene_names: options.GeneNames = None,
    scale: options.Scale = "auto",
    reference_layer: options.ReferenceLayer = None,
    reference_scale: options.ReferenceScale = "auto",
    reference_gene_names: options.ReferenceGeneNames = None,
    bags: options.Bags = "random",
    threshold: Annotated[float, typer.Option(help="Cells with a smaller score are 'unknown'.")] = 0.5,
    key_added: options.KeyAdded = "sct_label",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = "auto",
    rng: options.Rng = 0,
    obs_csv: Annotated[Path | None, typer.Option(help="Also write labels, scores and novelty to this CSV.")] = None,
    compression: options.Compression = "gzip",
    summary: options.Summary = False,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Annotate cells from a labelled reference, from marker genes, or with the label head of the checkpoint."""
    _check_source(reference, markers, label_head=label_head)
    others = [path for path in (reference, markers) if path is not None]
    files.check_output(output, overwrite=overwrite, others=others)
    if reference is not None:
        files.check_input(reference)
    if obs_csv is not None:
        files.check_table(obs_csv)
    with files.cells_for(cells, output, ("obs", key_added)) as adata, warnings_noted() as warnings:
        sct.tl.annotate(
            adata,
            reference=None if reference is None else files.read_cells(reference),
            labels_key=labels_key,
            markers=None if markers is None else files.read_markers(markers, options.is_known_gene),
            model=model,
            layer=layer,
            library_key=library_key,
            gene_names=gene_names,
            scale=scale,
            reference_layer=reference_layer,
            reference_scale=reference_scale,
            reference_gene_names=reference_gene_names,
            bags=bags,
            threshold=threshold,
            key_added=key_added,
            device=device,
            precision=precision,
            batch_size=options.as_batch_size(batch_size),
            rng=rng,
        )
        files.write_cells(adata, output, overwrite=overwrite, compression=compression)
        if obs_csv is not None:
            keys = AnnotationKeys.of(key_added)
            # A label head that does not know its home gives no novelty.
            columns = [name for name in (keys.labels, keys.score, keys.novelty) if name in adata.obs]
            files.write_table(adata.obs[columns], obs_csv)
        report(adata, "annotate", key_added, output, warnings, summary=summary, json=json)


def _check_source(reference: Path | None, markers: Path | None, *, label_head: bool) -> None:
    """Raise an error unless exactly one source of labels is given: a label head is never used unasked."""
    sources = {"--reference": reference is not None, "--markers": markers is not None, "--label-head": label_head}
    given = [name for name, is_given in sources.items() if is_given]
    if len(given) != 1:
        msg = (
            f"Labels come from one source, found {' and '.join(given) or 'none'}: give --reference and --labels-key "
            "(labelled cells), or --markers (genes of each type), or --label-head (types that the checkpoint knows)."
        )
        raise ValueError(msg)


command()(pretrain)
command()(finetune)


@command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("sct-demo"),
    quick: Annotated[bool, flag("--quick", help="Fewer cells.")] = False,
    section: Annotated[bool, flag("--section", help="Also impute a tissue section, which is downloaded once.")] = False,
) -> None:
    """Impute, embed, annotate and plot cells that come with scanpy; works offline without --section."""
    from scanpy_sct.demo import run_demo

    run_demo(output, quick=quick, section=section)

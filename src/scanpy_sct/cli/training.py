"""The commands of `sct` that train: `pretrain` and `finetune`."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

import scanpy_sct as sct
from scanpy_sct import files
from scanpy_sct.cli.options import Device, GeneNames, Layer, LibraryKey, Model, Rng, Scale

Settings = Annotated[Path | None, typer.Option(help="Settings other than the defaults, .toml or .json.")]


def pretrain(
    data: Annotated[list[Path], typer.Argument(help="Files of counts to train on, .h5ad or .zarr.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the checkpoint.")],
    config: Settings = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="As in Lightning Fabric: 32-true, bf16-mixed ...")] = "32-true",
    devices: Annotated[int, typer.Option(help="Processes on this machine, one for each device.")] = 1,
    num_nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    strategy: Annotated[str, typer.Option(help="As in Lightning Fabric: auto, ddp ...")] = "auto",
) -> None:
    """Train a checkpoint; the same command resumes an interrupted run."""
    sct.train.pretrain(
        data,
        _pretrain_config(config),
        output,
        device=device,
        precision=precision,
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
    )
    typer.echo(f"Wrote {output}")


def finetune(
    data: Annotated[list[Path], typer.Argument(help="Cells x genes, .h5ad or .zarr.", metavar="CELLS...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new checkpoint.")],
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; default: those of the settings.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; the result then depends on the machine.")
    ] = None,
    config: Settings = None,
    model: Model = "sct-mini",
    layer: Layer = None,
    library_key: LibraryKey = None,
    gene_names: GeneNames = None,
    scale: Scale = "auto",
    device: Device = "auto",
    rng: Rng = 0,
) -> None:
    """Continue the training of a checkpoint on your own data."""
    given = {name: value for name, value in (("steps", steps), ("minutes", minutes)) if value is not None}
    values = ({} if config is None else files.read_mapping(config)) | given
    sct.train.finetune(
        model,
        data,
        _with_values(sct.train.FinetuneConfig(), values),
        output,
        layer=layer,
        library_key=library_key,
        gene_names=gene_names,
        scale=scale,
        device=device,
        rng=rng,
    )
    typer.echo(f"Wrote {output}")


def _pretrain_config(path: Path | None) -> Any:
    """Replace defaults by the settings in a file."""
    from scanpy_sct.model import ReleasedConfig

    defaults = sct.train.PretrainConfig()
    values = {} if path is None else files.read_mapping(path)
    settings = dict(values.pop("network", {}))
    networks = {"compact": defaults.network, "released": ReleasedConfig()}
    architecture = settings.pop("architecture", "compact")
    if architecture not in networks:
        msg = f"--config has network.architecture={architecture!r}; use 'compact' or 'released'."
        raise ValueError(msg)
    network = _with_values(networks[architecture], settings, "network.")
    return _with_values(defaults, {**values, "network": network})


def _with_values(config: Any, values: dict[str, Any], prefix: str = "") -> Any:
    known = {field.name for field in fields(config)}
    unknown = sorted(set(values) - known)
    if unknown:
        msg = f"--config has unknown {', '.join(prefix + name for name in unknown)}; use: {', '.join(sorted(known))}."
        raise ValueError(msg)
    # Files contain lists instead of tuples.
    return replace(config, **{name: tuple(item) if isinstance(item, list) else item for name, item in values.items()})

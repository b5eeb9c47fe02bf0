"""The model card of a pretrained checkpoint: data, settings and the last report on held-out cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.sources import Source

CARD = """\
# {name}

{facts}

## Trained on

{n_cells:,} cells or spots of {n_sources} data sets, raw counts; {held_out:.0%} of them were held out for validation.

{sources}

## Recipe

Made by `sct.train.pretrain` of scanpy_sct with these settings:

{settings}

{last}

## Licence

The weights: {license}. The data have licences of their own.

## Limits

- The network was trained on the data sets above only, and was not evaluated on other tissues:
  `sct.evaluate.imputation` compares it with simple baselines on your own data.
- `sct.tl.annotate` needs a reference or markers, unless a label head is added to the checkpoint.
"""


def model_card(
    checkpoint: Checkpoint, sources: Sequence[Source], config: PretrainConfig, last: Mapping[str, Any] | None
) -> str:
    """Return the card; ``last`` is the last row of the training log."""
    of_source = [
        f"- {source.name}: {len(source.samples):,} cells, {int(source.measured.sum()):,} genes" for source in sources
    ]
    settings = [f"- {field.name}: {getattr(config, field.name)}" for field in fields(config) if field.name != "name"]
    return CARD.format(
        name=checkpoint.name,
        facts=checkpoint.describe(),
        n_cells=sum(len(source.samples) for source in sources),
        n_sources=len(sources),
        held_out=config.validation_fraction,
        sources="\n".join(of_source),
        settings="\n".join(settings),
        last=_result(last),
        license=checkpoint.license,
    )


def _result(last: Mapping[str, Any] | None) -> str:
    if not last:
        return "No report was written during training."
    return (
        f"At the last report (step {int(last['step']):,}, {int(last['cells']):,} cells, "
        f"{last['minutes']:.0f} minutes) the average precision on held-out cells was "
        f"{last['auprc_network']:.4f}. Baselines: {last['auprc_gene_constant']:.4f} (rates in the training data), "
        f"{last['auprc_bag_mean']:.4f} (the other cells of the bag), {last['auprc_knn']:.4f} (the most similar of "
        "them)."
    )

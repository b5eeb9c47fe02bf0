"""One vector per cell."""

from __future__ import annotations

import numpy as np

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.read.expression import Expression
from scanpy_sct.run.inputs import bag_inputs, choose_bag_policy, placed, plan, token_rules
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.run.progress import progress
from scanpy_sct.run.runner import Runner


def predict_embedding(
    checkpoint: Checkpoint,
    expression: Expression,
    *,
    bags: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    rng: int = 0,
) -> np.ndarray:
    """Embed every cell from all that was measured; returns (cells, dimensions) float32."""
    expression = placed(checkpoint, expression)
    runner = Runner(checkpoint, ComputeOptions(device=device, precision=precision, batch_size=batch_size))
    bag_plan = plan(expression, checkpoint.config.bag_size, choose_bag_policy(bags, expression), rng)
    inputs = bag_inputs(expression, bag_plan, token_rules(checkpoint))
    result: np.ndarray | None = None
    for bag, vectors in progress(runner.cell_vectors(inputs), len(bag_plan), "embed"):
        if result is None:
            result = np.zeros((len(expression.samples), vectors.shape[1]), dtype=np.float32)
        result[bag.rows] = vectors[: len(bag.rows)]
    return result

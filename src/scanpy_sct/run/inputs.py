"""From expression and a plan to the tokens of each bag."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy import sparse

from scanpy_sct.checkpoints.checkpoint import Checkpoint
from scanpy_sct.plan.bags import Bag, in_spacings, plan_bags, similarity_points
from scanpy_sct.plan.tokens import TokenRules, make_tokens
from scanpy_sct.read.expression import Expression
from scanpy_sct.run.runner import BagInput
from scanpy_sct.sparse_tools import entry_rows

HiddenOf = Callable[[np.ndarray], np.ndarray]
"""Given row numbers, which entries of these cells are hidden: (cells, positions) bool."""

BAG_POLICIES = ("auto", "spatial", "similar", "random")


def token_rules(checkpoint: Checkpoint) -> TokenRules:
    """Return how this checkpoint writes expression as tokens."""
    return TokenRules(
        vocabulary=checkpoint.genes,
        mask=checkpoint.config.mask_token,
        pad=checkpoint.config.pad_token,
        binning=checkpoint.tokens.binning,
    )


def choose_bag_policy(bags: str, expression: Expression) -> str:
    """Turn ``bags="auto"`` into a policy: neighbours on the tissue where there is one, else similar cells.

    Raises
    ------
    ValueError
        If the policy is unknown, or ``"spatial"`` without coordinates.
    """
    if bags not in BAG_POLICIES:
        msg = f"bags={bags!r} is not known; use one of {', '.join(map(repr, BAG_POLICIES))}."
        raise ValueError(msg)
    if bags == "spatial" and expression.coordinates is None:
        msg = "bags='spatial' needs coordinates in .obsm['spatial'], and there are none; use 'similar' or 'random'."
        raise ValueError(msg)
    if bags == "auto":
        return "similar" if expression.coordinates is None else "spatial"
    return bags


def check_coordinates(checkpoint: Checkpoint, expression: Expression) -> None:
    """Raise a ValueError if the network reads the place of each cell, and the data do not tell it."""
    if checkpoint.config.reads_coordinates and expression.coordinates is None:
        msg = (
            f"The model {checkpoint.name!r} reads coordinates from .obsm['spatial'], and there are none; "
            "use a model that does without, such as 'sct-mini'."
        )
        raise ValueError(msg)


def placed(checkpoint: Checkpoint, expression: Expression) -> Expression:
    """Put the coordinates in the unit in which the network reads them; refuse data that lack them."""
    check_coordinates(checkpoint, expression)
    if not checkpoint.config.reads_coordinates or checkpoint.coordinates == "given":
        return expression
    return replace(expression, coordinates=in_spacings(expression.coordinates, expression.samples))


def choose_path(path: str, checkpoint: Checkpoint) -> str:
    """Turn ``path="auto"`` into what the checkpoint says.

    Raises
    ------
    ValueError
        If the path is unknown, or the network lacks it.
    """
    if path not in ("auto", "full", "direct"):
        msg = f"path={path!r} is not known; use 'auto', 'full' or 'direct'."
        raise ValueError(msg)
    own = "direct" if checkpoint.network.has_cell_embedding else "full"
    if path == "direct" and own != path:
        msg = f"path='direct': the model {checkpoint.name!r} has only the full path; use path='full'."
        raise ValueError(msg)
    if path == "full" and own != path:
        msg = f"path='full': the model {checkpoint.name!r} has no convolutions; use path='direct'."
        raise ValueError(msg)
    return own if path == "auto" else path


def plan(expression: Expression, size: int, policy: str, seed: int, hidden_of: HiddenOf | None = None) -> list[Bag]:
    """Plan bags of ``size`` cells. What ``hidden_of`` hides has no say in which cells are similar."""
    points = None
    if policy == "spatial":
        points = expression.coordinates
    elif policy == "similar":
        points = similarity_points(visible_values(expression.log_values, hidden_of), seed)
    return plan_bags(expression.samples, size, np.random.default_rng(seed), points)


def visible_values(values: sparse.csr_matrix, hidden_of: HiddenOf | None, chunk: int = 1000) -> sparse.csr_matrix:
    """Return ``values`` without its hidden entries."""
    if hidden_of is None:
        return values
    parts = []
    for start in range(0, values.shape[0], chunk):
        part = values[start : start + chunk].copy()
        hidden = hidden_of(np.arange(start, start + part.shape[0]))
        part.data[hidden[entry_rows(part), part.indices]] = 0
        part.eliminate_zeros()
        parts.append(part)
    return sparse.vstack(parts, format="csr")


def bag_inputs(
    expression: Expression,
    bags: list[Bag],
    rules: TokenRules,
    hidden_of: HiddenOf | None = None,
    wanted: np.ndarray | None = None,
) -> Iterator[BagInput]:
    """Make the tokens of each bag.

    A prediction is wanted for the targets of the bag, at the positions where ``wanted`` (positions,) is true and that
    are hidden or were not measured.
    """
    for bag in bags:
        shape = (len(bag.rows), len(expression.measured))
        hidden = np.zeros(shape, dtype=bool) if hidden_of is None else hidden_of(bag.rows)
        made = make_tokens(
            expression.token_values[bag.rows], expression.log_values[bag.rows], hidden, expression.measured, rules
        )
        places = np.zeros(0, dtype=np.int64)
        if wanted is not None:
            places = np.flatnonzero((hidden[: bag.n_targets] | ~expression.measured) & wanted)
        coordinates = None if expression.coordinates is None else expression.coordinates[bag.rows]
        yield BagInput(bag.rows[: bag.n_targets], made.tokens, made.values, places, coordinates)

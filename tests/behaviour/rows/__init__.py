"""The rows, one module a group."""

from behaviour.rows import (
    coordinates,
    dtypes,
    faults,
    genes,
    label_heads,
    labels,
    markers,
    not_genes,
    outputs,
    reference,
    samples,
    storage,
    values,
)

MODULES = (
    storage,
    dtypes,
    values,
    genes,
    not_genes,
    samples,
    coordinates,
    labels,
    reference,
    markers,
    label_heads,
    outputs,
    faults,
)
GROUPS = tuple(module.ROWS for module in MODULES)

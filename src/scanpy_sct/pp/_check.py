from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.impute import Imputer, ImputeSettings
from scanpy_sct.pp._time import seconds_to_impute
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.samples import missed_samples
from scanpy_sct.read.scale import holds_counts, sampled_rows
from scanpy_sct.run.options import BagPolicy, ComputeOptions, Precision
from scanpy_sct.workflow import open_cells

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

NAMES_SHOWN = 4
TIME_RANGE = (0.75, 1.5)
"""Between these parts of the expected time an imputation may end: machines are busy, and data differ."""


@dataclass(frozen=True, repr=False)
class Report:
    """What :func:`scanpy_sct.tl.impute` would use of an object; shows itself as a short table."""

    model: str
    """Name of the checkpoint."""
    license: str
    """Licence of its weights."""
    genes_matched: int
    """Columns of the data that the model knows; these are read and predicted."""
    genes_unmatched: tuple[str, ...]
    """Columns the model does not know; their values stay as they are."""
    genes_ambiguous: tuple[str, ...]
    """Names that fit several genes; not used."""
    genes_duplicate: tuple[str, ...]
    """Columns not used because another column of the same gene has more."""
    genes_not_measured: int
    """Genes the model knows that the data lack; masked, and predicted on request."""
    id_type: str
    """`"symbol"` or `"ensembl"`."""
    scale: str
    """`"counts"`, `"log"`, or `"linear"`: neither, treated like counts."""
    has_counts: bool
    """Whether the values are counts, or counts could be worked out from them."""
    n_cells: int
    n_empty_cells: int
    """Cells without any expressed gene that the model knows."""
    samples: dict[str, int]
    """Cells of each sample."""
    samples_note: str
    """What speaks for several samples where no `library_key` was given, and the way out; else empty."""
    bag_policy: str
    """`"spatial"`, `"similar"` or `"random"`."""
    n_bags: int
    """Bags in each pass."""
    bag_size: int
    """Cells read together; a smaller sample is a smaller bag."""
    n_passes: int
    """How often each bag is read; every entry is hidden in one of the passes."""
    device: str
    precision: str
    seconds: float | None
    """Expected time of an imputation, calibrated and blended: from that of one bag, which was run. None: not known."""

    def rows(self) -> list[tuple[str, str]]:
        """Return the lines of the table: what, and what was found."""
        small = sum(n < self.bag_size for n in self.samples.values())
        samples = f"{len(self.samples):,}" + (f", {small:,} of them smaller than a bag" if small else "")
        samples += f". {self.samples_note}" if self.samples_note else ""
        genes = [
            ("genes used", f"{self.genes_matched:,}, by {self.id_type}"),
            ("genes not known", _count(self.genes_unmatched)),
            ("ambiguous names", _count(self.genes_ambiguous)),
            ("duplicate genes", _count(self.genes_duplicate)),
            ("genes not measured", f"{self.genes_not_measured:,}, masked; can be asked for"),
        ]
        return [
            ("model", f"{self.model} (licence of the weights: {self.license})"),
            *genes,
            ("values", _SCALES[self.scale] if self.has_counts or self.scale != "log" else _NO_COUNTS),
            ("cells", f"{self.n_cells:,}" + (f", {self.n_empty_cells:,} of them empty" if self.n_empty_cells else "")),
            ("samples", samples),
            ("bags", f"{self.n_bags:,} of {self.bag_size:,} cells, {self.bag_policy}"),
            ("passes", f"{self.n_passes:,}"),
            ("device", f"{self.device}, {self.precision}"),
            ("expected time", "not known" if self.seconds is None else f"{_time_range(self.seconds)} to impute"),
        ]

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        style = 'style="text-align: left"'
        cells = (
            f"<tr><th {style}>{escape(name)}</th><td {style}>{escape(value)}</td></tr>" for name, value in self.rows()
        )
        return f"<table>{''.join(cells)}</table>"


def check(
    adata: AnnData,
    *,
    model: str | PathLike[str] | Checkpoint = "sct-mini",
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    bags: BagPolicy = "auto",
    device: str = "auto",
    precision: Precision = "auto",
) -> Report:
    """Report what would be used of an object: genes, scale, samples, bags, time. Changes nothing.

    Arguments mean what they mean in :func:`scanpy_sct.tl.impute`. One bag is run through the network to measure its
    time; what follows it (calibration, blend) is reckoned from the number of cells and genes.

    Parameters
    ----------
    adata
        Cells x genes: counts, or log-normalised values.
    model
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`.
    layer
        Layer to read instead of `X`.
    library_key
        Column of `.obs` that names the sample of each cell; a bag never mixes samples.
    gene_names
        Column of `.var` with symbols or Ensembl ids to use instead of `.var_names`.
    bags
        Which cells are read together: `"auto"`, `"spatial"`, `"similar"` or `"random"`.
    device, precision
        Where and how to compute.

    Returns
    -------
    A report with one plain field for each fact. It prints as a few lines, in a notebook as a table.

    Raises
    ------
    ValueError, KeyError, TypeError
        When an argument or the object cannot be used: the same errors, with the same ways out, as those of the verbs.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> report = sct.pp.check(sct.datasets.pbmc68k())
    >>> report.scale
    'log'
    """
    checkpoint, reader = open_cells(adata, model, ReadOptions(layer, library_key, gene_names))
    imputer = Imputer(checkpoint, reader, ComputeOptions(bags, device, precision, batch_size=1), ImputeSettings())
    genes, size = reader.genes, checkpoint.config.bag_size
    counts = np.bincount(reader.samples, minlength=len(reader.sample_names))
    n_bags = int(np.ceil(counts / size).sum())
    return Report(
        model=checkpoint.name,
        license=checkpoint.license,
        genes_matched=len(genes.columns),
        genes_unmatched=genes.unmatched,
        genes_ambiguous=genes.ambiguous,
        genes_duplicate=genes.duplicates,
        genes_not_measured=int(((checkpoint.genes != "") & ~reader.measured).sum()),
        id_type=genes.id_type,
        scale=reader.scale,
        has_counts=holds_counts(reader.block(sampled_rows(reader.n_cells)).log_values, reader.scale),
        n_cells=reader.n_cells,
        n_empty_cells=sum(
            int((np.diff(reader.block(cells.rows).log_values.indptr) == 0).sum()) for cells in imputer.cells.blocks
        ),
        samples=dict(zip(reader.sample_names, counts.tolist(), strict=True)),
        samples_note=missed_samples(adata, reader.coordinates) if library_key is None else "",
        bag_policy=imputer.plan.policy,
        n_bags=n_bags,
        bag_size=size,
        n_passes=imputer.plan.passes.n,
        device=str(imputer.runner.device),
        precision=str(imputer.runner.dtype).removeprefix("torch."),
        seconds=seconds_to_impute(imputer, n_bags),
    )


_SCALES = {
    "counts": "counts; results are on the log1p scale",
    "linear": "neither counts nor logarithms, treated like counts; results are on the log1p scale",
    "log": "log-normalised; results are on the same scale",
}
_NO_COUNTS = (
    "log-like, but no counts could be worked out (scaled, or another transformation?); better give counts, or log1p of "
    "normalised counts"
)


def _count(names: tuple[str, ...]) -> str:
    """Return the number of names and the first few of them."""
    if not names:
        return "0"
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{len(names):,} ({shown}{', ...' if len(names) > NAMES_SHOWN else ''})"


def _time_range(seconds: float) -> str:
    """Return a rough range around an expected time, both ends in one unit."""
    low, high = (part * seconds for part in TIME_RANGE)
    if high < 5:
        return "a few seconds"
    unit, size = next((unit, size) for unit, size, most in _UNITS if high < most)
    ends = [_rounded(end / size) for end in (low, high)]
    return f"roughly {ends[0]}-{ends[1]} {unit}"


_UNITS = (("s", 1, 120), ("min", 60, 120 * 60), ("h", 3600, np.inf))


def _rounded(value: float) -> str:
    """Return a number in steps of a size that fits it."""
    if value < 10:
        return f"{max(value, 1):.0f}"
    step = 5 if value < 100 else 10
    return f"{step * round(value / step):,}"

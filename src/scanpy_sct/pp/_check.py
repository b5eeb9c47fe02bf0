from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.impute import Imputer, ImputeSettings
from scanpy_sct.impute.timing import count_bags, seconds_to_impute, time_range
from scanpy_sct.read.options import GivenScale, ReadOptions
from scanpy_sct.read.samples import missed_samples
from scanpy_sct.read.scale import holds_counts
from scanpy_sct.run.options import BagPolicy, ComputeOptions, Precision
from scanpy_sct.workflow import open_cells

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

NAMES_SHOWN = 4
SCALES = {
    "counts": "counts; results are on the log1p scale",
    "linear": "decimals that are not logarithms, treated like counts; results are on the log1p scale",
    "log": "log-normalised; results are on the same scale",
}
NO_COUNTS = (
    "log-like, but no counts can be recovered (scaled, or another transformation?); counts, or log1p of normalised "
    "counts, are better"
)


@dataclass(frozen=True, repr=False)
class Report:
    """What :func:`scanpy_sct.tl.impute` would read and do; prints as a table."""

    model: str
    """Name of the checkpoint."""
    license: str
    """Licence of its weights."""
    genes_matched: int
    """Genes of the data that the model knows; these are read and imputed."""
    genes_unmatched: tuple[str, ...]
    """Names that the model does not know; these genes keep their values."""
    genes_ambiguous: tuple[str, ...]
    """Names that match several genes; not used."""
    genes_duplicate: tuple[str, ...]
    """Columns not used because another column of the same gene has a better name or higher counts."""
    genes_kept: tuple[str, ...]
    """For each of these, the column that is used; its position where both have the same name."""
    not_genes: tuple[str, ...]
    """Columns that are not genes, such as antibodies and control probes; left out of everything."""
    genes_not_measured: int
    """Genes that the model knows and the data lack; always masked, and imputed on request."""
    genes_lacking: dict[str, int]
    """Number of genes that a sample never measured although other samples did, by sample; not measured there."""
    id_type: str
    """`"symbol"` or `"ensembl"`."""
    scale: str
    """`"counts"`, `"log"`, or `"linear"`: neither, treated like counts."""
    has_counts: bool
    """Whether the values are counts, or counts can be recovered from them."""
    n_cells: int
    n_empty_cells: int
    """Cells without counts of any gene that the model knows."""
    samples: dict[str, int]
    """Number of cells of each sample."""
    samples_note: str
    """Evidence for several samples if no `library_key` was given, and how to pass them; else empty."""
    bag_policy: str
    """`"spatial"`, `"similar"` or `"random"`."""
    n_bags: int
    """Bags per pass."""
    bag_size: int
    """Cells per bag; a smaller sample is a smaller bag."""
    n_passes: int
    """Every value is masked in one of the passes."""
    device: str
    precision: str
    notes: tuple[str, ...]
    """What seems wrong with the data, and how to fix it; these are warnings in the log of all functions."""
    seconds: float
    """Expected run time of an imputation with calibration and blending, estimated from the run time of one bag."""

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of the table: name and value."""
        small = sum(n < self.bag_size for n in self.samples.values())
        samples = f"{len(self.samples):,}" + (f", {small:,} of them smaller than a bag" if small else "")
        samples += f". {self.samples_note}" if self.samples_note else ""
        genes = [
            ("genes used", f"{self.genes_matched:,}, by {self.id_type}"),
            ("unknown genes", _count(self.genes_unmatched)),
            ("ambiguous names", _count(self.genes_ambiguous)),
            ("duplicate genes", _count(tuple(map("{} (kept {})".format, self.genes_duplicate, self.genes_kept)))),
            ("not genes", _count(self.not_genes)),
            ("genes not measured", f"{self.genes_not_measured:,}, masked; imputed on request"),
        ]
        if self.genes_lacking:
            lacking = [f"{n:,} in {name}" for name, n in self.genes_lacking.items()]
            genes.append(("genes a sample lacks", _count(tuple(lacking))))
        return [
            ("model", f"{self.model} (licence of the weights: {self.license})"),
            *genes,
            ("values", SCALES[self.scale] if self.has_counts or self.scale != "log" else NO_COUNTS),
            ("cells", f"{self.n_cells:,}" + (f", {self.n_empty_cells:,} of them empty" if self.n_empty_cells else "")),
            ("samples", samples),
            ("bags", f"{self.n_bags:,} of {self.bag_size:,} cells, {self.bag_policy}"),
            ("passes", f"{self.n_passes:,}"),
            ("device", f"{self.device}, {self.precision}"),
            ("expected time", f"{time_range(self.seconds)} to impute"),
            *(("note", text) for text in self.notes if text != self.samples_note),
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
    scale: GivenScale = "auto",
    bags: BagPolicy = "auto",
    device: str = "auto",
    precision: Precision = "auto",
) -> Report:
    """Report what :func:`scanpy_sct.tl.impute` would read and do: genes, scale, samples, bags and run time.

    One bag is run through the network to estimate the run time.

    Parameters
    ----------
    adata
        Cells x genes: counts, or log-normalised values. It is not changed.
    model, layer, library_key, gene_names, scale, bags, device, precision
        As in :func:`scanpy_sct.tl.impute`.

    Returns
    -------
    A report with one typed attribute per fact; it prints as a table, and is displayed as one in a notebook.

    Raises
    ------
    KeyError, TypeError, ValueError
        The errors that :func:`scanpy_sct.tl.impute` would raise.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> report = sct.pp.check(sct.datasets.pbmc68k())
    >>> report.scale
    'log'
    """
    checkpoint, reader = open_cells(adata, model, ReadOptions(layer, library_key, gene_names, scale=scale))
    imputer = Imputer(checkpoint, reader, ComputeOptions(bags, device, precision, batch_size=1), ImputeSettings())
    genes, size = reader.genes, checkpoint.config.bag_size
    counts = np.bincount(reader.samples, minlength=len(reader.sample_names))
    n_bags = count_bags(imputer)
    return Report(
        model=checkpoint.name,
        license=checkpoint.license,
        genes_matched=len(genes.columns),
        genes_unmatched=genes.unmatched,
        genes_ambiguous=genes.ambiguous,
        genes_duplicate=genes.duplicates,
        genes_kept=genes.kept,
        not_genes=genes.not_genes,
        genes_not_measured=int(((checkpoint.genes != "") & ~reader.measured).sum()),
        genes_lacking=reader.lacking,
        id_type=genes.id_type,
        scale=reader.scale,
        has_counts=holds_counts(reader.sample.log_values, reader.scale),
        n_cells=reader.n_cells,
        n_empty_cells=sum(int(block.is_empty.sum()) for block in reader.blocks()),
        samples=dict(zip(reader.sample_names, counts.tolist(), strict=True)),
        samples_note=missed_samples(adata, reader.coordinates) if library_key is None else "",
        bag_policy=imputer.plan.policy,
        n_bags=n_bags,
        bag_size=size,
        n_passes=imputer.plan.passes.n,
        device=str(imputer.runner.device),
        precision=str(imputer.runner.dtype).removeprefix("torch."),
        notes=tuple(reader.findings),
        seconds=seconds_to_impute(imputer),
    )


def _count(names: tuple[str, ...]) -> str:
    """Return the number of names and the first few of them."""
    if not names:
        return "0"
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{len(names):,} ({shown}{', ...' if len(names) > NAMES_SHOWN else ''})"

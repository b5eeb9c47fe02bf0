"""Training cells from CELLxGENE Census, or from any SOMA experiment with its layout."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scanpy_sct.read.genes import GeneMatch, match_genes, pick_genes

if TYPE_CHECKING:
    import tiledbsoma

logger = logging.getLogger(__name__)

PRESENCE = "feature_dataset_presence_matrix"
JOIN_ID = "soma_joinid"


@dataclass(frozen=True)
class CensusCells:
    """Cells to give to :func:`scanpy_sct.train.pretrain` instead of a file.

    Cells are read in blocks, from the internet or from disk. Genes that a data set of the Census did not measure are
    unmeasured in its cells, not zero.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> cells = sct.train.CensusCells("is_primary_data == True and tissue_general == 'breast'")
    >>> sct.train.pretrain([cells, "section.h5ad"], output="breast")  # doctest: +SKIP
    """

    value_filter: str | None = "is_primary_data == True"
    """Cells, as `value_filter` of `tiledbsoma` on the columns of `obs`; None: all."""
    uri: str | None = None
    """A Census on disk, or a SOMA experiment; None: the Census itself, which needs internet access and
    `cellxgene-census`."""
    census_version: str = "stable"
    organism: str = "homo_sapiens"
    measurement: str = "RNA"
    layer: str = "raw"
    """Layer of counts."""
    gene_column: str = "feature_id"
    """Column of `var` with Ensembl ids or symbols."""
    sample_columns: tuple[str, ...] = ("dataset_id", "donor_id")
    """Columns of `obs` that together define the sample of a cell, if they exist; a bag never mixes samples."""

    def open(self, vocabulary: np.ndarray) -> list[CensusSource]:
        """Open one source for each data set."""
        opened, experiment, datasets = self._experiment()
        obs = self._read_obs(experiment)
        measurement = experiment.ms[self.measurement]
        var = measurement.var.read().concat().to_pandas().sort_values(JOIN_ID)
        genes = match_genes(var[self.gene_column].astype(str), vocabulary)
        if not len(genes.columns):
            msg = (
                f"None of the {len(var)} genes of the Census is in the vocabulary; check "
                f"gene_column={self.gene_column!r}, which must hold Ensembl ids or symbols of human genes."
            )
            raise ValueError(msg)
        names = obs["dataset_id"].astype(str) if "dataset_id" in obs else pd.Series("census", index=obs.index)
        columns = [column for column in self.sample_columns if column in obs]
        gene_ids, matrix = var[JOIN_ID].to_numpy(), measurement.X[self.layer]
        present = _presence(measurement, datasets, gene_ids)
        sources = []
        for name, cells in obs.groupby(names.to_numpy(), sort=True):
            measured = np.zeros(len(vocabulary), dtype=bool)
            measured[genes.gene_index] = present[name][genes.columns] if name in present else True
            samples = cells.groupby(columns).ngroup().to_numpy() if columns else np.zeros(len(cells), dtype=int)
            logger.info("%s: %d cells, %d genes of the vocabulary", name, len(cells), measured.sum())
            join_ids = cells[JOIN_ID].to_numpy()
            sources.append(CensusSource(name, measured, samples, join_ids, gene_ids, matrix, genes, opened))
        return sources

    def _experiment(self) -> tuple[Any, tiledbsoma.Experiment, pd.DataFrame | None]:
        """Return what was opened, its experiment, and its table of data sets (None without one)."""
        try:
            if self.uri is None:
                import cellxgene_census

                opened = cellxgene_census.open_soma(census_version=self.census_version)
            else:
                import tiledbsoma

                opened = tiledbsoma.open(self.uri)
        except ImportError as error:
            msg = 'Training on the Census needs more packages: pip install "scanpy_sct[census]"'
            raise ImportError(msg) from error
        if "census_data" not in opened:
            return opened, opened, None
        datasets = opened["census_info"]["datasets"].read().concat().to_pandas()
        return opened, opened["census_data"][self.organism], datasets

    def _read_obs(self, experiment: tiledbsoma.Experiment) -> pd.DataFrame:
        columns = [name for name in {"dataset_id", *self.sample_columns} if name in experiment.obs.keys()]
        read = experiment.obs.read(column_names=[JOIN_ID, *sorted(columns)], value_filter=self.value_filter)
        obs = read.concat().to_pandas().sort_values(JOIN_ID, ignore_index=True)
        if obs.empty:
            msg = (
                f"value_filter={self.value_filter!r} leaves none of the {experiment.obs.count:,} cells; use another "
                "filter."
            )
            raise ValueError(msg)
        return obs


@dataclass(frozen=True)
class CensusSource:
    """Cells of one data set; see :class:`scanpy_sct.train.sources.Source`."""

    name: str
    measured: np.ndarray
    samples: np.ndarray
    join_ids: np.ndarray
    """Rows of the cells in the matrix, increasing."""
    gene_ids: np.ndarray
    """Columns of the genes in the matrix, increasing."""
    matrix: tiledbsoma.SparseNDArray
    genes: GeneMatch
    opened: Any
    """The opened Census, which is closed when it is garbage-collected."""
    coordinates: None = None

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        """Read a block; return `log1p` of the counts for the genes of the vocabulary."""
        rows = self.join_ids[start:stop]
        table = self.matrix.read((rows, slice(None))).tables().concat()
        cells = np.searchsorted(rows, table["soma_dim_0"].to_numpy())
        columns = np.searchsorted(self.gene_ids, table["soma_dim_1"].to_numpy())
        counts = np.log1p(table["soma_data"].to_numpy().astype(np.float32))
        found = sparse.csr_matrix((counts, (cells, columns)), shape=(len(rows), len(self.gene_ids)))
        picked = pick_genes(found, self.genes, len(self.measured))
        picked.eliminate_zeros()
        return picked


def _presence(
    measurement: tiledbsoma.Measurement, datasets: pd.DataFrame | None, gene_ids: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the measured genes of each data set, (n_genes,) bool; empty if the Census has no such table."""
    if datasets is None or PRESENCE not in measurement:
        return {}
    table = measurement[PRESENCE].read().tables().concat()
    rows, columns = (table[f"soma_dim_{axis}"].to_numpy() for axis in (0, 1))
    shape = (int(datasets[JOIN_ID].max()) + 1, int(gene_ids.max()) + 1)
    present = sparse.csr_matrix((table["soma_data"].to_numpy(), (rows, columns)), shape=shape).astype(bool)
    row_of = datasets.set_index(datasets["dataset_id"].astype(str))[JOIN_ID]
    return {name: present[row].toarray().ravel()[gene_ids] for name, row in row_of.items()}

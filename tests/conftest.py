"""What every test may use: a plotting backend without a window, and the shared real data where they are at hand."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

# Before anything imports matplotlib, and inherited by the processes that tests start.
os.environ["MPLBACKEND"] = "Agg"
# The networks of the tests are too small for several threads, which make them many times slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What pytest's plugins have loaded by now, such as numpy, does not read the variable any more.
threadpool_limits(int(os.environ["OMP_NUM_THREADS"]))

REPOSITORY = Path(__file__).resolve().parents[1]


def _shared_folder(name: str, variable: str) -> Path:
    """Folder named by the environment variable, else `shared/<name>` beside the repository; skip when absent."""
    folder = Path(os.environ.get(variable) or REPOSITORY.parent / "shared" / name)
    if not folder.is_dir():
        pytest.skip(f"{name} not found at {folder}; set {variable} to its folder to run this test")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data sets (`train/`, `dev/`, `genes/`, ...); the test is skipped where it is absent."""
    return _shared_folder("data", "SCANPY_SCT_DATA_DIR")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder of the reference outputs of the released network; the test is skipped where it is absent."""
    return _shared_folder("reference", "SCANPY_SCT_REFERENCE_DIR")


def _is_local(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    return name in {"localhost", "::1", "0.0.0.0", socket.gethostname()} or name.startswith("127.")


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Fail a test that connects to another machine; servers on this one, of tests or of dask, may be used."""

    def only_local(function, host_of):
        def called(*arguments, **options):
            host = host_of(*arguments, **options)
            if not _is_local(host):
                pytest.fail(f"a test must not use the network, but it connects to {host}")
            return function(*arguments, **options)

        return called

    def host_to_connect(connection, address):
        # A path is a socket of this machine, and connecting a datagram socket sends nothing.
        is_remote = isinstance(address, tuple) and connection.type == socket.SOCK_STREAM
        return address[0] if is_remote else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", only_local(socket.getaddrinfo, lambda host, *_, **__: host))
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, only_local(getattr(socket.socket, name), host_to_connect))
        yield


@pytest.fixture(autouse=True)
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep tests away from the user's own cache folder."""
    monkeypatch.setenv("SCANPY_SCT_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def same_threads():
    """Give torch its threads back: numba, which scanpy uses, sets the number for both."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def same_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32 where a test does not choose: what "auto" means depends on the processor."""
    monkeypatch.setattr("scanpy_sct.run.device.bfloat16_pays", lambda: False)


@pytest.fixture(autouse=True)
def closed_figures():
    """Close what a test has drawn, so that figures do not pile up."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def pbmc():
    """700 blood cells x 765 genes, log-normalised, as scanpy ships them; copy before changing."""
    from scanpy_sct.datasets import pbmc68k

    return pbmc68k()


@pytest.fixture(scope="session")
def with_antibodies():
    """Put three antibodies before the genes, as `feature_types` says: a function of an object."""
    import anndata as ad
    import numpy as np
    import pandas as pd
    from scipy import sparse

    def joined(adata):
        counts = np.random.default_rng(0).poisson(30, size=(adata.n_obs, 3)).astype(np.float32)
        antibodies = ad.AnnData(sparse.csr_matrix(counts), obs=pd.DataFrame(index=adata.obs_names))
        antibodies.var_names = ["CD45", "CD56", "CD20"]
        antibodies.var["feature_types"] = "Antibody Capture"
        genes = adata.copy()
        genes.var["feature_types"] = "Gene Expression"
        both = ad.concat([antibodies, genes], axis="var", merge="same", join="outer")
        both.obs, both.obsm = adata.obs.copy(), adata.obsm
        return both

    return joined


def _known_genes(pbmc):
    """512 genes of a network: 509 that `pbmc` has, and padding."""
    import numpy as np

    from scanpy_sct.read.genes import released_vocabulary, to_ensembl

    ids = to_ensembl(list(pbmc.var_names)).ensembl_ids
    genes = np.full(512, "", dtype="<U15")
    genes[:509] = np.unique(ids[np.isin(ids, released_vocabulary()) & (ids != "")])[:509]
    return genes


def _random_network(config, n_genes):
    import torch

    from scanpy_sct.model import make_network

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_network(config, n_genes).eval()


@pytest.fixture(scope="session")
def compact_checkpoint(pbmc):
    """Make a random small compact network with the parts of `sct-mini`: for plumbing, not for results."""
    from scanpy_sct.checkpoints import Checkpoint, TokenSettings
    from scanpy_sct.model import CompactConfig

    config = CompactConfig(n_bins=5, bag_size=20, cell_dim=16, cell_layers=1)
    genes = _known_genes(pbmc)
    network = _random_network(config, len(genes))
    return Checkpoint("tiny", network, TokenSettings(), mask_fraction=0.25, genes=genes)


@pytest.fixture(scope="session")
def open_cells(compact_checkpoint):
    """Open an object for the small networks of the tests."""

    from scanpy_sct.read.options import ReadOptions
    from scanpy_sct.read.reader import CellReader

    def opened(adata, **options):
        return CellReader(adata, compact_checkpoint.genes, "log1p_counts", ReadOptions(**options))

    return opened


@pytest.fixture(scope="session")
def ninety_cells(pbmc, open_cells):
    """Open 90 cells for the small networks of the tests."""
    return open_cells(pbmc[:90].copy())


@pytest.fixture(scope="session")
def three_blocks():
    """Divide 90 cells into three blocks that are scattered over the object."""
    import numpy as np

    return [np.sort(rows) for rows in np.array_split(np.random.default_rng(0).permutation(90), 3)]


@pytest.fixture(scope="session")
def released_checkpoint(pbmc):
    """Make a random small network of the released architecture: for plumbing, not for results."""
    from scanpy_sct.checkpoints import Checkpoint, TokenSettings
    from scanpy_sct.model import ReleasedConfig

    config = ReleasedConfig(
        num_downsamples=3,
        token_embed_dim=32,
        embed_dim=32,
        ffn_embed_dim=32,
        num_layers=1,
        attention_heads=2,
        key_size=16,
        num_cells=8,
    )
    genes = _known_genes(pbmc)
    network = _random_network(config, len(genes))
    return Checkpoint("tiny-released", network, TokenSettings(), mask_fraction=0.25, genes=genes)


@pytest.fixture(scope="session")
def tiny_checkpoint(compact_checkpoint):
    """Give `compact_checkpoint` its old name."""
    return compact_checkpoint


@pytest.fixture(scope="session")
def direct_checkpoint(compact_checkpoint):
    """Give `compact_checkpoint` its old name."""
    return compact_checkpoint


def _in_file(adata, folder, make, *, lazy=None):
    import anndata as ad

    stored = adata.copy()
    stored.X = make(adata.X)
    if lazy is None:
        stored.write_h5ad(folder / "cells.h5ad")
        return ad.read_h5ad(folder / "cells.h5ad", backed="r")
    import h5py
    import zarr
    from anndata.experimental import read_elem_lazy, read_lazy

    path = folder / f"cells.{lazy}"
    stored.write_h5ad(path) if lazy == "h5ad" else stored.write_zarr(path)
    result = read_lazy(path)
    # Chunks of fewer cells than anndata's, which are too many for the objects of the tests.
    group = h5py.File(path, "r") if lazy == "h5ad" else zarr.open_group(path, mode="r")
    result.X = read_elem_lazy(group["X"], chunks=(41, adata.n_vars))
    return result


def _in_zarr(adata, folder, make):
    """Put a matrix that stays in a zarr store into an object in memory."""
    import zarr
    from anndata.io import sparse_dataset

    stored = adata.copy()
    stored.X = make(adata.X)
    stored.write_zarr(folder / "cells.zarr")
    node = zarr.open_group(folder / "cells.zarr", mode="r")["X"]
    stored.X = sparse_dataset(node) if hasattr(node, "keys") else node
    return stored


def _as_dask(adata, chunks, make, n_columns=None):
    import dask.array as da

    result = adata.copy()
    columns = (adata.n_vars,) if n_columns is None else n_columns
    array = da.from_array(adata.X.toarray(), chunks=(chunks, columns))
    result.X = array.map_blocks(make, dtype=array.dtype, meta=make(array._meta))
    return result


def _in_memory(adata, make):
    result = adata.copy()
    result.X = make(adata.X)
    return result


def _storages():
    import numpy as np
    from scipy import sparse

    csr, csc, dense = sparse.csr_matrix, sparse.csc_matrix, lambda matrix: np.asarray(matrix.todense())
    return {
        "csr": lambda adata, _: _in_memory(adata, csr),
        "csc": lambda adata, _: _in_memory(adata, csc),
        "dense": lambda adata, _: _in_memory(adata, dense),
        "backed csr": lambda adata, folder: _in_file(adata, folder, csr),
        "backed csc": lambda adata, folder: _in_file(adata, folder, csc),
        "backed dense": lambda adata, folder: _in_file(adata, folder, dense),
        "zarr csr": lambda adata, folder: _in_zarr(adata, folder, csr),
        "zarr dense": lambda adata, folder: _in_zarr(adata, folder, dense),
        "lazy h5ad": lambda adata, folder: _in_file(adata, folder, csr, lazy="h5ad"),
        "lazy h5ad dense": lambda adata, folder: _in_file(adata, folder, dense, lazy="h5ad"),
        "lazy zarr": lambda adata, folder: _in_file(adata, folder, csr, lazy="zarr"),
        "dask csr": lambda adata, _: _as_dask(adata, 37, csr),
        "dask dense": lambda adata, _: _as_dask(adata, 50, np.asarray, n_columns=(adata.n_vars - 100, 100)),
        "dask uneven csc": lambda adata, _: _as_dask(adata, (13, 60, 1, adata.n_obs - 74), csc),
    }


STORAGES = tuple(_storages())


@pytest.fixture(params=STORAGES)
def storage(request, tmp_path):
    """Store the cells of an object in one of many ways: a function of an AnnData with CSR that returns another one."""
    if request.param.startswith(("lazy", "dask")):
        pytest.importorskip("dask")
    if request.param.startswith("lazy"):
        pytest.importorskip("xarray")
    return lambda adata: _storages()[request.param](adata, tmp_path)


@pytest.fixture
def small_blocks(monkeypatch):
    """Make blocks of at most 80 cells, and find properties of the data on 80 cells."""
    from scanpy_sct.settings import settings

    monkeypatch.setattr(settings, "block_size", 80)
    for name, value in {
        "embed.cells.BLOCK_CELLS": 64,
        "embed.cells.BACKGROUND_CELLS": 30,
        "read.reader.ROWS_AT_ONCE": 64,
        "read.matrix.ROWS_AT_ONCE": 64,
        "read.scale.N_SAMPLED_ROWS": 80,
        "read.scale.N_RUNS": 8,
        "read.scale.RUN_LENGTH": 10,
        "annotate.novelty.MAX_QUERY": 100,
        "annotate.novelty.CELLS_AT_ONCE": 64,
        "annotate.reference.CELLS_AT_ONCE": 64,
    }.items():
        monkeypatch.setattr(f"scanpy_sct.{name}", value)

"""What every test may use: a plotting backend without a window, and the shared real data where they are at hand."""

from __future__ import annotations

import os
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

    config = CompactConfig(n_bins=5, bag_size=8, cell_dim=16, cell_layers=1)
    genes = _known_genes(pbmc)
    network = _random_network(config, len(genes))
    return Checkpoint("tiny", network, TokenSettings(), mask_fraction=0.25, genes=genes)


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

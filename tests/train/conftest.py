from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.model import CompactConfig, ReleasedConfig
from scanpy_sct.read.genes import released_vocabulary
from scanpy_sct.train import PretrainConfig


@pytest.fixture(scope="session")
def genes() -> np.ndarray:
    """120 genes of the released network."""
    known = released_vocabulary()
    return known[known != ""][:120]


@pytest.fixture(scope="session")
def files(tmp_path_factory, genes):
    """Two small files of counts with three kinds of cells; the second lacks some genes and has coordinates."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("training-data")
    rates = rng.gamma(0.3, 3, (3, 120))
    made = []
    for number, columns in enumerate([slice(0, 120), slice(20, 120)]):
        kind = rng.integers(0, 3, 80)
        counts = rng.poisson(rates[kind][:, columns]).astype(np.float32)
        obs = pd.DataFrame({"sample": rng.choice(["a", "b"], 80), "kind": kind.astype(str)})
        obs.index = obs.index.astype(str)
        adata = ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=genes[columns]))
        if number == 1:
            adata.obsm["spatial"] = rng.uniform(0, 10, (80, 2))
        made.append(folder / f"file{number}.h5ad")
        adata.write_h5ad(made[-1])
    return made


@pytest.fixture
def config() -> PretrainConfig:
    """A tiny compact network, trained for a few steps."""
    return PretrainConfig(
        network=CompactConfig(n_bins=6, bag_size=8, cell_dim=16, cell_layers=1, bag_correction=False),
        steps=6,
        warmup_steps=2,
        bag_sizes=(8,),
        report_every=2,
        checkpoint_minutes=0,
        validation_fraction=0.2,
        panel_fraction=0.0,
        ema_decay=0.0,
    )


RELEASED = ReleasedConfig(
    alphabet_size=8,
    mask_token_id=6,
    pad_token_id=7,
    num_downsamples=3,
    token_embed_dim=32,
    embed_dim=32,
    ffn_embed_dim=32,
    num_layers=1,
    attention_heads=2,
    key_size=16,
    num_cells=8,
)


@pytest.fixture
def released_config(config) -> PretrainConfig:
    """The same for a tiny network of the released architecture."""
    return replace(config, network=RELEASED)


@pytest.fixture(params=["compact", "released"])
def each_config(request, config, released_config) -> PretrainConfig:
    """One after the other."""
    return config if request.param == "compact" else released_config

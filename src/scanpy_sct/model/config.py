"""The shape of the network, as stored in a checkpoint's `config.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

CHANNEL_MULTIPLE = 32


@dataclass(frozen=True)
class SctConfig:
    """Configuration of :class:`~scanpy_sct.model.Sct`.

    The first block has the names and the defaults of the released network; the second block holds options of our
    own, all off by default, so that the released weights compute what they always did.
    """

    alphabet_size: int = 7
    """Number of different tokens: 0 (not expressed), 1-4 (expression bins), mask, pad."""
    mask_token_id: int = 5
    pad_token_id: int = 6
    num_downsamples: int = 8
    """How many times the convolutional tower halves the length."""
    attention_heads: int = 16
    key_size: int = 64
    """Width of one attention head."""
    token_embed_dim: int = 64
    embed_dim: int = 1024
    ffn_embed_dim: int = 2048
    num_layers: int = 4
    """Transformer layers between the two towers."""
    layer_norm_eps: float = 1e-5
    num_cells: int = 50
    """Cells of a bag during training; the weights work with any number."""
    num_hidden_layers_head: int = 1
    use_skip_connection: bool = True
    use_spatial_information: bool = False
    """Add an encoding of each cell's place to its tokens and, with `cell_dim`, to its vector before cells see one
    another."""
    num_scales: int = 10
    sigma_min: float = 1.0
    sigma_max: float = 10.0
    embeddings_layers_to_save: tuple[int, ...] = ()
    """Transformer layers (counted from 1) whose output is returned as ``embeddings_{layer}``."""
    attention_maps_to_save: tuple[tuple[int, int], ...] = ()
    """Pairs (layer, number); see ``reference`` naming in :meth:`scanpy_sct.model.Sct.forward`."""
    use_gradient_checkpointing: bool = False
    interpolation_method: str = "nearest"
    """Stored in released configurations, read by nothing."""
    max_positions: int = 20480
    """Stored in released configurations, read by nothing."""

    convolutions: bool = True
    """Whether there are convolutional towers with a transformer between them; without, only the direct paths below."""
    context: bool = False
    """Give every gene of every cell the profile of that gene in the bag's other cells, corrected for depth."""
    cell_dim: int = 0
    """Width of the direct cell embedding (0: none)."""
    cell_layers: int = 0
    """Transformer layers in which the cells of a bag attend to one another through their cell embedding."""
    bag_correction: bool = False
    """Correct each gene by how many cells of the bag show it against how many the rest of the network expects to."""
    center_tokens: bool = False
    """Let the towers read each token as its difference from what the profile expects, hidden ones as nothing: what all
    cells share would drown what is different."""
    level_shift: bool = False
    """Let the cell embedding move the levels of all expressed genes of a cell at once."""

    def __post_init__(self) -> None:
        if self.embed_dim % CHANNEL_MULTIPLE:
            msg = f"embed_dim={self.embed_dim} must be a multiple of {CHANNEL_MULTIPLE}."
            raise ValueError(msg)
        if self.use_skip_connection and self.token_embed_dim % CHANNEL_MULTIPLE:
            msg = (
                f"token_embed_dim={self.token_embed_dim} must be a multiple of {CHANNEL_MULTIPLE} "
                "when use_skip_connection is on."
            )
            raise ValueError(msg)
        if self.cell_dim and not self.context:
            msg = f"cell_dim={self.cell_dim} needs context=True: the cell embedding is centred on its profile."
            raise ValueError(msg)
        if not 1 < self.mask_token_id < self.pad_token_id < self.alphabet_size:
            msg = (
                f"mask_token_id={self.mask_token_id}, pad_token_id={self.pad_token_id} and "
                f"alphabet_size={self.alphabet_size} must rise: tokens below the mask are levels."
            )
            raise ValueError(msg)
        if (self.cell_layers or self.level_shift or self.bag_correction) and not self.cell_dim:
            msg = (
                f"cell_layers={self.cell_layers}, level_shift={self.level_shift}, "
                f"bag_correction={self.bag_correction} need cell_dim > 0: they work on the cell embedding."
            )
            raise ValueError(msg)
        if self.center_tokens and not (self.context and self.convolutions):
            msg = "center_tokens=True needs context=True and convolutions=True: towers read tokens beside the profile."
            raise ValueError(msg)
        if not self.convolutions and not self.cell_dim:
            msg = "convolutions=False needs cell_dim > 0: nothing else would be left to predict from."
            raise ValueError(msg)

    @property
    def num_bins(self) -> int:
        """Number of expression levels a gene can have: not expressed, and the bins."""
        return self.mask_token_id

    @property
    def channels(self) -> list[int]:
        """Channel widths along the tower, from the stem to the transformer (``num_downsamples + 1`` numbers)."""
        widths = np.linspace(self.token_embed_dim, self.embed_dim, self.num_downsamples + 1)
        return [int(np.ceil(width / CHANNEL_MULTIPLE)) * CHANNEL_MULTIPLE for width in widths]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SctConfig:
        """Make a configuration from the content of a `config.json`; unknown names are an error."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            msg = (
                f"Unknown network options {unknown} in the configuration; this version of scanpy_sct is too old for it."
            )
            raise ValueError(msg)
        values = dict(values)
        values["embeddings_layers_to_save"] = tuple(values.get("embeddings_layers_to_save", ()))
        values["attention_maps_to_save"] = tuple(tuple(pair) for pair in values.get("attention_maps_to_save", ()))
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that can be written as JSON."""
        values = asdict(self)
        values["embeddings_layers_to_save"] = list(self.embeddings_layers_to_save)
        values["attention_maps_to_save"] = [list(pair) for pair in self.attention_maps_to_save]
        return values

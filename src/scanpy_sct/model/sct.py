"""The network: a bag of cells in, logits for every gene of every cell out."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scanpy_sct.model.cell_path import CellPath
from scanpy_sct.model.config import SctConfig
from scanpy_sct.model.correction import BagCorrection
from scanpy_sct.model.direct import direct_logits
from scanpy_sct.model.layers import DownBlock, SpatialEncoding, TransformerBlock, UpBlock, gelu
from scanpy_sct.model.profile import BagProfile, Profile

HEAD_CHUNK = 65_536
"""Positions that pass the head at once: its hidden layer over a whole released bag would take 4 GB in float32."""


class Sct(nn.Module):
    """Single-cell transformer: convolutional tower, transformer, mirrored tower, head.

    Parameters
    ----------
    config
        Shape of the network.
    n_genes
        Positions of one cell, padding included; a multiple of ``2 ** config.num_downsamples``. The weights depend on
        it, on the number of cells in a bag they do not.

    Raises
    ------
    ValueError
        If ``n_genes`` cannot be halved ``config.num_downsamples`` times.
    """

    def __init__(self, config: SctConfig, n_genes: int) -> None:
        super().__init__()
        if n_genes <= 0 or n_genes % 2**config.num_downsamples:
            msg = f"n_genes={n_genes} must be a positive multiple of 2**num_downsamples={2**config.num_downsamples}."
            raise ValueError(msg)
        self.config, self.n_genes = config, n_genes
        if config.convolutions:
            self._make_towers()
        if config.context:
            self.profile = BagProfile(n_genes, config.num_bins)
        if config.context and config.convolutions:
            if not config.center_tokens:
                self.profile_embedding = nn.Linear(config.num_bins, config.token_embed_dim)
            # The direct paths start with a sensible answer; the convolutional path learns what to add to it.
            nn.init.zeros_(self.head[-1].weight)
            nn.init.zeros_(self.head[-1].bias)
        self.cell_path = CellPath(config, n_genes) if config.cell_dim else None
        self.correction = BagCorrection() if config.bag_correction else None
        self.to(memory_format=torch.channels_last)

    def _make_towers(self) -> None:
        config, n_genes = self.config, self.n_genes
        depth, dim = config.num_downsamples, config.token_embed_dim
        # The stem gives `token_embed_dim` channels, the last stage of the mirrored tower the first width.
        widths = config.channels
        self.token_embedding = nn.Embedding(config.alphabet_size, dim)
        if config.use_spatial_information:
            self.spatial_encoding = SpatialEncoding(dim, config.num_scales, config.sigma_min, config.sigma_max)
        self.stem = nn.Conv2d(dim, dim, (1, 15), padding=(0, 7))
        ins = [dim, *widths[1:]]
        self.down = nn.ModuleList(DownBlock(n_genes >> i, ins[i], ins[i + 1]) for i in range(depth))
        self.layers = nn.ModuleList(
            TransformerBlock(
                config.embed_dim, config.attention_heads, config.key_size, config.ffn_embed_dim, config.layer_norm_eps
            )
            for _ in range(config.num_layers)
        )
        self.up = nn.ModuleList(
            UpBlock(n_genes >> (depth - i), widths[depth - i], widths[depth - i - 1]) for i in range(depth)
        )
        hidden = [config.embed_dim] * config.num_hidden_layers_head
        sizes = [widths[0], *hidden, config.alphabet_size]
        self.head = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes))

    def forward(
        self,
        tokens: Tensor,
        coordinates: Tensor | None = None,
        *,
        outputs: Collection[str] | None = None,
        positions: Tensor | None = None,
        cell_weight: float = 1.0,
    ) -> dict[str, Tensor | list[Tensor]]:
        """Run bags through the network.

        Parameters
        ----------
        tokens
            Integers (batch, cells * n_genes): all genes of the first cell, then of the second, and so on.
        coordinates
            (batch, cells, 2), only with ``use_spatial_information``.
        outputs
            Names of the outputs wanted; what none of them needs is not computed. All by default.
        positions
            Restrict ``logits`` and ``direct_logits`` to these places of the flattened ``tokens`` (1-d integers).
        cell_weight
            Weight of the cell embedding's part of the logits, for networks that have one. The correction by the bag
            is that of the logits so weighted.

        Returns
        -------
        ``conv_out`` and ``transformer_out`` (batch, positions, embed_dim); ``deconv_out`` (batch, channels, length);
        ``embedding`` (batch, cells, n_genes, channels); ``logits`` (batch, length, alphabet_size), or
        (len(positions), alphabet_size); ``residuals``, a list of (batch, channels, length);
        ``embeddings_{l}`` and ``attention_map_layer_{l}_number_{m}`` as configured, where number m is head m + 1, as
        in the reference. With ``context`` also ``direct_logits`` (batch, cells, n_genes, levels) or
        (len(positions), levels), the part of the logits that needs no convolution; with ``cell_dim`` also
        ``cell_embedding`` (batch, cells, cell_dim). Without ``convolutions`` these two are all there is.
        """
        self._check_input(tokens, coordinates)
        result: dict[str, Tensor | list[Tensor]] = {}
        bags = tokens.long().unflatten(1, (-1, self.n_genes))
        if not self.config.convolutions:
            outputs = ("direct_logits",) if outputs is None else outputs
        profile, cells = self._look_around(bags, coordinates, result)
        if profile is not None and (outputs is None or {"logits", "direct_logits"} & set(outputs)):
            result["direct_logits"] = self._direct_logits(profile, cells, cell_weight, positions)
        if outputs is not None and set(outputs) <= set(result):
            return result
        if not self.config.convolutions:
            msg = f"outputs={sorted(outputs)} need convolutions; this network gives {sorted(result)}."
            raise ValueError(msg)

        x = self._embed(bags, coordinates, profile)
        residuals = []
        for block in self.down:
            residuals.append(x)
            x = self._run(block, x)
        result["residuals"] = [residual.squeeze(2) for residual in residuals]
        x = self._transform(x.squeeze(2).transpose(1, 2), cells, result)
        if outputs is not None and set(outputs) <= set(result):
            return result

        x = x.transpose(1, 2).unsqueeze(2)
        for block in self.up:
            residual = residuals.pop()
            x = self._run(block, x, residual if self.config.use_skip_connection else None)
        result["deconv_out"] = x.squeeze(2)
        by_position = result["deconv_out"].transpose(1, 2)
        result["embedding"] = by_position.unflatten(1, (-1, self.n_genes))
        if outputs is None or "logits" in outputs:
            result["logits"] = self._logits(by_position, result.get("direct_logits"), positions)
        return result

    def _check_input(self, tokens: Tensor, coordinates: Tensor | None) -> None:
        if tokens.ndim != 2 or tokens.shape[1] % self.n_genes:
            msg = f"tokens has shape {tuple(tokens.shape)}, expected (batch, cells * {self.n_genes})."
            raise ValueError(msg)
        expected = self.config.use_spatial_information
        if expected != (coordinates is not None):
            msg = f"coordinates must {'be given' if expected else 'be None'}: use_spatial_information is {expected}."
            raise ValueError(msg)
        n_cells = tokens.shape[1] // self.n_genes
        if coordinates is not None and (coordinates.shape[:2] != (len(tokens), n_cells) or coordinates.shape[2] < 2):
            msg = f"coordinates has shape {tuple(coordinates.shape)}, expected ({len(tokens)}, {n_cells}, 2)."
            raise ValueError(msg)

    def _look_around(
        self, bags: Tensor, coordinates: Tensor | None, result: dict
    ) -> tuple[Profile | None, Tensor | None]:
        """Profile of the bag and vectors of its cells, as far as the network has these paths."""
        if not self.config.context:
            return None, None
        # Counting and logarithms of frequencies need float32, also where the convolutions run in bfloat16.
        with torch.autocast(bags.device.type, enabled=False):
            profile, depth = self.profile(bags)
            if not self.config.cell_dim:
                return profile, None
            moments = profile.moments(self.cell_path.level_values)
            result["cell_embedding"] = self.cell_path.embed(bags, *moments)
            return profile, self.cell_path(result["cell_embedding"], depth, coordinates)

    def _direct_logits(
        self, profile: Profile, cells: Tensor | None, cell_weight: float, positions: Tensor | None
    ) -> Tensor:
        with torch.autocast(profile.own.device.type, enabled=False):
            logits = direct_logits(
                profile, self.cell_path, cells, self.correction, cell_weight=cell_weight, places=positions
            )
            return logits if positions is None else logits.T

    def _embed(self, bags: Tensor, coordinates: Tensor | None, profile: Profile | None) -> Tensor:
        x = self.token_embedding(bags)  # (batch, cells, genes, channels)
        if self.config.center_tokens:
            levels = self.token_embedding.weight[: self.config.num_bins]
            x = (x - profile.log_frequencies().exp() @ levels) * (bags < len(levels))[..., None]
        elif profile is not None:
            x = x + self.profile_embedding(profile.log_frequencies())
        if coordinates is not None:
            x = x + self.spatial_encoding(coordinates)[:, :, None]
        return gelu(self.stem(x.flatten(1, 2).transpose(1, 2).unsqueeze(2)))

    def _transform(self, x: Tensor, cells: Tensor | None, result: dict) -> Tensor:
        result["conv_out"] = x
        if cells is not None:
            per_cell = self.cell_path.to_trunk(cells).to(x.dtype)
            x = x + per_cell.repeat_interleave(x.shape[1] // per_cell.shape[1], dim=1)
        saved_maps = self.config.attention_maps_to_save
        last_head = self.config.attention_heads - 1
        for number, layer in enumerate(self.layers, start=1):
            heads = {m: min(m + 1, last_head) for saved_layer, m in saved_maps if saved_layer == number}
            x, maps = self._run(layer, x, map_heads=tuple(heads.values()))
            for m, head in heads.items():
                result[f"attention_map_layer_{number}_number_{m}"] = maps[head]
            if number in self.config.embeddings_layers_to_save:
                result[f"embeddings_{number}"] = x
        result["transformer_out"] = x
        return x

    def _logits(self, x: Tensor, direct: Tensor | None, positions: Tensor | None) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        flat = flat if positions is None else flat[positions]
        logits = torch.cat([self._head(chunk) for chunk in flat.split(HEAD_CHUNK)])
        if direct is not None:
            direct = direct.flatten(0, 2) if positions is None else direct
            logits = logits + nn.functional.pad(direct, (0, self.config.alphabet_size - self.config.num_bins))
        return logits if positions is not None else logits.unflatten(0, x.shape[:2])

    def _head(self, x: Tensor) -> Tensor:
        x = gelu(x)
        for layer in self.head[:-1]:
            x = gelu(layer(x))
        return self.head[-1](x).float()

    def _run(self, block: nn.Module, *inputs: Tensor | None, **options: object) -> Tensor:
        if self.config.use_gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False, **options)
        return block(*inputs, **options)

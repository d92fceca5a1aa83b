"""The sequential block: attention, then MLP, each on its own norm of the residual stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.branches import first, keywords_of, supports_cache, taken
from mixformer.blocks.mixers import get_mixer
from mixformer.blocks.mlps import get_mlp
from mixformer.blocks.norms import get_norm


class SequentialBlock(nn.Module):
    """x += drop(attn(ln_1(x))), then x += drop(mlp(ln_2(x))).

    Args:
        config: The model's configuration.
        mixer, mlp, norm: Sub-dicts of the architecture.
        block_idx: Index of the block, 0-based.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        mixer: dict[str, Any] | None = None,
        mlp: dict[str, Any] | None = None,
        norm: dict[str, Any] | None = None,
        block_idx: int | None = None,
    ) -> None:
        super().__init__()
        self.add_norms(partial(get_norm, config.n_embd, norm_config=norm, config=config, block_idx=block_idx))
        self.attn = get_mixer(config, mixer_config=mixer, mixer_idx=block_idx)
        self.mlp = get_mlp(config, mlp_config=mlp, block_idx=block_idx)
        self.resid_attn_dropout = nn.Dropout(config.resid_pdrop)
        self.resid_mlp_dropout = nn.Dropout(config.resid_pdrop)
        self.block_idx = block_idx
        self.mixer_keywords = keywords_of(self.attn)

    def add_norms(self, make: Callable[[], nn.Module]) -> None:
        """Give the block its norms, before the parts with which its state_dict goes on."""
        self.ln_1, self.ln_2 = make(), make()

    @property
    def supports_cache(self) -> bool:
        """Whether this block decodes onto a cache."""
        return supports_cache(self.attn)

    def forward(self, hidden_states: Tensor | tuple[Tensor, ...], **kwargs: Any) -> tuple[Tensor]:
        """(B, S, n_embd) to a 1-tuple of (B, S, n_embd); keyword arguments that the mixer takes go to it."""
        x = first(hidden_states)
        mixed = first(self.attn(self.ln_1(x), **taken(kwargs, self.mixer_keywords)))
        x = x + self.resid_attn_dropout(mixed)
        x = x + self.resid_mlp_dropout(first(self.mlp(self.ln_2(x))))
        return (x,)

"""The parallel block: attention and MLP side by side on one norm (GPT-J, CodeGen, Phi)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.branches import first, keywords_of, supports_cache, taken
from mixformer.blocks.mixers import get_mixer
from mixformer.blocks.mlps import get_mlp
from mixformer.blocks.norms import get_norm


class ParallelBlock(nn.Module):
    """x += drop(mixer(ln(x))) + drop(mlp(ln(x))).

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
        self.ln = get_norm(config.n_embd, norm_config=norm, config=config, block_idx=block_idx)
        self.mixer = get_mixer(config, mixer_config=mixer, mixer_idx=block_idx)
        self.mlp = get_mlp(config, mlp_config=mlp, block_idx=block_idx)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)
        self.block_idx = block_idx
        self.mixer_keywords = keywords_of(self.mixer)

    @property
    def supports_cache(self) -> bool:
        """Whether this block decodes onto a cache."""
        return supports_cache(self.mixer)

    def forward(self, hidden_states: Tensor | tuple[Tensor, ...], **kwargs: Any) -> tuple[Tensor]:
        """(B, S, n_embd) to a 1-tuple of (B, S, n_embd); keyword arguments that the mixer takes go to it."""
        x = first(hidden_states)
        y = self.ln(x)
        mixed = self.resid_dropout(first(self.mixer(y, **taken(kwargs, self.mixer_keywords))))
        return (mixed + self.resid_dropout(first(self.mlp(y))) + x,)

"""The residual block: attention, then MLP, with norms before or after each branch or both, and a multiplier."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.architecture import block_path
from mixformer.blocks.branches import first, keywords_of, supports_cache, taken
from mixformer.blocks.mixers import get_mixer
from mixformer.blocks.mlps import get_mlp
from mixformer.blocks.norms import get_norm
from mixformer.errors import invalid

PLACES = ("before", "after", "both")


class ResidualBlock(nn.Module):
    """x += m * drop(after_1(attn(ln_1(x)))), then x += m * drop(after_2(mlp(ln_2(x)))), m = residual_scale.

    "before" has the norms `ln_1`, `ln_2` alone (Granite), "after" `after_1`, `after_2` alone (OLMo-2), "both" all four
    (Gemma-2). With "before" and a scale of 1 it computes what the sequential block does.

    Args:
        config: The model's configuration.
        mixer, mlp, norm: Sub-dicts of the architecture.
        norms: "before", "after" or "both".
        residual_scale: What each branch is multiplied by.
        block_idx: Index of the block, 0-based.

    Raises:
        ConfigurationError: naming the path, what was found and what was expected.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        mixer: dict[str, Any] | None = None,
        mlp: dict[str, Any] | None = None,
        norm: dict[str, Any] | None = None,
        norms: str = "before",
        residual_scale: float = 1.0,
        block_idx: int | None = None,
    ) -> None:
        super().__init__()
        path = block_path(config.architecture, block_idx)
        if norms not in PLACES:
            raise invalid(f"{path}.norms", norms, f"one of {list(PLACES)}")
        if isinstance(residual_scale, bool) or not isinstance(residual_scale, int | float):
            raise invalid(f"{path}.residual_scale", residual_scale, "a number")
        self.residual_scale = float(residual_scale)
        for name, there in (("ln", norms != "after"), ("after", norms != "before")):
            for k in (1, 2):
                made = get_norm(config.n_embd, norm, config=config, block_idx=block_idx) if there else nn.Identity()
                setattr(self, f"{name}_{k}", made)
        self.attn = get_mixer(config, mixer_config=mixer, mixer_idx=block_idx)
        self.mlp = get_mlp(config, mlp_config=mlp, block_idx=block_idx)
        self.resid_attn_dropout = nn.Dropout(config.resid_pdrop)
        self.resid_mlp_dropout = nn.Dropout(config.resid_pdrop)
        self.block_idx = block_idx
        self.mixer_keywords = keywords_of(self.attn)

    @property
    def supports_cache(self) -> bool:
        """Whether this block decodes onto a cache."""
        return supports_cache(self.attn)

    def forward(self, hidden_states: Tensor | tuple[Tensor, ...], **kwargs: Any) -> tuple[Tensor]:
        """(B, S, n_embd) to a 1-tuple of (B, S, n_embd); keyword arguments that the mixer takes go to it."""
        x = first(hidden_states)
        mixed = first(self.attn(self.ln_1(x), **taken(kwargs, self.mixer_keywords)))
        x = x + self.scaled(self.resid_attn_dropout(self.after_1(mixed)))
        x = x + self.scaled(self.resid_mlp_dropout(self.after_2(first(self.mlp(self.ln_2(x))))))
        return (x,)

    def scaled(self, branch: Tensor) -> Tensor:
        """A branch times residual_scale."""
        return branch if self.residual_scale == 1.0 else branch * self.residual_scale

"""The residual block: attention, then MLP, with norms before or after each branch or both, and a multiplier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.architecture import block_path
from mixformer.blocks.branches import first, taken
from mixformer.blocks.sequential import SequentialBlock
from mixformer.errors import invalid

PLACES = ("before", "after", "both")


class ResidualBlock(SequentialBlock):
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
        path = block_path(config.architecture, block_idx)
        if norms not in PLACES:
            raise invalid(f"{path}.norms", norms, f"one of {list(PLACES)}")
        self.norms, self.residual_scale = norms, float(residual_scale)
        super().__init__(config, mixer, mlp, norm, block_idx)

    def add_norms(self, make: Callable[[], nn.Module]) -> None:
        """`ln_1`, `ln_2` before the branches, `after_1`, `after_2` behind them; an `Identity` where there is none."""
        before, after = self.norms != "after", self.norms != "before"
        self.ln_1, self.ln_2 = (make() if before else nn.Identity() for _ in range(2))
        self.after_1, self.after_2 = (make() if after else nn.Identity() for _ in range(2))

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

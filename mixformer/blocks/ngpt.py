"""The block of nGPT, the normalised transformer (Loshchilov et al. 2024, arXiv:2410.01131)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.architecture import block_path
from mixformer.blocks.branches import first, keywords_of, supports_cache, taken
from mixformer.blocks.learned_scale import LearnedScale, scale_spec
from mixformer.blocks.mixers import get_mixer
from mixformer.blocks.mlps import get_mlp
from mixformer.blocks.norms import get_norm
from mixformer.blocks.norms.l2 import unit
from mixformer.errors import invalid
from mixformer.precision import accumulation_dtype

RESIDUALS = ("add", "lerp")


class NGPTBlock(nn.Module):
    """x = step(x, drop(attn(x)), attn_alpha), then x = step(x, drop(mlp(x)), mlp_alpha).

    step(x, y, a) is n(n(x) + |a| n(y)) for "add" and n(n(x) + |a| (n(y) - n(x))) for "lerp"; n(x) = x / max(|x|, eps).
    Parameters beside those of its parts: `attn_alpha.weight`, `mlp_alpha.weight` (n_embd,).

    Args:
        config: The model's configuration.
        mixer, mlp: Sub-dicts of the architecture.
        norm: `{"norm_cls": "l2"}`, with `eps` where it is not 0: the block has no other.
        residual: "add" or "lerp".
        attn_alpha, mlp_alpha: The rates, see `ScaleSpec`.
        signed_rates: a in the place of |a|.
        normalize_stream: False for x in the place of n(x).
        block_idx: Index of the block, 0-based.

    Raises:
        ConfigurationError: naming the path, what was found and what was expected.
    """

    keep_in_fp32 = ("attn_alpha", "mlp_alpha")

    def __init__(
        self,
        config: PreTrainedConfig,
        mixer: dict[str, Any] | None = None,
        mlp: dict[str, Any] | None = None,
        norm: dict[str, Any] | None = None,
        residual: str | None = None,
        attn_alpha: dict[str, Any] | None = None,
        mlp_alpha: dict[str, Any] | None = None,
        block_idx: int | None = None,
        *,
        signed_rates: bool = False,
        normalize_stream: bool = True,
    ) -> None:
        super().__init__()
        path = block_path(config.architecture, block_idx)
        if norm is None or norm.get("norm_cls") != "l2":
            raise invalid(f"{path}.norm", norm, "{'norm_cls': 'l2'}: a block of class 'ngpt' has no other norm")
        if residual not in RESIDUALS:
            raise invalid(f"{path}.residual", residual, f"one of {list(RESIDUALS)}")
        self.residual, self.signed_rates, self.normalize_stream = residual, signed_rates, normalize_stream
        self.least = get_norm(config.n_embd, norm, config=config, block_idx=block_idx).eps
        self.attn = get_mixer(config, mixer_config=mixer, mixer_idx=block_idx)
        self.mlp = get_mlp(config, mlp_config=mlp, block_idx=block_idx)
        self.attn_alpha = LearnedScale(config.n_embd, scale_spec(attn_alpha, f"{path}.attn_alpha"))
        self.mlp_alpha = LearnedScale(config.n_embd, scale_spec(mlp_alpha, f"{path}.mlp_alpha"))
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
        mixed = first(self.attn(x, **taken(kwargs, self.mixer_keywords)))
        x = self.step(x, self.resid_attn_dropout(mixed), self.attn_alpha)
        x = self.step(x, self.resid_mlp_dropout(first(self.mlp(x))), self.mlp_alpha)
        return (x,)

    def step(self, x: Tensor, branch: Tensor, alpha: LearnedScale) -> Tensor:
        """The stream x moved towards a branch, (B, S, n_embd) of length 1, rounded to the dtype of x once."""
        acc = accumulation_dtype(x.dtype)
        start, target, rate = x.to(acc), unit(branch.to(acc), eps=self.least), alpha.effective(acc)
        start = unit(start, eps=self.least) if self.normalize_stream else start
        move = target - start if self.residual == "lerp" else target
        return unit(start + (rate if self.signed_rates else rate.abs()) * move, eps=self.least).to(x.dtype)

"""Attention without a softmax, as the nGPT tutorial has it: scores of later keys are a number, and nothing is masked.

out = scores v, with scores = scale * q·k for keys up to the query and `masked_score` for later ones. With -1e8 for the
latter, every query but the last one gives the negative sum of the later values: the function is not causal, and a cache
cannot reproduce it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from mixformer.attention import BACKENDS
from mixformer.blocks.mixers.alibi import Alibi
from mixformer.blocks.mixers.inner_attention import InnerAttention
from mixformer.errors import AttentionBackendError, ConfigurationError, invalid
from mixformer.forward_context import ForwardContext
from mixformer.precision import accumulation_dtype
from mixformer.visibility import NO_WINDOW, Visibility

ATTN_FNS = ("softmax", "masked_linear")
# Arguments of `InnerAttention` by their keyword, with the value that means nothing; None where any value will do.
SOFTMAX_ONLY = (
    ("causal", True),
    ("window_size", NO_WINDOW),
    ("softmax_scale", None),
    ("softcap", 0.0),
    ("dropout", 0.0),
    ("use_alibi", Alibi()),
)
NO_FLASH = "attn_fn 'masked_linear' has no softmax, which is part of flash-attn's kernels: use eager or sdpa."
NO_HALF = "attn_fn 'masked_linear' has scores such as -1e8, beyond the range of float16: use bfloat16 or float32."


class MaskedLinearAttention(InnerAttention):
    """Attention of queries over keys and values without a softmax. eager and sdpa compute the same formula.

    Args:
        scale: Factor of the scores.
        masked_score: Score of a later key.
    """

    def __init__(self, scale: float, masked_score: float) -> None:
        super().__init__(True, NO_WINDOW, scale, 0.0, 0.0, Alibi())
        self.masked_score = masked_score

    def forward(self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext) -> Tensor:
        """(B, S, H, D) queries over (B, S, K, D) keys and values to (B, S, H, D).

        A key that is padding, or of another sample, weighs 0: it is no later key.

        Raises:
            AttentionBackendError: for flash attention or float16, saying why.
        """
        if context.backend not in BACKENDS:
            raise AttentionBackendError(
                f"attn_implementation must be one of {list(BACKENDS)}, but got {context.backend!r}."
            )
        if obstacle := _obstacle(context.backend, q.dtype):
            raise AttentionBackendError(obstacle)
        dtype, acc, groups = q.dtype, accumulation_dtype(q.dtype), q.shape[2] // k.shape[2]
        q, k, v = (x.transpose(1, 2).to(acc) for x in (q, k, v))  # (B, H or K, S, D)
        if groups > 1:
            k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        scores = torch.matmul(q, k.transpose(-1, -2)) * self.scale  # (B, H, S, S)
        later, foreign = self._masks(context, q.shape[2], q.device)
        scores = scores.masked_fill(later, self.masked_score)
        if foreign is not None:
            scores = scores.masked_fill(foreign, 0.0)
        return torch.matmul(scores, v).to(dtype).transpose(1, 2)

    def _masks(self, context: ForwardContext, length: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """True for later keys, and for keys that are padding or of another sample; (1 or B, 1, S, S) or None."""

        def make() -> tuple[Tensor, Tensor | None]:
            causal = context.visibility(True, NO_WINDOW, length, length)
            if causal.segments is None:
                return ~causal.mask(length, length, device), None
            own = Visibility(False, NO_WINDOW, causal.segments).mask(length, length, device)
            return ~causal.mask(length, length, device), ~own

        return context.once(("masked linear", length, device), make)


def has_no_softmax(attn_fn: str, masked_score: float | None, rule: Sequence[object], path: str) -> bool:
    """Whether the keywords of a mixer ask for attention without a softmax.

    Args:
        attn_fn, masked_score: Keywords of the mixer.
        rule: The arguments of `InnerAttention`, of which attention without a softmax takes the scale alone.
        path: Of the mixer, for errors.

    Raises:
        ConfigurationError: for an unknown name, or keywords that do not go together.
    """
    if attn_fn not in ATTN_FNS:
        raise invalid(f"{path}.attn_fn", attn_fn, f"one of {list(ATTN_FNS)}")
    if attn_fn == "softmax":
        if masked_score is not None:
            raise invalid(f"{path}.masked_score", masked_score, "left out unless attn_fn is 'masked_linear'")
        return False
    if masked_score is None or not math.isfinite(masked_score):
        raise invalid(f"{path}.masked_score", masked_score, "a number where attn_fn is 'masked_linear'")
    for (name, neutral), value in zip(SOFTMAX_ONLY, rule, strict=True):
        if neutral is not None and value != neutral:
            raise ConfigurationError(f"`{path}.{name}` is not combined with attn_fn 'masked_linear': leave it out.")
    return True


def kernel_obstacle(config: PreTrainedConfig, backend: str, dtype: torch.dtype) -> str | None:
    """Why a model cannot run with a backend in a dtype, in a sentence, or None where its parts do not object.

    Args:
        config: Of a MixFormer.
        backend: transformers' name of the attention implementation.
        dtype: Of the activations.
    """
    blocks = config.architecture if isinstance(config.architecture, list) else [config.architecture]
    without_softmax = any(block["mixer"].get("attn_fn", "softmax") == "masked_linear" for block in blocks)
    return _obstacle(backend, dtype) if without_softmax else None


def _obstacle(backend: str, dtype: torch.dtype) -> str | None:
    if backend.startswith("flash"):
        return NO_FLASH
    return NO_HALF if dtype == torch.float16 else None

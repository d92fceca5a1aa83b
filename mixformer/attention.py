"""One attention function on flash-attn's contract, and three ways to compute it.

The contract: layout (B, S, H, D); query head h uses key-value head h // (H / K); scores are `scale * q·k`, then
softcapped as `softcap * tanh(score / softcap)`, then biased by `-slope * |distance|` (alibi); masks as in `visibility`,
aligned bottom-right; a query that sees no key gives zeros.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from mixformer.errors import AttentionBackendError, MissingPackageError
from mixformer.precision import accumulation_dtype
from mixformer.visibility import Visibility


@dataclass(frozen=True)
class ScoreRule:
    """What happens to a score between the dot product and the softmax.

    Attributes:
        scale: Factor of the dot product.
        softcap: Bound of the score, 0 for none.
        alibi_slopes: (H,) float32, or None.
        dropout: Probability with which an attention weight is dropped, 0 outside training.
    """

    scale: float
    softcap: float = 0.0
    alibi_slopes: Tensor | None = None
    dropout: float = 0.0


def eager(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility, rule: ScoreRule, mask: Tensor | None) -> Tensor:
    """Attention written out: the definition that the other backends are held to. Any floating dtype."""
    groups = q.shape[2] // k.shape[2]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H or K, S, D)
    if groups > 1:
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))  # (B, H, Sk, D)
    acc = accumulation_dtype(q.dtype)
    # Scores are accumulated wide, as flash-attn's kernels and CodeGen's own attention do.
    scores = torch.matmul(q.to(acc), k.to(acc).transpose(-1, -2)) * rule.scale  # (B, H, Sq, Sk)
    if rule.softcap:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    if rule.alibi_slopes is not None:
        scores = scores + alibi_bias(rule.alibi_slopes, visibility, q.shape[2], k.shape[2], acc)
    mask = _eager_mask(visibility, mask, q.shape[2], k.shape[2], q.device)
    if mask is not None:
        # The lowest finite number, not -inf: a row without keys would give NaN, and NaN gradients besides.
        scores = scores.masked_fill(~mask, torch.finfo(acc).min)
    weights = F.softmax(scores, dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)
    weights = F.dropout(weights.to(v.dtype), p=rule.dropout)
    return torch.matmul(weights, v).transpose(1, 2)  # (B, Sq, H, D)


def sdpa(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility, rule: ScoreRule, mask: Tensor | None) -> Tensor:
    """torch's fused kernels. They have no softcap: a softcapped score is computed as `eager` does."""
    if rule.softcap:
        return eager(q, k, v, visibility, rule, mask)
    query_length, key_length = q.shape[1], k.shape[1]
    alibi = rule.alibi_slopes is not None
    if mask is None and (visibility.needs_mask(query_length, key_length) or (alibi and visibility.causal)):
        mask = visibility.mask(query_length, key_length, q.device)
    blind = None
    if mask is not None and (visibility.segments is not None or query_length > key_length):
        # Kernels differ on rows without keys, NaN included: let such rows see everything, and blank them afterwards.
        blind = ~mask.any(-1, keepdim=True)  # (1 or B, 1, Sq, 1)
        mask = mask | blind
    out = F.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k, v)),
        attn_mask=_with_alibi(mask, visibility, rule.alibi_slopes, q, key_length) if alibi else mask,
        dropout_p=rule.dropout,
        # torch aligns its own causal mask top-left, which is ours only for Sq == Sk.
        is_causal=mask is None and visibility.causal and query_length == key_length and query_length > 1,
        scale=rule.scale,
        enable_gqa=q.shape[2] != k.shape[2],
    )  # (B, H, Sq, D)
    out = out if blind is None else out.masked_fill(blind, 0.0)
    return out.transpose(1, 2)


def alibi_bias(
    slopes: Tensor, visibility: Visibility, query_length: int, key_length: int, dtype: torch.dtype
) -> Tensor:
    """-slope * |distance| for every head, (1 or B, H, Sq, Sk); Press et al. 2022, symmetric as in flash-attn."""
    distance = visibility.distance(query_length, key_length, slopes.device).abs()
    return -slopes.to(dtype)[None, :, None, None] * distance[:, None].to(dtype)


def _with_alibi(mask: Tensor | None, visibility: Visibility, slopes: Tensor, q: Tensor, key_length: int) -> Tensor:
    bias = alibi_bias(slopes, visibility, q.shape[1], key_length, accumulation_dtype(q.dtype))
    return (bias if mask is None else bias.masked_fill(~mask, -torch.inf)).to(q.dtype)


def _eager_mask(
    visibility: Visibility, mask: Tensor | None, query_length: int, key_length: int, device: torch.device
) -> Tensor | None:
    if mask is not None:
        return mask
    if visibility.needs_mask(query_length, key_length) or (visibility.causal and query_length > 1):
        return visibility.mask(query_length, key_length, device)
    return None


# Where the kernels of flash-attn run, and what they take (its C++ checks; the Python layer pads D to a multiple of 8).
FLASH_DEVICES = ("cuda",)
FLASH_DTYPES = (torch.float16, torch.bfloat16)
FLASH_MAX_HEAD_DIM = 256


def flash(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility, rule: ScoreRule, mask: Tensor | None) -> Tensor:
    """The flash-attn 2 package. `mask` is ignored: padding and samples go in as sequence lengths instead."""
    _check_flash(q, rule)
    package = _flash_package()
    query_length, key_length = q.shape[1], k.shape[1]
    segments = _flash_segments(visibility, q.shape[0], query_length, key_length, q.device)
    options = {
        "dropout_p": rule.dropout,
        "softmax_scale": rule.scale,
        "causal": visibility.causal,
        "window_size": visibility.effective_window(key_length),
        "softcap": rule.softcap,
        "alibi_slopes": None if rule.alibi_slopes is None else rule.alibi_slopes.float(),
    }
    if segments is None:
        return _first(package.flash_attn_func(q, k, v, **options))
    start = visibility.start(query_length, key_length)
    queries, keys = _packing(segments, start, query_length)
    rows = q.reshape(-1, *q.shape[2:])  # (B * Sq, H, D)
    if len(queries.index) == 0:
        return torch.zeros_like(q)
    packed = _first(
        package.flash_attn_varlen_func(
            rows[queries.index],
            k.reshape(-1, *k.shape[2:])[keys.index],
            v.reshape(-1, *v.shape[2:])[keys.index],
            cu_seqlens_q=queries.boundaries,
            cu_seqlens_k=keys.boundaries,
            max_seqlen_q=queries.longest,
            max_seqlen_k=keys.longest,
            **options,
        )
    )
    return torch.zeros_like(rows).index_copy(0, queries.index, packed).view_as(q)


def flash_obstacle(device: torch.device | str) -> str | None:
    """Why `flash_attention_2` cannot run on a device, in a sentence, or None where it can."""
    kind = torch.device(device).type
    if kind not in FLASH_DEVICES:
        return f"flash-attn's kernels run on {' and '.join(FLASH_DEVICES)}, not on {kind}."
    try:
        _flash_package()
    except MissingPackageError as error:
        return str(error)
    return None


def _check_flash(q: Tensor, rule: ScoreRule) -> None:
    if q.dtype not in FLASH_DTYPES:
        raise AttentionBackendError(
            f"flash_attention_2 computes in float16 or bfloat16, but got {q.dtype}: cast the model, or use sdpa."
        )
    if q.device.type not in FLASH_DEVICES:
        raise AttentionBackendError(f"flash_attention_2 runs on {FLASH_DEVICES}, but got a tensor on {q.device}.")
    if q.shape[-1] > FLASH_MAX_HEAD_DIM:
        raise AttentionBackendError(
            f"flash_attention_2 takes head_dim up to {FLASH_MAX_HEAD_DIM}, but got {q.shape[-1]}: use sdpa."
        )
    if rule.softcap and rule.dropout:
        raise AttentionBackendError("flash_attention_2 does not combine softcap with dropout: use eager.")


def _flash_package() -> ModuleType:
    try:
        return importlib.import_module("flash_attn")
    except ImportError as error:
        raise MissingPackageError(
            f"flash_attention_2 was asked for, but flash_attn cannot be imported ({error}); it needs a CUDA build."
        ) from error


def _first(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The output alone: some releases return the log-sum-exp beside it."""
    return result[0] if isinstance(result, tuple) else result


def _flash_segments(
    visibility: Visibility, batch: int, query_length: int, key_length: int, device: torch.device
) -> Tensor | None:
    """Segments in which keys behind the last query (the free places of a static cache) are padding."""
    start = visibility.start(query_length, key_length)
    if not isinstance(start, Tensor) and start == key_length - query_length:
        return visibility.segments
    filled = torch.arange(key_length, device=device) < start + query_length  # (Sk,)
    if visibility.segments is None:
        return filled.long().expand(batch, key_length)
    return visibility.segments * filled


@dataclass(frozen=True)
class _Packing:
    """Rows of a flattened batch that take part, and where each sequence among them starts."""

    index: Tensor  # (total,)
    boundaries: Tensor  # (sequences + 1,) int32
    longest: int


def _packing(segments: Tensor, start: int | Tensor, query_length: int) -> tuple[_Packing, _Packing]:
    """Packings of the queries and of the keys that belong to a sample with at least one query."""
    rows = torch.arange(segments.shape[0], device=segments.device)[:, None]
    samples = segments + rows * (segments.max() + 1)  # (B, Sk), a number of its own for each sample of the batch
    samples = samples.masked_fill(segments == 0, -1)
    of_query = samples[:, torch.arange(query_length, device=segments.device) + start]  # (B, Sq)
    queried = samples.masked_fill(~torch.isin(samples, of_query), -1)
    return _pack(of_query), _pack(queried)


def _pack(samples: Tensor) -> _Packing:
    flat = samples.flatten()
    index = torch.nonzero(flat >= 0).flatten()
    lengths = torch.unique_consecutive(flat[index], return_counts=True)[1]
    boundaries = F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    return _Packing(index, boundaries, int(lengths.max()) if len(lengths) else 0)


Backend = Callable[[Tensor, Tensor, Tensor, Visibility, ScoreRule, Tensor | None], Tensor]

# transformers' names of attention implementations.
BACKENDS: dict[str, Backend] = {"eager": eager, "sdpa": sdpa, "flash_attention_2": flash}


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    backend: str,
    visibility: Visibility,
    rule: ScoreRule,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention of q over k and v.

    Args:
        q: (B, Sq, H, D).
        k: (B, Sk, K, D) with H a multiple of K.
        v: (B, Sk, K, D).
        backend: A name in `BACKENDS`; there is no fallback from one to another.
        visibility: What each query may see.
        rule: Scale, softcap, alibi and dropout.
        mask: `visibility.mask(...)` where the caller has it already, so that layers can share one.

    Returns:
        (B, Sq, H, D) in the dtype of q.

    Raises:
        AttentionBackendError: for an unknown backend, or where `flash_attention_2` cannot compute what is asked.
        MissingPackageError: if flash-attn was asked for and cannot be imported.
    """
    if backend not in BACKENDS:
        raise AttentionBackendError(f"attn_implementation must be one of {list(BACKENDS)}, but got {backend!r}.")
    return BACKENDS[backend](q, k, v, visibility, rule, mask)

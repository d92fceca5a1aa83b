"""Kernels of flash-attn 2.8 written in torch, for machines without a GPU; they refuse what the C++ code refuses.

`kernels()` is a module `flash_attn_2_cuda` for the real Python package; `package()` a small `flash_attn` over the same
kernels, for machines without that package.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

FWD_TAIL = ("causal", "left", "right", "softcap", "return_softmax", "generator")


def check(condition: bool, message: str) -> None:
    if not condition:
        raise RuntimeError(f"flash stand-in: {message}")


def check_tensors(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor | None, dropout: float, softcap: float) -> None:
    check(q.dtype in (torch.float16, torch.bfloat16), "FlashAttention only support fp16 and bf16 data type")
    check(q.dtype == k.dtype == v.dtype, "query, key and value must have the same dtype")
    check(all(x.stride(-1) == 1 for x in (q, k, v)), "Input tensor must have contiguous last dimension")
    check(q.shape[-1] % 8 == 0 and q.shape[-1] <= 256, "head_size should be a multiple of 8 and at most 256")
    check(q.shape[-1] == k.shape[-1] == v.shape[-1], "head sizes must agree")
    check(q.shape[-2] % k.shape[-2] == 0, "Number of heads in key/value must divide number of heads in query")
    check(not softcap or not dropout, "Softcapping does not support dropout for now")
    if slopes is not None:
        check(slopes.dtype == torch.float32, "ALiBi slopes must have dtype fp32")
        check(slopes.stride(-1) == 1, "ALiBi slopes tensor must have contiguous last dimension")
        check(slopes.shape == (q.shape[-2],), "ALiBi slopes must have shape (heads,)")


def attend(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor | None, scale: float, **rule: Any) -> Tensor:
    """One sequence: (Sq, H, D) over (Sk, K, D)."""
    groups = q.shape[1] // k.shape[1]
    wide = [x.float().repeat_interleave(groups if x is not q else 1, dim=1) for x in (q, k, v)]
    scores = torch.einsum("ihd,jhd->hij", wide[0], wide[1]) * scale
    if rule["softcap"] > 0:
        scores = rule["softcap"] * torch.tanh(scores / rule["softcap"])
    query = torch.arange(q.shape[0])[:, None] + k.shape[0] - q.shape[0]
    key = torch.arange(k.shape[0])[None, :]
    if slopes is not None:
        scores = scores - slopes[:, None, None] * (query - key).abs()
    left, right = rule["left"], 0 if rule["causal"] else rule["right"]
    seen = torch.ones_like(query - key, dtype=torch.bool)
    if left >= 0:
        seen &= key >= query - left
    if right >= 0:
        seen &= key <= query + right
    weights = torch.softmax(scores.masked_fill(~seen, -1e30), -1).masked_fill(~seen, 0.0)
    return torch.einsum("hij,jhd->ihd", weights, wide[2]).to(q.dtype)


def fwd(q: Tensor, k: Tensor, v: Tensor, out: None, slopes: Tensor | None, p: float, scale: float, *tail: Any) -> Any:
    rule = dict(zip(FWD_TAIL, tail, strict=True))
    check_tensors(q, k, v, slopes, p, rule["softcap"])
    check(q.ndim == 4 and k.shape == v.shape and q.shape[0] == k.shape[0], "shapes must be (B, S, H, D)")
    result = torch.stack([attend(q[b], k[b], v[b], slopes, scale, **rule) for b in range(q.shape[0])])
    return result, q.new_zeros(q.shape[0], q.shape[2], q.shape[1]).float(), q.new_empty(0), torch.zeros(2).long()


def varlen_fwd(q: Tensor, k: Tensor, v: Tensor, out: None, cu_q: Tensor, cu_k: Tensor, *rest: Any) -> Any:
    _seqused, _leftpad, _table, slopes, longest_q, longest_k, p, scale, _zero, *tail = rest
    rule = dict(zip(FWD_TAIL, tail, strict=True))
    check_tensors(q, k, v, slopes, p, rule["softcap"])
    check(q.ndim == 3, "query must be (total, H, D)")
    for cu, total, longest in ((cu_q, q.shape[0], longest_q), (cu_k, k.shape[0], longest_k)):
        check(cu.dtype == torch.int32 and cu.is_contiguous(), "cu_seqlens must have dtype int32 and be contiguous")
        check(int(cu[0]) == 0 and int(cu[-1]) == total, "cu_seqlens must run from 0 to total")
        check(type(longest) is int and longest >= int(cu.diff().max()), "max_seqlen is too small")
    check(len(cu_q) == len(cu_k), "cu_seqlens_q and cu_seqlens_k must have the same length")
    spans = zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:], strict=True)
    result = torch.cat([attend(q[a:b], k[c:d], v[c:d], slopes, scale, **rule) for a, b, c, d in spans])
    return result, q.new_zeros(q.shape[1], q.shape[0]).float(), q.new_empty(0), torch.zeros(2).long()


def kernels() -> types.ModuleType:
    module = types.ModuleType("flash_attn_2_cuda")
    module.fwd, module.varlen_fwd = fwd, varlen_fwd
    return module


def flash_attn_func(
    q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None,
    deterministic=False, return_attn_probs=False,
):  # fmt: skip
    size = q.shape[-1]
    q, k, v = (pad(x, (0, -size % 8)) for x in (q, k, v))
    tail = (causal, *window_size, softcap, return_attn_probs, None)
    return fwd(q, k, v, None, alibi_slopes, dropout_p, softmax_scale or size**-0.5, *tail)[0][..., :size]


def flash_attn_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False,
    window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False, return_attn_probs=False,
    block_table=None,
):  # fmt: skip
    size = q.shape[-1]
    q, k, v = (pad(x, (0, -size % 8)) for x in (q, k, v))
    lengths = (None, None, block_table, alibi_slopes, max_seqlen_q, max_seqlen_k)
    tail = (causal, *window_size, softcap, return_attn_probs, None)
    rest = (*lengths, dropout_p, softmax_scale or size**-0.5, False, *tail)
    return varlen_fwd(q, k, v, None, cu_seqlens_q, cu_seqlens_k, *rest)[0][..., :size]


def package() -> types.ModuleType:
    module = types.ModuleType("flash_attn")
    module.flash_attn_func, module.flash_attn_varlen_func = flash_attn_func, flash_attn_varlen_func
    return module

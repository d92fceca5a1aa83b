"""True float64 for reference models whose forward pass casts to float32 in some places.

A LLaMA after ``model.double()`` still has a rounding error of 1e-7: its norms, rotary tables and softmax cast to
float32. :class:`Float64Mode` turns each such cast into one to float64. Values that a model made in float32 *before* the
forward pass (``inv_freq``) stay as they are, because every checkpoint was trained with them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial, wraps
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

_NARROW = frozenset({torch.float32, torch.float16, torch.bfloat16})
_NARROWING = frozenset({torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16})
_LIKE_ANOTHER = frozenset({torch.Tensor.to, torch.Tensor.type_as})


class Float64Mode(TorchFunctionMode):
    """While active, every operation that asks for float32, float16 or bfloat16 gets float64.

    Covers ``.float()``, ``.to(dtype)``, ``.to(tensor)``, factory functions, ``softmax(dtype=...)``. Autocast regions
    need no change: autocast does not touch float64 tensors.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _NARROWING:
            return args[0].double()
        if func in _LIKE_ANOTHER and len(args) > 1 and isinstance(args[1], torch.Tensor) and args[1].dtype in _NARROW:
            return args[0].to(device=args[1].device, dtype=torch.float64)
        return func(*map(_lifted, args), **{name: _lifted(value) for name, value in (kwargs or {}).items()})


def _lifted(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


def needs_priming(model: torch.nn.Module) -> bool:
    """Whether a pass in the model's own precision must come before the float64 pass of the same length.

    Dynamic rotary embeddings compute ``inv_freq`` inside the forward pass, for the length of the prompt. Under
    :class:`Float64Mode` it would not have the float32 value of the published function. A pass before computes that
    value, and it stays. Models whose rotary modules all have ``rope_type == "default"`` compute none there.
    """
    kinds = [module.rope_type for module in model.modules() if hasattr(module, "rope_type")]
    return not kinds or any(kind != "default" for kind in kinds)


def depends_on_length(model: torch.nn.Module) -> bool:
    """Whether rotary frequencies depend on the length of the pass, so that a cache holds keys of other frequencies."""
    kinds = [module.rope_type for module in model.modules() if hasattr(module, "rope_type")]
    return any(kind in ("dynamic", "longrope") for kind in kinds)


def remembers_lengths(model: Any) -> bool:
    """Whether passes of several lengths may not be mixed, because a module keeps frequencies of the last one."""
    said = str(model.config.to_dict())
    return depends_on_length(model) or "dynamic" in said or "longrope" in said


def forget_lengths(model: torch.nn.Module) -> None:
    """Give dynamic rotary modules the frequencies that they had before the first pass.

    They keep those of a long prompt: transformers 5.0 for each prompt that fits the context, later releases for longer
    ones. The logits of a prompt would depend on the prompts before it.
    """
    module: Any
    for module in model.modules():
        if getattr(module, "rope_type", None) == "dynamic" and hasattr(module, "original_inv_freq"):
            module.inv_freq = module.original_inv_freq.clone()
            module.max_seq_len_cached = module.original_max_seq_len


def keep_rotary_frequencies() -> None:
    """Let frequencies that a forward pass computes have their float32 values under :class:`Float64Mode`.

    Old releases of transformers 5 compute those of dynamic and longrope in every pass, not only in the first one of a
    length.
    """
    for kind, function in ROPE_INIT_FUNCTIONS.items():
        ROPE_INIT_FUNCTIONS[kind] = _unlifted(function)


def _unlifted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, in the dtypes that it names. Outside of `Float64Mode` it is called as it is."""
    plain = getattr(function, "unlifted", function)  # what an earlier model replaced

    @wraps(plain)
    def unlifted(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction() if _lifting() else nullcontext():
            return plain(*args, **kwargs)

    unlifted.__dict__["unlifted"] = plain
    return unlifted


def rebuild_sinusoids(model: torch.nn.Module) -> None:
    """Recompute in float64 the sin/cos tables that CodeGen and GPT-J keep in float32.

    The table (positions, dim) is cat(sin, cos) of position x inv_freq with inv_freq = 10000^(-2i/dim) in float32, as
    transformers' ``create_sinusoidal_positions`` has it.
    """
    for module in model.modules():
        table = getattr(module, "embed_positions", None)
        if isinstance(table, torch.Tensor) and hasattr(module, "pos_embd_dim"):
            positions, dim = table.shape
            even = torch.arange(0, dim, 2, dtype=torch.int64)
            inv_freq = 1.0 / (10000 ** (even.to(torch.float32) / dim))  # (dim/2,)
            angles = torch.arange(positions, dtype=torch.float64)[:, None] * inv_freq.double()  # (positions, dim/2)
            module.embed_positions = torch.cat((angles.sin(), angles.cos()), dim=1).to(table.device)


def rebuild_alibi(model: torch.nn.Module) -> None:
    """Give BLOOM and MPT the slopes of their float32 formulas in float64.

    Both compute slopes inside the forward pass, in float32 whatever the model's dtype is. Under :class:`Float64Mode`
    they would be rounded in float64, which is another function. Distances and their products are in float64.
    """
    module: Any
    for module in model.modules():
        code: Any = sys.modules[type(module).__module__]
        if hasattr(module, "build_alibi_tensor") and hasattr(code, "_get_alibi_slopes"):
            code._get_alibi_slopes = _widened(code._get_alibi_slopes)
        elif hasattr(module, "build_alibi_tensor"):  # transformers before 5.22
            code.build_alibi_tensor = _with_wide_products(code.build_alibi_tensor)
        elif hasattr(module, "build_mpt_alibi_tensor"):
            module.build_mpt_alibi_tensor = partial(_mpt_alibi, code.build_mpt_alibi_tensor)


def _widened(slopes: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The function of BLOOM's module that makes slopes, with a float64 result under `Float64Mode` alone."""
    plain = getattr(slopes, "__wrapped__", slopes)  # `wraps` keeps what an earlier model replaced

    @wraps(plain)
    def widened(*args: Any) -> torch.Tensor:
        dtype = torch.empty(0, dtype=torch.float32).dtype
        with torch._C.DisableTorchFunction():
            return plain(*args).to(dtype)

    return widened


def _with_wide_products(alibi: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The function of BLOOM's module that makes slopes and their products in one, with float32 slopes in float64."""
    plain = getattr(alibi, "__wrapped__", alibi)

    @wraps(plain)
    def widened(mask: torch.Tensor, heads: int, dtype: torch.dtype) -> torch.Tensor:
        if not _lifting():
            return plain(mask, heads, dtype)
        with torch._C.DisableTorchFunction():
            # At the distance 1 the product is the slope itself.
            slopes = plain(torch.ones_like(mask[:1, :1]).expand(1, 2), heads, torch.float32)[:, :, 1].double()
            distances = ((mask.cumsum(-1) - 1) * mask)[:, None, :]  # (batch, 1, tokens)
            return (slopes * distances).reshape(-1, 1, mask.shape[-1])

    return widened


def _lifting() -> bool:
    """Whether `Float64Mode` is active."""
    return torch.empty(0, dtype=torch.float32).dtype is torch.float64


def _mpt_alibi(
    plain: Callable[..., torch.Tensor], heads: int, length: int, bias_max: float = 8, device: Any = None
) -> torch.Tensor:
    """Slope times minus the distance to the last token, (heads, 1, tokens) float64."""
    with torch._C.DisableTorchFunction():
        # At the distance 1 the product is minus the slope itself.
        slopes = -plain(heads, 2, bias_max, device)[..., :1].double()
        return slopes * torch.arange(1 - length, 1, dtype=torch.float64, device=device)

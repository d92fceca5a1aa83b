"""Models with peaked attention and non-trivial norms, references without float32 islands, and mappings by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM

# Tiny tensors: more threads only wait for each other, and for the other test process.
torch.set_num_threads(1)

NARROW = (torch.float32, torch.float16, torch.bfloat16)


class WithoutNarrowIslands(TorchFunctionMode):
    """Inside, every cast of a float64 tensor to something narrower stays float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.float:
            return args[0].double()
        if kwargs.get("dtype") in NARROW:
            kwargs["dtype"] = torch.float64
        if func is torch.Tensor.to:
            args = tuple(torch.float64 if a in NARROW else a for a in args if not isinstance(a, Tensor) or a is args[0])
        return func(*args, **kwargs)


def in_float32() -> dict[str, Callable[..., Any]]:
    """What makes rotary frequencies, in float32 always: transformers before 5.14 calls it in every pass."""

    def outside(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return function(*args, **kwargs)

    return {kind: partial(outside, function) for kind, function in ROPE_INIT_FUNCTIONS.items()}


@pytest.fixture
def checkpoint_activations() -> Callable[..., None]:
    """Enables gradient checkpointing of a model, under its name since transformers 5.23 or the older one."""

    def enable(model: Any, *options: dict[str, bool]) -> None:
        known = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        known(*options)

    return enable


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    yield


@pytest.fixture
def float64_logits() -> Callable[..., Tensor]:
    """Logits of a transformers model in float64 all through, with the inv_freq that it has in float32."""

    def run(model: nn.Module, ids: Tensor, **kwargs: Any) -> Tensor:
        with torch.no_grad():
            model.float()(ids, **kwargs)  # length-dependent rotary kinds set their frequencies here, in float32
            with WithoutNarrowIslands(), patch.dict(ROPE_INIT_FUNCTIONS, in_float32()):
                return model.double()(ids, **kwargs).logits

    return run


@pytest.fixture
def heat() -> Callable[[nn.Module], nn.Module]:
    """Give a model norm weights of 1 ± 0.2, biases of 0.2 and large projections, so that attention is peaked."""

    def run(model: nn.Module) -> nn.Module:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(0.0, 0.2)
                elif parameter.ndim == 1:
                    parameter.normal_(1.0, 0.2)
                else:
                    parameter.normal_(0.0, 1.5 * parameter.shape[-1] ** -0.5)
        return model.eval()

    return run


@pytest.fixture
def build(heat: Callable[[nn.Module], nn.Module]) -> Callable[..., MixFormerSequentialForCausalLM]:
    """A small hot MixFormer in float64 with the given configuration."""

    def run(**kwargs: Any) -> MixFormerSequentialForCausalLM:
        sizes = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 61, "n_positions": 64}
        config = MixFormerSequentialConfig(**{**sizes, "pad_vocab_size_multiple": 1, **kwargs})
        return heat(MixFormerSequentialForCausalLM(config)).double()

    return run


@pytest.fixture
def relative_rms() -> Callable[[Tensor, Tensor], float]:
    """rms of the difference over the standard deviation of the truth."""

    def run(found: Tensor, truth: Tensor) -> float:
        found, truth = found.detach(), truth.detach()
        return float((found - truth).pow(2).mean().sqrt() / truth.std())

    return run

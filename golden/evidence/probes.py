"""Probes: inputs for one module, which show in bfloat16 faults that no logit shows: a wrong eps, GELU or scale.

In the logits, rounding hides such faults. They show far above the floor in a norm with tiny inputs, in an activation
with inputs where the two GELUs differ most, and in attention alone (attention facts, 5c).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from golden.models.modules import RESIDUAL, activation, blocks, first_tensor, keywords_of_call, role_module, router_of
from golden.models.running import ModelRunner

NORM_SCALES = (1e-2, 3e-3, 1e-3)
"""Root mean squares of a norm's inputs, near the square root of usual eps values."""
NORM_ROWS, TOKENS, POINTS = 8, 24, 256


@dataclass(frozen=True)
class Probe:
    """An input for the module of ``role`` in layer 0, its true output, and the reference's own rms error there."""

    name: str
    role: str
    given: Tensor
    truth: Tensor
    own: float


def make_probes(exact: ModelRunner, own: ModelRunner, dtype: torch.dtype) -> tuple[Probe, ...]:
    """Probes of a reference: true outputs of ``exact`` (float64, rounded weights), floors of ``own`` in ``dtype``."""
    probes = (_probe(exact, own, dtype, *case) for case in _cases(exact, dtype))
    return tuple(probe for probe in probes if probe is not None)


def _cases(exact: ModelRunner, dtype: torch.dtype) -> Iterator[tuple[str, str, Tensor]]:
    layers = blocks(exact.model)
    if not layers:
        return
    width = exact.model.get_input_embeddings().embedding_dim
    generator = torch.Generator().manual_seed(0)
    for scale in NORM_SCALES if role_module(layers[0], "norm_1") is not None else ():
        rows = scale * torch.randn(1, NORM_ROWS, width, generator=generator)
        yield f"norm of inputs of rms {scale:g}", "norm_1", rows.to(dtype)
    if activation(layers[0]) is not None:
        points = torch.linspace(-4.5, -2.5, POINTS)
        yield "activation between -4.5 and -2.5", "activation", points.to(dtype)
    if (mlp := role_module(layers[0], "mlp")) is not None and router_of(mlp) is not None:
        yield "experts alone", "mlp", _clear_choices(mlp, torch.randn(POINTS, width, generator=generator)).to(dtype)
    yield "attention alone", "attention", torch.randn(1, TOKENS, width, generator=generator).to(dtype)


def _clear_choices(mlp: nn.Module, rows: Tensor) -> Tensor:
    """The rows, (1, TOKENS, width), for which a router's choice of experts is clearest: rounding does not change it."""
    router: Any = router_of(mlp)
    logits = rows.double() @ router.weight.detach().double().cpu().T
    ordered = logits.sort(-1, descending=True).values
    chosen = int(getattr(router, "top_k", 0) or getattr(mlp, "n_active", 1))
    if chosen >= ordered.shape[-1]:
        return rows[None, :TOKENS]
    margins = ordered[:, chosen - 1] - ordered[:, chosen]
    return rows[margins.topk(TOKENS).indices][None]


def _probe(
    exact: ModelRunner, own: ModelRunner, dtype: torch.dtype, name: str, role: str, given: Tensor
) -> Probe | None:
    """The probe, or None where one of the two models calls the modules of its layers by names that are not known."""
    truth = run_probe(exact, role, given.to(exact.model.dtype), rounded_as=own, dtype=dtype)
    found = run_probe(own, role, given)
    if truth is None or found is None:
        return None
    return Probe(name, role, given, truth.float(), error_of(found, truth))


def error_of(found: Tensor, truth: Tensor) -> float:
    """Root mean square error of a probe's output, in the units of the output."""
    return float((found.double() - truth.double()).square().mean().sqrt())


def error_against_twin(probe: Probe, found: Tensor) -> float | None:
    """rms error of an activation's output against the other GELU, or None where the true output is no GELU.

    transformers computes the tanh form step by step in bfloat16, and loses more than the two forms differ by. So a
    kernel of the wrong form can be nearer to the true output than the reference is. But it is nearer to its own form.
    """
    given, truth = probe.given.double(), probe.truth.double()
    forms = {form: nn.functional.gelu(given, approximate=form) for form in ("tanh", "none")}
    right = [form for form, values in forms.items() if torch.allclose(values, truth, rtol=0.0, atol=1e-6)]
    if probe.role != "activation" or len(right) != 1:
        return None
    return error_of(found, forms["none" if right == ["tanh"] else "tanh"])


def run_probe(
    runner: ModelRunner,
    role: str,
    given: Tensor,
    rounded_as: ModelRunner | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor | None:
    """Output of the module of ``role`` in layer 0 on ``given``, on the CPU; None where the model has no such module.

    Args:
        rounded_as: use a copy of the module with weights rounded to ``dtype``, as this model in low precision has them.
            What it keeps wider stays as it is.
    """
    module = _find(runner, role)
    if module is None:
        return None
    given = given.to(runner.loaded.device)
    arguments = _surroundings(runner, module, given.shape[1]) if role == "attention" else {}
    if rounded_as is not None:
        module = _rounded(module, dtype, _kept(_find(rounded_as, role), dtype))
    with torch.no_grad(), runner.lifting():
        output: Tensor = first_tensor(module(given, **arguments))
    return output.cpu()


def _find(runner: ModelRunner, role: str) -> nn.Module | None:
    layers = blocks(runner.model)
    if not layers:
        return None
    return activation(layers[0]) if role == "activation" else role_module(layers[0], role)


def _surroundings(runner: ModelRunner, module: nn.Module, tokens: int) -> dict[str, Any]:
    """The arguments of the model's first attention besides the hidden states: masks, rotary tables and the like."""
    kwargs = keywords_of_call(module, lambda: runner.logits([i % runner.vocab for i in range(tokens)]))
    return {name: torch.zeros_like(value) if name == RESIDUAL else value for name, value in kwargs.items()}


def _kept(module: nn.Module | None, dtype: torch.dtype) -> set[str]:
    """Names of the parameters that a module in low precision has in a wider dtype."""
    named = () if module is None else module.named_parameters()
    return {name for name, parameter in named if parameter.dtype.itemsize > dtype.itemsize}


def _rounded(module: nn.Module, dtype: torch.dtype, kept: set[str]) -> nn.Module:
    copied = copy.deepcopy(module)
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            if name not in kept:
                parameter.copy_(parameter.to(dtype))
    return copied

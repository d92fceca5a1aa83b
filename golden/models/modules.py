"""Finding the modules of a loaded model by role, in any family: blocks, norms, attention, MLP."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

ROLE_NAMES = {
    "norm_1": (
        "input_layernorm",
        "ln_1",
        "ln",
        "rmsnorm_att",
        "attention_layernorm",
        "self_attn_layer_norm",
        "norm_1",
        "ln_attn",
    ),
    "attention": ("self_attn", "attn", "atten", "mixer", "attention", "self_attention"),
    "after_1": ("after_1", "post_self_attn_layernorm"),
    "norm_2": (
        "post_attention_layernorm",
        "ln_2",
        "rmsnorm_mlp",
        "feedforward_layernorm",
        "final_layer_norm",
        "norm_2",
        "ln_mlp",
    ),
    "mlp": ("mlp", "ffn"),
    "after_2": ("after_2", "post_mlp_layernorm", "post_feedforward_layernorm"),
}
"""Role -> names it has in transformers' models and in MixFormer, in the order of the forward pass."""

RESIDUAL = "residual"
"""The name of an argument: the residual stream, for modules that add it themselves."""


AFTER_MLP = "post_feedforward_layernorm"
"""Where a block has a norm of this name, `post_attention_layernorm` stands after attention, not before the MLP."""
OF_GEMMA = {"after_1": ("post_attention_layernorm",), "norm_2": ("pre_feedforward_layernorm",)}


def blocks(model: Any) -> list[nn.Module]:
    """The layers of a model, first to last; empty where they are not found."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential):
            found = [child for child in module if role_module(child, "attention") is not None]
            if found:
                return found
    return []


def role_module(block: nn.Module, role: str) -> nn.Module | None:
    """The module of that role in a block, or None; a module that does nothing is none."""
    names = OF_GEMMA.get(role) if hasattr(block, AFTER_MLP) else None
    for name in names or ROLE_NAMES[role]:
        module = getattr(block, name, None)
        if isinstance(module, nn.Module) and not isinstance(module, nn.Identity):
            return module
    return None


def router_of(mlp: nn.Module) -> nn.Module | None:
    """The router of a mixture of experts; None of any other MLP."""
    found = next((getattr(mlp, name) for name in ("router", "gate") if hasattr(mlp, name)), None)
    return found if hasattr(mlp, "experts") and isinstance(found, nn.Module) else None


def chooses_experts(model: nn.Module) -> bool:
    """Whether some layer is a mixture of experts."""
    return any(router_of(module) is not None for module in model.modules())


def activation(block: nn.Module) -> nn.Module | None:
    """The activation inside a block's MLP: its module without weights, buffers and children that is no dropout."""
    mlp = role_module(block, "mlp")
    if mlp is None:
        return None
    for module in mlp.modules():
        is_leaf = not list(module.children()) and not list(module.parameters()) and not list(module.buffers())
        if module is not mlp and is_leaf and not isinstance(module, nn.Dropout | nn.Identity):
            return module
    return None


def qualified_name(model: nn.Module, wanted: nn.Module) -> str:
    """The name under which a module sits in the model."""
    return next((name for name, module in model.named_modules() if module is wanted), "?")


@contextmanager
def captured_outputs(modules: Sequence[nn.Module]) -> Iterator[list[list[Any]]]:
    """Collect what some modules give (see `own_output`), a list for each module.

    Copies: Falcon adds attention's output into that of its MLP, in place.
    """
    found: list[list[Any]] = [[] for _ in modules]
    handles = [
        module.register_forward_hook(
            lambda module, args, kwargs, output, into=into: into.append(
                own_output(module, (args, kwargs, output)).clone()
            ),
            with_kwargs=True,
        )
        for module, into in zip(modules, found, strict=True)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


class _Reached(BaseException):
    """Raised to end a forward pass at one module."""


def named_arguments(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their names, but for the first one, the hidden states."""
    names = list(inspect.signature(module.forward).parameters)
    return {**dict(zip(names[1:], args[1:], strict=False)), **{k: v for k, v in kwargs.items() if k != names[0]}}


def own_output(module: nn.Module, call: tuple[tuple[Any, ...], dict[str, Any], Any]) -> Any:
    """What a module gave in a call, without the residual stream that some add themselves (BLOOM, MPT)."""
    args, kwargs, output = call
    residual = named_arguments(module, args, kwargs).get(RESIDUAL)
    return first_tensor(output) if residual is None else first_tensor(output) - residual


def output_of_call(module: nn.Module, run: Callable[[], object]) -> Any:
    """What a module gives when ``run`` calls it first (see `own_output`), None if it never does; no more is run."""
    found: list[Any] = []

    def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        found.append(own_output(module, (args, kwargs, output)))
        raise _Reached

    handle = module.register_forward_hook(stop, with_kwargs=True)
    try:
        run()
    except _Reached:
        pass
    finally:
        handle.remove()
    return found[0] if found else None


def keywords_of_call(module: nn.Module, run: Callable[[], object]) -> dict[str, Any]:
    """The arguments, besides the hidden states, with which ``run`` calls a module first.

    The rest of the forward pass is not run.
    """
    found: dict[str, Any] = {}

    def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.update(named_arguments(module, args, kwargs))
        raise _Reached

    handle = module.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        run()
    except _Reached:
        pass
    finally:
        handle.remove()
    return found


def first_tensor(output: Any) -> Any:
    """Modules return a tensor, or a tuple that begins with one."""
    return output[0] if isinstance(output, tuple | list) else output

"""What a mixture of experts adds to the layout: its keywords, sizes and tensors."""

from collections.abc import Iterator, Mapping
from typing import Any

from converters.config.kinds import BOOL, POSITIVE_INT
from converters.errors import ConfigRefused

MOE = "moe"
_MLP = "architecture.mlp."
KIND = _MLP + "mlp_cls"
EXPERTS, ACTIVE, NORM_TOPK = _MLP + "n_experts", _MLP + "n_active", _MLP + "norm_topk"
SHARED, SHARED_GATE = _MLP + "shared_inner", _MLP + "shared_gate"
LOSS, LOSS_COEF, JITTER = _MLP + "router_loss", _MLP + "router_loss_coef", _MLP + "router_jitter"
IMPLEMENTATION = _MLP + "experts_impl"  # changes no function

DEFAULTS: Mapping[str, Any] = {
    EXPERTS: 8,
    ACTIVE: 2,
    NORM_TOPK: False,
    SHARED: None,
    SHARED_GATE: False,
    LOSS: False,
    LOSS_COEF: 0.001,
    JITTER: 0.0,
}


def spread(flat: dict[str, Any]) -> None:
    """The defaults of a mixture in a flat config that has one."""
    if flat.get(KIND) == MOE:
        for path, default in DEFAULTS.items():
            flat.setdefault(path, default)


def sizes(resolved: Mapping[str, Any], n_embd: int, n_inner: int) -> dict[str, int]:
    """Sizes by name; none for an MLP of another kind.

    Raises:
        ConfigRefused: a number of experts, or the width of a shared one, is no such number.
    """
    if resolved.get(KIND) != MOE:
        return {}
    experts, active, shared = resolved[EXPERTS], resolved[ACTIVE], resolved[SHARED]
    if not POSITIVE_INT.holds(experts) or not POSITIVE_INT.holds(active) or active > experts:
        raise ConfigRefused(f"{ACTIVE} is {active!r} and {EXPERTS} {experts!r}, expected 1 to as many as there are")
    if shared is not None and not POSITIVE_INT.holds(shared):
        raise ConfigRefused(f"{SHARED} is {shared!r}, expected {POSITIVE_INT.words} or null")
    for path in (NORM_TOPK, SHARED_GATE):
        if not BOOL.holds(resolved[path]):
            raise ConfigRefused(f"{path} is {resolved[path]!r}, expected {BOOL.words}")
    found = {"n_experts": experts, "experts_fc1": 2 * experts * n_inner, "experts_fc2": experts * n_embd, "one": 1}
    return found if shared is None else {**found, "shared_inner": shared, "shared_rows": 2 * shared}


def tensors(resolved: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Keys and shapes of a mixture."""
    yield "mlp.router.weight", ("n_experts", "n_embd")
    yield "mlp.experts.fc1.weight", ("experts_fc1", "n_embd")
    yield "mlp.experts.fc2.weight", ("experts_fc2", "n_inner")
    if resolved[SHARED] is not None:
        yield "mlp.shared.fc1.weight", ("shared_rows", "n_embd")
        yield "mlp.shared.fc2.weight", ("n_embd", "shared_inner")
    if resolved[SHARED_GATE]:
        yield "mlp.shared_gate.weight", ("one", "n_embd")

"""The order of parts in the forward pass, and the stage in which a wrong part shows first."""

from __future__ import annotations

from golden.weights.sides import split_role

STAGES = ("norm 1", "attention", "after 1", "norm 2", "mlp", "after 2", "output")
_ATTENTION = ("q", "k", "v", "qkv", "o", "q_norm", "k_norm", "qk_scale")
_MLP = ("gate", "up", "down", "fc1", "fc2", "gate_scale", "up_scale", "idle_scale", "attn_alpha")
_STAGE = (
    {"norm_1": 0, "after_1": 2, "norm_2": 3, "after_2": 5, "mlp_alpha": 6}
    | dict.fromkeys(_ATTENTION, 1)
    | dict.fromkeys(_MLP, 4)
)
_TOP = {"embed": "embeddings", "positions": "positions"}
_OF_MLP = ("act_", "router", "experts_", "shared_")


def place_of(role: str) -> str:
    """The stage, as `golden.evidence.stages` names it, that a part belongs to."""
    layer, name = split_role(role)
    if layer is None:
        return "layer 0, norm 1" if name.startswith("embed_norm") else _TOP.get(name, "logits")
    stage = 4 if name.startswith(_OF_MLP) else _STAGE.get(name.removesuffix("_bias"))
    return f"layer {layer}" if stage is None else f"layer {layer}, {STAGES[stage]}"


def rank(place: str) -> tuple[int, int]:
    """Where a stage stands in the forward pass, for sorting."""
    if place.startswith(("embeddings", "token embeddings")):
        return -2, 0
    if place.startswith(("positions", "position embeddings")):
        return -1, 0
    if not place.startswith("layer "):
        return 1 << 30, 0
    layer, _, stage = place.removeprefix("layer ").partition(", ")
    known = [number for number, name in enumerate(STAGES) if stage.startswith(name)]
    return int(layer.split(":")[0]), known[0] if known else 0

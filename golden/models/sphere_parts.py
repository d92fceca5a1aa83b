"""Where a MixFormer made of the parts of nGPT has its learned scales, and the config fields that only it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from golden.models.parts import ConfigPath, Part

SCALES: Mapping[str, ConfigPath] = {
    "attn_alpha": ("attn_alpha",),
    "mlp_alpha": ("mlp_alpha",),
    "qk_scale": ("mixer", "qk_scale"),
    "uv_scale": ("mlp", "uv_scale"),
}
"""Learned scales of a block: name -> where the architecture says how one is used."""
LOGIT_SCALE = "logit_scale"
_MIXER = ("attn_fn", "masked_score", "rotary_style", "rotary_formula", "rotary_table", "qk_order", "qk_scaled")
CHOICES: Mapping[str, ConfigPath] = {
    "residual": ("residual",),
    "norm_cls": ("norm", "norm_cls"),
    "signed_rates": ("signed_rates",),
    "normalize_stream": ("normalize_stream",),
    "gate_init": ("mlp", "gate_init"),
    **{name: ("mixer", name) for name in (*_MIXER, "qk_l2_span", "value_residual", "unit_weights")},
}
"""Config fields of a block that change the function: name -> path."""


def sphere_parts(
    n_layer: int, n_inner: int, mlp: Mapping[str, Any], head: Mapping[str, Any]
) -> Iterator[tuple[str, Part]]:
    """(role, part) of every learned scale: for u, then for g, in that of the MLP. One without effect is `idle_...`.

    Args:
        mlp, head: what the architecture says of them.
    """
    idle = (mlp.get("uv_scale") or {}).get("used") is False
    unused = (head.get(LOGIT_SCALE) or {}).get("used") is False
    yield "idle_logit_scale" if unused else LOGIT_SCALE, Part(f"layers.{n_layer + 1}.logit_scale.weight")
    for i in range(n_layer):
        block = f"layers.{i + 1}"
        yield f"{i}.qk_scale", Part(f"{block}.attn.qk_scale.weight")
        yield f"{i}.attn_alpha", Part(f"{block}.attn_alpha.weight")
        yield f"{i}.mlp_alpha", Part(f"{block}.mlp_alpha.weight")
        if idle:
            yield f"{i}.idle_scale", Part(f"{block}.mlp.uv_scale.weight")
        else:
            yield f"{i}.up_scale", Part(f"{block}.mlp.uv_scale.weight", 0, n_inner)
            yield f"{i}.gate_scale", Part(f"{block}.mlp.uv_scale.weight", n_inner, n_inner)


def sphere_dials(blocks: list[ConfigPath], heads: list[ConfigPath]) -> dict[str, tuple[ConfigPath, ...]]:
    """Name -> every place of the fields that only such a model has.

    `{scale}_init` and `{scale}_scaling` are the two numbers of a scale. `scaling` is every number that NVIDIA's
    base_scale is.

    Args:
        blocks, heads: where the architecture describes blocks, and its head.
    """
    found = {name: tuple((*at, *path) for at in blocks) for name, path in CHOICES.items()}
    scales = {name: [(*at, *path) for at in blocks] for name, path in SCALES.items()}
    scales[LOGIT_SCALE] = [(*at, LOGIT_SCALE) for at in heads]
    for name, places in scales.items():
        found |= {f"{name}_{number}": tuple((*at, number) for at in places) for number in ("init", "scaling")}
    found["scaling"] = tuple(path for name in scales if name != "uv_scale" for path in found[f"{name}_scaling"])
    return found

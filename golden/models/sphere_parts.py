"""Where models of nGPT have their parts: learned scales of a MixFormer, keys and sizes of the later dialects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from golden.models.key_styles import QKV_ROWS, UP_AND_GATE, Style, whole
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


JOELI = Style(
    "transformer.h.{i}.",
    {"embed": "transformer.wte", "positions": "transformer.wpe", "head": "lm_head_2", "logit_scale": "sz"},
    {role: ("attn.c_attn", rows) for role, rows in QKV_ROWS.items()}
    | {role: ("mlp.c_fc", rows) for role, rows in UP_AND_GATE.items()}
    | whole({"o": "attn.c_proj", "down": "mlp.c_proj", "up_scale": "mlp.su", "gate_scale": "mlp.sv"})
    | whole({"qk_scale": "attn.sqk", "attn_alpha": "attn_alpha", "mlp_alpha": "mlp_alpha"}),
    transposed=True,
)

OLMO = Style(
    "blocks.{i}.",
    {"embed": "embeddings", "head": "lm_head.w_out", "logit_scale": "lm_head.sz"},
    whole(
        {name: f"attention.w_{name}" for name in "qkv"}
        | {"o": "attention.w_out", "down": "feed_forward.w2", "up": "feed_forward.w3", "gate": "feed_forward.w1"}
        | {"q_scale": "attention.sq", "k_scale": "attention.sk"}
        | {"up_scale": "feed_forward.sw3", "gate_scale": "feed_forward.sw1"}
        | {"attn_alpha": "attn_alpha", "mlp_alpha": "mlp_alpha"}
    ),
)

MODDED = Style(
    "transformer.h.{i}.",
    {"embed": "transformer.wte", "head": "lm_head", "logit_scale": "logits_scaler.scale"},
    whole(
        {name: f"attn.c_{name}" for name in "qkv"}
        | {"o": "attn.c_proj", "up": "mlp.c_fc", "gate": "mlp.c_fc2", "down": "mlp.c_proj"}
        | {"qk_scale": "attn.qk_scaler.scale", "up_scale": "mlp.u_scaler.scale", "gate_scale": "mlp.v_scaler.scale"}
        | {"attn_alpha": "attn_scaler.scale", "mlp_alpha": "mlp_scaler.scale"}
    ),
)

EVINTUNADOR = Style(
    "layers.{i}.",
    {"embed": "token_embedder", "head": "output"},
    whole(
        {name: f"attn.W{name}" for name in "qkvo"}
        | {"up": "mlp.Wup", "gate": "mlp.Wgate", "down": "mlp.Wdown", "qk_scale": "attn.s_qk.s"}
        | {"up_scale": "mlp.s_u.s", "gate_scale": "mlp.s_v.s", "attn_alpha": "alpha_A.s", "mlp_alpha": "alpha_M.s"}
    ),
)

LUCIDRAINS = Style(
    "layers.{i}.",
    {"embed": "token_embed.linear", "head": "to_logits.linear", "logit_scale": "logit_scale.scale"},
    whole(
        {name: f"0.fn.to_{name}.linear" for name in "qkv"}
        | {"o": "0.fn.to_out.linear", "up": "1.fn.to_hidden.linear", "gate": "1.fn.to_gate.linear"}
        | {"down": "1.fn.to_out.linear", "qk_scale": "0.fn.qk_scale.scale"}
        | {"up_scale": "1.fn.hidden_scale.scale", "gate_scale": "1.fn.gate_scale.scale"}
        | {"attn_alpha": "0.branch_scale.scale", "mlp_alpha": "1.branch_scale.scale"}
    ),
)

SIZES: Mapping[str, tuple[str, ...]] = {
    "n_head": ("num_attention_heads", "n_head", "num_heads", "n_heads", "heads"),
    "n_head_kv": ("num_key_value_heads", "n_kv_heads"),
    "n_embd": ("hidden_size", "n_embd", "dim", "d_model"),
    "head_dim": ("head_dim", "dim_head"),
    "n_inner": ("intermediate_size", "n_inner"),
    "n_layer": ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "depth"),
}
"""Our name of a size -> theirs."""


def said_sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """The sizes that a config says, by our names; those of OLMo-core stand in objects inside."""
    flat = dict(config)
    if isinstance(model := config.get("model"), Mapping):
        block = model.get("block", {})
        inner = {"intermediate_size": block.get("feed_forward", {}).get("hidden_size")}
        flat = {**model, **(block.get("sequence_mixer") or block.get("attention") or {}), **inner}
    found = {own: [flat[name] for name in names if flat.get(name)] for own, names in SIZES.items()}
    return {own: int(values[0]) for own, values in found.items() if values}


SPHERE_STYLES: Mapping[str, Style] = {
    "ngpt-joeli": JOELI,
    "ngpt-evintunador": EVINTUNADOR,
    "ngpt-lucidrains": LUCIDRAINS,
    "ngpt-modded-nanogpt": MODDED,
    "ngpt-olmo": OLMO,
}
"""By the name of their form."""

"""Key names of the dialects of nGPT that came after the first two, and the sizes that configs say by many names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from golden.models.key_styles import QKV_ROWS, UP_AND_GATE, Style, whole

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

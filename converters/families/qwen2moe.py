"""Qwen2-MoE (Qwen1.5-MoE): a Qwen2 with a mixture of experts, and one expert with a gate that every token uses.

Source: transformers 5.23 `models/qwen2_moe`. A model with windows, or with layers that have a plain MLP, is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.moves import Concat
from converters.config.echo import Echo
from converters.config.entries import Field, Ours, Theirs
from converters.config.harmless import all_full
from converters.config.kinds import BOOL, POSITIVE_INT
from converters.config.layout import dims_of
from converters.config.moe_layout import SHARED, SHARED_GATE
from converters.config.table import ConfigTable
from converters.families.shared.decoders.experts import NO_JITTER, TOPK, every_layer, mixture, mixture_rules
from converters.families.shared.hot_sizes import ROPES, SIZES
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import MIXER, NO_QK_NORM, NO_WINDOW, eps, heads, model, positions
from converters.families.shared.transformers_rules import LAYER
from converters.family import Family, Hot, Rule
from converters.plan.known_buffers import Table

CONFIG = ConfigTable(
    called="Qwen2-MoE",
    entries=(
        *model("qwen2_moe", "Qwen2MoeForCausalLM", "Qwen2MoeModel", bos=None, eos=None, experts=True),
        *mixture("num_experts", 60, 4, "moe_intermediate_size", 0.001, inner=1408),
        *heads(default_kv=16),
        *every_layer(),
        NO_JITTER,
        NO_QK_NORM,
        NO_WINDOW,
        TOPK,
        Field("shared_expert_intermediate_size", (SHARED,), POSITIVE_INT, 5632),
        Ours(SHARED_GATE, (True,)),
        Field("qkv_bias", (MIXER + "bias",), BOOL, True),
        Ours(MIXER + "out_bias", (False,)),
        eps("rms_norm_eps", 1e-6),
        positions(32768),
        Theirs("use_sliding_window", (False,), "which layers have a window is not converted for Qwen2-MoE"),
        Echo("layer_types", all_full, "every layer is"),
        Rope(),
    ),
    free=frozenset({"intermediate_size", "sliding_window", "max_window_layers"}),  # of other layers than these
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Qwen2-MoE, by our resolved config."""
    shared = LAYER + "mlp.shared_expert."
    up_gate = tuple(f"{shared}{name}_proj.weight" for name in ("up", "gate"))
    return [
        *mixture_rules(ours),
        Rule(up_gate, ("layers.{b}.mlp.shared.fc1.weight",), Concat(("shared_inner", "shared_inner"))),
        Rule((f"{shared}down_proj.weight",), ("layers.{b}.mlp.shared.fc2.weight",)),
        Rule((f"{LAYER}mlp.shared_expert_gate.weight",), ("layers.{b}.mlp.shared_gate.weight",)),
    ]


FAMILY = Family(
    name="qwen2moe",
    title="Qwen2-MoE, Qwen1.5-MoE",
    model_types=("qwen2_moe",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="a mixture of experts in every layer and a shared one with a gate, with the loss of its router",
    hot=Hot(
        "Qwen2MoeConfig",
        SIZES
        | {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 28}
        | {"shared_expert_intermediate_size": 44},
        {"rope_parameters": ROPES, "qkv_bias": (True, False), "num_experts": (2, 5, 8), "norm_topk_prob": (True, False)}
        | {"num_experts_per_tok": (1, 2), "output_router_logits": (True, False), "intermediate_size": ()}
        | {"shared_expert_intermediate_size": (20, 44)},
    ),
)

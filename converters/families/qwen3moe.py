"""Qwen3-MoE: a Qwen3 with a mixture of experts in the place of its MLP.

Source: transformers 5.23 `models/qwen3_moe`. A model with some layers that have a plain MLP is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.decoders.experts import NO_JITTER, NO_SHARED, TOPK, every_layer, mixture, mixture_rules
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.part_fields import HEAD_NORM
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import MIXER, eps, heads, model, positions
from converters.families.shared.transformers_rules import LAYER, norm
from converters.families.shared.windows import SwitchedWindow
from converters.family import Family, Hot, Rule
from converters.plan.known_buffers import Table

CONFIG = ConfigTable(
    called="Qwen3-MoE",
    entries=(
        *model("qwen3_moe", "Qwen3MoeForCausalLM", "Qwen3MoeModel", bos=None, eos=None, experts=True),
        *mixture("num_experts", 128, 8, "moe_intermediate_size", 0.001, inner=768),
        *heads(default_kv=4),
        *NO_SHARED,
        *every_layer(),
        NO_JITTER,
        TOPK,
        HEAD_NORM,
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        eps("rms_norm_eps", 1e-6),
        positions(32768),
        SwitchedWindow(4096),
        Rope(),
    ),
    free=frozenset({"intermediate_size", "max_window_layers"}),  # of layers without experts, and of Qwen2
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Qwen3-MoE, by our resolved config."""
    names = [(f"{LAYER}self_attn.{name}", f"layers.{{b}}.attn.{name}") for name in ("q_norm", "k_norm")]
    return [*mixture_rules(ours), *(rule for theirs, mine in names for rule in norm(theirs, mine, ours))]


FAMILY = Family(
    name="qwen3moe",
    title="Qwen3-MoE",
    model_types=("qwen3_moe",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="a mixture of experts in every layer, with the loss of its router; normalised q and k; one window",
    hot=Hot(
        "Qwen3MoeConfig",
        WIDE | {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 28, "norm_topk_prob": True},
        {
            "rope_parameters": ROPES,
            "use_sliding_window": (True, False),
            "sliding_window": (5, 24),
            "num_experts": (2,),
        }
        | {"norm_topk_prob": (True, False), "num_experts_per_tok": (1, 2), "output_router_logits": (True, False)}
        | {"intermediate_size": ()},
    ),
)

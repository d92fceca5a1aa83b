"""OLMoE: an OLMo with RMS norms, norms over all of q and all of k, and a mixture of experts in the place of its MLP.

Source: transformers 5.23 `models/olmoe`. It bounds q, k and v behind these norms, and MixFormer before: such a model is
refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field, Theirs
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.decoders.experts import NO_JITTER, NO_SHARED, TOPK, mixture, mixture_rules
from converters.families.shared.hot_sizes import ROPES, SIZES
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.part_fields import WIDTH_NORM
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import MIXER, NO_WINDOW, eps, heads, model, positions
from converters.families.shared.transformers_rules import LAYER, norm
from converters.family import Family, Hot, Rule
from converters.plan.known_buffers import Table

CONFIG = ConfigTable(
    called="OLMoE",
    entries=(
        *model("olmoe", "OlmoeForCausalLM", "OlmoeModel", bos=None, eos=50279, pad=1, experts=True),
        *mixture("num_experts", 64, 8, "intermediate_size", 0.01),
        *heads(),
        *WIDTH_NORM,
        *NO_SHARED,
        NO_JITTER,
        NO_WINDOW,
        TOPK,
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        eps("rms_norm_eps", 1e-5),
        positions(4096),
        Theirs("clip_qkv", (None,), "OLMoE bounds q, k and v behind their norms, MixFormer before them"),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of an OLMoE, by our resolved config."""
    names = [(f"{LAYER}self_attn.{name}", f"layers.{{b}}.attn.{name}") for name in ("q_norm", "k_norm")]
    return [*mixture_rules(ours), *(rule for theirs, mine in names for rule in norm(theirs, mine, ours))]


FAMILY = Family(
    name="olmoe",
    title="OLMoE",
    model_types=("olmoe",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="a mixture of experts in every layer, with the loss of its router; norms over all of q and of k",
    hot=Hot(
        "OlmoeConfig",
        SIZES | {"num_experts": 5, "num_experts_per_tok": 2, "intermediate_size": 28},
        {"rope_parameters": ROPES, "num_experts": (2, 5, 8), "norm_topk_prob": (True, False)}
        | {"num_experts_per_tok": (1, 2), "output_router_logits": (True, False)},
    ),
)

"""Mixtral: a Mistral with a mixture of experts in the place of its MLP, of which two compute for each token.

Source: transformers 5.23 `models/mixtral`. Files have the names of Mistral's own code, w1, w3 and w2 for gate, up and
down; transformers joins the experts while it loads them, and parts them again when it saves them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field, Ours
from converters.config.kinds import FRACTION
from converters.config.layout import dims_of
from converters.config.moe_layout import JITTER, NORM_TOPK
from converters.config.table import ConfigTable
from converters.families.shared.decoders.experts import NO_SHARED, mixture, mixture_rules
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import NO_QK_NORM, biases, eps, heads, model, positions
from converters.families.shared.windows import SlidingWindow
from converters.family import Family, Hot, Rule
from converters.plan.known_buffers import Table

CONFIG = ConfigTable(
    called="Mixtral",
    entries=(
        *model("mixtral", "MixtralForCausalLM", "MixtralModel", bos=1, eos=2, experts=True),
        *mixture("num_local_experts", 8, 2, "intermediate_size", 0.001),
        *heads(default_kv=8),
        *biases(False, False),
        *NO_SHARED,
        NO_QK_NORM,
        Ours(NORM_TOPK, (True,)),
        Field("router_jitter_noise", (JITTER,), FRACTION, 0.0),
        eps("rms_norm_eps", 1e-5),
        positions(131072),
        SlidingWindow(None),
        Rope(default_theta=1e6),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Mixtral, by our resolved config."""
    return mixture_rules(ours, "block_sparse_moe.", ("w1", "w3", "w2"))


FAMILY = Family(
    name="mixtral",
    title="Mixtral",
    model_types=("mixtral",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="a mixture of any number of experts, with the loss of its router; else as mistral",
    hot=Hot(
        "MixtralConfig",
        WIDE | {"num_local_experts": 5, "num_experts_per_tok": 2},
        {"rope_parameters": ROPES, "sliding_window": (None, 5, 24), "num_local_experts": (2, 5, 8)}
        | {"num_experts_per_tok": (1, 2), "output_router_logits": (True, False)},
    ),
)

"""Ministral: a Mistral whose windows may differ from layer to layer.

Source: transformers 5.23 `models/ministral`.
"""

from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.decoders.layer_kinds import KindWindows, all_alike
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    GLU,
    NO_QK_NORM,
    biases,
    heads,
    llama_decoder,
    model,
    positions,
)
from converters.families.shared.transformers_rules import llama_like
from converters.families.shared.windows import FULL, SLIDING
from converters.family import Family
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(
    called="Ministral",
    entries=(
        *model("ministral", "MinistralForCausalLM", "MinistralModel", bos=1, eos=2),
        *llama_decoder(),
        *heads(default_kv=8),
        *biases(False, False),
        GLU,
        NO_QK_NORM,
        positions(4096 * 32),
        KindWindows(4096, all_alike),
        Rope(),
    ),
)

FAMILY = Family(
    name="ministral",
    title="Ministral 8B and models of its architecture",
    model_types=("ministral",),
    config=CONFIG,
    rules=llama_like,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama without biases; one sliding window for any of the layers",
    hot=Hot(
        "MinistralConfig",
        WIDE | {"sliding_window": 24, "layer_types": [FULL, SLIDING, FULL]},
        {
            "num_hidden_layers": (),
            "layer_types": (None, [SLIDING, SLIDING, FULL], [FULL, FULL, FULL], [SLIDING, FULL, SLIDING]),
            "sliding_window": (5, 24),
            "rope_parameters": ROPES,
        },
    ),
)

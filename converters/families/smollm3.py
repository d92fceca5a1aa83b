"""SmolLM3: a LLaMA in which every fourth layer has no positions, and may have a window.

Source: transformers 5.23 `models/smollm3`. A layer without positions has `rotary_dim` 0 in ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Choice, Field
from converters.config.kinds import BOOL
from converters.config.layout import BIASED_GLU, dims_of
from converters.config.table import ConfigTable
from converters.families.shared.decoders.layer_kinds import KindWindows, RotatingLayers, layers_of
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.refusals import relics
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    MIXER,
    MLP,
    NO_QK_NORM,
    heads,
    llama_decoder,
    model,
    positions,
)
from converters.families.shared.transformers_rules import llama_like
from converters.families.shared.windows import FULL, SLIDING
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

ROTATING = RotatingLayers()


def kinds(theirs: Mapping[str, Any]) -> list[str]:
    """Where theirs does not say: with windows on, the layers without positions have one."""
    on = theirs.get("use_sliding_window", False) and theirs.get("sliding_window") is not None
    return [FULL if turns or not on else SLIDING for turns in ROTATING.flags(theirs)][: layers_of(theirs)]


CONFIG = ConfigTable(
    called="SmolLM3",
    entries=(
        *model("smollm3", "SmolLM3ForCausalLM", "SmolLM3Model", tied=True, bos=128000, eos=128001, pad=128004),
        *llama_decoder(),
        *heads(default_kv=4, whole=False),
        NO_QK_NORM,
        positions(32768),
        Choice("mlp_bias", MLP + "mlp_cls", ((False, "glu"), (True, BIASED_GLU))),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        KindWindows(None, kinds, switch="use_sliding_window"),
        ROTATING,
        *relics(pretraining_tp=(1, 2), max_window_layers=(28, 36)),
        Rope(2e6),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a SmolLM3, by our resolved config."""
    return llama_like(ours, mlp_bias=ours[MLP + "mlp_cls"] == BIASED_GLU)


FAMILY = Family(
    name="smollm3",
    title="SmolLM3",
    model_types=("smollm3",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    tied=True,
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama; any layers without positions; one sliding window for any of the layers",
    hot=Hot(
        "SmolLM3Config",
        WIDE | {"no_rope_layers": [1, 0, 1]},
        {
            "num_hidden_layers": (),
            "no_rope_layers": ([1, 1, 0], [1, 1, 1], [0, 1, 1], [0, 0, 0]),
            "use_sliding_window": (True, False, False),
            "sliding_window": (5, 24),
            "rope_parameters": ROPES,
        },
    ),
)

"""OLMo: a LLaMA whose norms are LayerNorms without parameters, with a bound on queries, keys and values.

Source: transformers 5.23 `models/olmo`. The eps of its norms is 1e-5, which no field says.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field, Ours, Written
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.part_layout import AFFINE
from converters.config.table import ConfigTable
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.part_fields import clip
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    GLU,
    LAYER_NORM,
    MIXER,
    NO_DROPOUT,
    NO_QK_NORM,
    NO_WINDOW,
    NORM,
    PLAIN_SCALE,
    SAME_SCALE,
    block,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import LAYER, UP_GATE, linear, llama_attention, vocabulary
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(
    called="OLMo",
    entries=(
        *model("olmo", "OlmoForCausalLM", "OlmoModel", bos=None, eos=50279, pad=1),
        *block("sequential"),
        *heads(),
        *mlp("silu"),
        *NO_DROPOUT,
        GLU,
        LAYER_NORM,
        Ours(AFFINE, (False,)),
        Ours(NORM + "eps", (1e-5,)),
        Written("layer_norm_epsilon", 1e-5),
        NO_WINDOW,
        NO_QK_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(2048),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        clip("clip_qkv"),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of an OLMo, by our resolved config."""
    return [
        *llama_attention(ours),
        *linear([f"{LAYER}mlp.{name}_proj" for name in ("up", "gate")], "mlp.fc1", False, UP_GATE),
        *linear([LAYER + "mlp.down_proj"], "mlp.fc2", False),
        *vocabulary(ours, "model.embed_tokens.weight", "lm_head"),
    ]


FAMILY = Family(
    name="olmo",
    title="OLMo",
    model_types=("olmo",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama with norms that have no parameters; a bound on q, k and v",
    hot=Hot("OlmoConfig", WIDE | {"clip_qkv": 1.5}, {"rope_parameters": ROPES, "clip_qkv": (None, 0.8, 8.0)}),
)

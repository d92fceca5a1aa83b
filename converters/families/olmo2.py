"""OLMo-2: a LLaMA with norms after the branches, not before, and norms over all queries and all keys.

Source: transformers 5.23 `models/olmo2`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.part_fields import WIDTH_NORM, residual_block
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    GLU,
    MIXER,
    NO_DROPOUT,
    NO_WINDOW,
    PLAIN_SCALE,
    RMS_NORM,
    SAME_SCALE,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import after_norms, llama_body, qk_norms
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(
    called="OLMo-2",
    entries=(
        *model("olmo2", "Olmo2ForCausalLM", "Olmo2Model", bos=None, eos=50279, pad=1),
        *residual_block("after"),
        *heads(),
        *mlp("silu"),
        *NO_DROPOUT,
        *WIDTH_NORM,
        GLU,
        RMS_NORM,
        NO_WINDOW,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(2048),
        eps("rms_norm_eps", 1e-5),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of an OLMo-2, by our resolved config."""
    return [*after_norms(ours), *qk_norms(ours), *llama_body(ours)]


FAMILY = Family(
    name="olmo2",
    title="OLMo-2",
    model_types=("olmo2",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama with norms after the branches and over all queries and keys",
    hot=Hot("Olmo2Config", WIDE, {"rope_parameters": ROPES}),
)

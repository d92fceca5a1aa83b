"""EXAONE-4 (dense): norms after the branches and of queries and keys; where windows are, full layers have no positions.

Source: transformers 5.23 `models/exaone4`. Without `sliding_window` the heads of all layers rotate.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.decoders.layer_kinds import SlidingRotates
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.part_fields import HEAD_NORM, residual_block
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    GLU,
    NO_DROPOUT,
    PLAIN_SCALE,
    RMS_NORM,
    SAME_SCALE,
    biases,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import after_norms, llama_body, qk_norms
from converters.families.shared.windows import FULL, SLIDING
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(
    called="EXAONE-4",
    entries=(
        *model("exaone4", "Exaone4ForCausalLM", "Exaone4Model", bos=0, eos=2),
        *residual_block("after"),
        *heads(default_kv=32, whole=False),
        *mlp("silu"),
        *NO_DROPOUT,
        *biases(False, False),
        HEAD_NORM,
        GLU,
        RMS_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(2048),
        eps("rms_norm_eps", 1e-5),
        SlidingRotates(),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of an EXAONE-4, by our resolved config."""
    return [*after_norms(ours), *qk_norms(ours), *llama_body(ours)]


FAMILY = Family(
    name="exaone4",
    title="EXAONE-4 (dense)",
    model_types=("exaone4",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama with norms after the branches and of queries and keys; windows, and layers without positions",
    hot=Hot(
        "Exaone4Config",
        WIDE | {"sliding_window": 24, "layer_types": [SLIDING, FULL, SLIDING]},
        {
            "num_hidden_layers": (),
            "layer_types": ([SLIDING, SLIDING, FULL], [FULL, FULL, FULL], [SLIDING, SLIDING, SLIDING]),
            "sliding_window": (5, 24, 7),
            "rope_parameters": ROPES,
        },
    ),
)

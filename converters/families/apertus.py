"""Apertus: a LLaMA with normalised queries and keys and a plain MLP whose activation, xIELU, learns.

Source: transformers 5.23 `models/apertus`. The activation keeps its two constants in the checkpoint, and ours does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.config.entries import Field
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.part_layout import UNBIASED_MLP, XIELU_MLP
from converters.config.table import ConfigTable
from converters.families.shared.decoders.one_for_all import MLPByActivation
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.part_fields import HEAD_NORM
from converters.families.shared.refusals import relics
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    MIXER,
    MLP,
    NO_DROPOUT,
    NO_WINDOW,
    PLAIN_SCALE,
    RMS_NORM,
    SAME_SCALE,
    block,
    eps,
    heads,
    inner_width,
    model,
    positions,
)
from converters.families.shared.transformers_rules import LAYER, linear, llama_attention, norm, qk_norms, vocabulary
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 12000000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}


@dataclass(frozen=True)
class ApertusRope(Rope):
    """A config that says no rope has LLaMA-3's, with Apertus' own numbers."""

    default_theta: float = 12000000.0

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """As `Rope`."""
        said = any(theirs.get(name) is not None for name in ("rope_parameters", "rope_scaling"))
        return super().read(theirs if said else {**theirs, "rope_parameters": LLAMA3})


CONFIG = ConfigTable(
    called="Apertus",
    entries=(
        *model("apertus", "ApertusForCausalLM", "ApertusModel", bos=1, eos=2, pad=3),
        *block("sequential"),
        *heads(),
        inner_width(),
        MLPByActivation("hidden_act", "xielu", XIELU_MLP, UNBIASED_MLP),
        *NO_DROPOUT,
        HEAD_NORM,
        RMS_NORM,
        NO_WINDOW,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(65536),
        eps("rms_norm_eps", 1e-5),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        ApertusRope(),
        *relics(qk_norm=(True,), post_norm=(False,), mlp_bias=(False,)),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of an Apertus, by our resolved config."""
    learns = ours[MLP + "mlp_cls"] == XIELU_MLP
    names = ("alpha_p", "alpha_n", "beta", "eps") if learns else ()
    return [
        *norm(LAYER + "attention_layernorm", "layers.{b}.ln_1", ours),
        *norm(LAYER + "feedforward_layernorm", "layers.{b}.ln_2", ours),
        *qk_norms(ours),
        *llama_attention(ours),
        *linear([LAYER + "mlp.up_proj"], "mlp.fc1", False),
        *linear([LAYER + "mlp.down_proj"], "mlp.fc2", False),
        *(Rule((f"{LAYER}mlp.act_fn.{name}",), (f"layers.{{b}}.mlp.act.{name}",)) for name in names),
        *norm("model.norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "model.embed_tokens.weight", "lm_head"),
    ]


FAMILY = Family(
    name="apertus",
    title="Apertus",
    model_types=("apertus",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama with normalised queries and keys and a plain MLP, whose activation may learn",
    hot=Hot("ApertusConfig", WIDE, {"rope_parameters": (None, *ROPES), "hidden_act": ("xielu", "gelu", "relu2")}),
)

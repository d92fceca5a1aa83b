"""Phi-1, Phi-1.5 and Phi-2: a parallel MixFormer with LayerNorm and biases everywhere.

Source: transformers 5.23 `models/phi`. These models were published as MixFormers; today q, k and v are apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.partial_rope import PartialRope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    LAYER_NORM,
    MIXER,
    NO_WINDOW,
    PLAIN_MLP,
    PLAIN_SCALE,
    SAME_SCALE,
    biases,
    block,
    dropouts,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import LAYER, linear, llama_attention, mlp_of, norm, vocabulary
from converters.family import Family, Rule
from converters.plan.known_buffers import Table

CONFIG = ConfigTable(
    called="Phi",
    entries=(
        *model("phi", "PhiForCausalLM", "PhiModel", bos=1, eos=2),
        *block("parallel", head_bias=True),
        *heads(whole=False),
        *biases(True, True),
        *mlp("gelu_new"),
        *dropouts(),
        PLAIN_MLP,
        LAYER_NORM,
        NO_WINDOW,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(2048),
        eps("layer_norm_eps", 1e-5),
        Field("qk_layernorm", (MIXER + "qk_norm",), BOOL, False),
        PartialRope(0.5),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Phi, by our resolved config."""
    found = [
        *norm(LAYER + "input_layernorm", "layers.{b}.ln", ours),
        *llama_attention(ours, "dense", "mixer"),
        *linear([LAYER + "mlp.fc1"], f"{mlp_of(ours)}.fc1", True),
        *linear([LAYER + "mlp.fc2"], f"{mlp_of(ours)}.fc2", True),
        *norm("model.final_layernorm", "layers.{h}.ln", ours),
        *vocabulary(ours, "model.embed_tokens.weight", "lm_head", bias=True),
    ]
    for name in ("q", "k") if ours[MIXER + "qk_norm"] else ():
        found += norm(f"{LAYER}self_attn.{name}_layernorm", f"layers.{{b}}.mixer.{name}_norm", ours)
    return found


FAMILY = Family(
    name="phi",
    title="Phi-1, Phi-1.5 and Phi-2",
    model_types=("phi",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="MHA, GQA; partial rotary of any type; biases everywhere; normalised queries and keys; tied or untied",
)

"""LLaMA: a sequential MixFormer with a GLU and RMS norms.

Source: transformers 5.23 `models/llama` (`LlamaConfig`, `LlamaForCausalLM`). q, k and v are one matrix in ours. In the
GLU, ours has `up` before `gate`. Both sides use half-split rotary embeddings, so no rows are re-ordered.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Choice, Field, Theirs
from converters.config.kinds import BOOL
from converters.config.layout import BIASED_GLU, dims_of
from converters.config.table import ConfigTable
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    MIXER,
    MLP,
    NO_QK_NORM,
    NO_WINDOW,
    heads,
    llama_decoder,
    model,
    positions,
)
from converters.families.shared.transformers_rules import llama_like
from converters.family import Family, Rule
from converters.plan.known_buffers import Table

CONFIG = ConfigTable(
    called="LLaMA",
    entries=(
        *model("llama", "LlamaForCausalLM", "LlamaModel", bos=1, eos=2),
        *llama_decoder(),
        *heads(),
        NO_WINDOW,
        NO_QK_NORM,
        positions(2048),
        Choice("mlp_bias", MLP + "mlp_cls", ((False, "glu"), (True, BIASED_GLU))),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        Rope(),
        Theirs("sliding_window", (None,), "LLaMA ignores it; for a model with a window set model_type mistral", False),
        Theirs("rope_interleaved", (False,), "transformers ignores it for LLaMA, so its meaning is unclear", False),
    ),
    free=frozenset({"pretraining_tp"}),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a LLaMA, by our resolved config."""
    return llama_like(ours, mlp_bias=ours[MLP + "mlp_cls"] == BIASED_GLU)


FAMILY = Family(
    name="llama",
    title="LLaMA 1-3 and models of its architecture (SmolLM2, TinyLlama, Yi, ...)",
    model_types=("llama",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="MHA, GQA, MQA; any head_dim, activation and rope type; biases; tied or untied; any dtype",
)

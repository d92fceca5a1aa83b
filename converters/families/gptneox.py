"""GPT-NeoX and Pythia: LayerNorms, biases, partial rotary; attention and MLP side by side, each on its own norm.

Source: transformers 5.23 `models/gpt_neox`. The rows of `query_key_value` are head after head, each with q, k and v.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.algebra.moves import Rows
from converters.config.entries import Choice, Field, Ours
from converters.config.kinds import BOOL, FRACTION
from converters.config.layout import BLOCK_MIXER, TWO_NORMS, dims_of
from converters.config.table import ConfigTable
from converters.families.shared.causal_masks import CausalMask, masked_biases
from converters.families.shared.dialect_fields import even_heads, sizes
from converters.families.shared.gpt_fields import PLAIN_ATTENTION
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.partial_rope import PartialRope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    HEAD,
    LAYER_NORM,
    MIXER,
    PLAIN_MLP,
    eps,
    mlp,
    model,
)
from converters.families.shared.transformers_rules import linear, mlp_of, norm, vocabulary
from converters.family import Family, Hot, Rule
from converters.plan.known_buffers import Table
from converters.small_models import LONG_SIZES, ropes

BLOCK = "gpt_neox.layers.{i}."
QKV = Rows(("n_head", 3, "head_dim"), (1, 0, 2))
OF_20B = ("attention_probs_dropout_prob", "hidden_dropout_prob")  # of other code; nothing reads them
NAMES = {"rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor"}


@dataclass(frozen=True)
class NeoxRope(PartialRope):
    """A partial rope under the names of GPT-NeoX, or in `rope_parameters`."""

    theirs: tuple[str, ...] = (*NAMES, "rope_parameters", "rope_scaling")

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """As `PartialRope`."""
        return super().read({NAMES.get(name, name): value for name, value in theirs.items()})

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """All spellings."""
        found = super().write(ours)
        rest = {name: value for name, value in found.items() if name not in NAMES.values()}
        return {**{name: found[known] for name, known in NAMES.items()}, **rest}


CONFIG = ConfigTable(
    called="GPT-NeoX",
    entries=(
        *model("gpt_neox", "GPTNeoXForCausalLM", "GPTNeoXModel", bos=0, eos=2),
        Choice("use_parallel_residual", "architecture.block_cls", ((True, TWO_NORMS), (False, "sequential"))),
        Ours("embd_layer", ("default",)),
        Ours(HEAD + "head_cls", ("causal_lm",)),
        Ours(HEAD + "use_bias", (False,)),
        *sizes("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", 2048),
        even_heads("hidden_size", "num_attention_heads", rotating=False),
        *mlp("gelu"),
        PLAIN_MLP,
        LAYER_NORM,
        *PLAIN_ATTENTION,
        ATTENTION_DROPOUT,
        Field("hidden_dropout", ("embd_pdrop", "resid_pdrop"), FRACTION, 0.0),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, True),
        eps("layer_norm_eps", 1e-5),
        NeoxRope(0.25),
    ),
    free=frozenset({*OF_20B, "classifier_dropout", "gradient_checkpointing"}),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a GPT-NeoX, by our resolved config."""
    mixer = BLOCK_MIXER.get(ours["architecture.block_cls"], "attn")
    return [
        *norm(BLOCK + "input_layernorm", "layers.{b}.ln_1", ours),
        *norm(BLOCK + "post_attention_layernorm", "layers.{b}.ln_2", ours),
        *linear([BLOCK + "attention.query_key_value"], f"{mixer}.Wqkv", ours[MIXER + "bias"], QKV),
        *linear([BLOCK + "attention.dense"], f"{mixer}.out_proj", ours[MIXER + "out_bias"]),
        *linear([BLOCK + "mlp.dense_h_to_4h"], f"{mlp_of(ours)}.fc1", True),
        *linear([BLOCK + "mlp.dense_4h_to_h"], f"{mlp_of(ours)}.fc2", True),
        *norm("gpt_neox.final_layer_norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "gpt_neox.embed_in.weight", "embed_out"),
    ]


FAMILY = Family(
    name="gptneox",
    title="GPT-NeoX 20B, Pythia and models of their architecture",
    model_types=("gpt_neox",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="gpt_neox.",
    head="embed_out.weight",
    head_names=("lm_head.weight",),
    embedding="gpt_neox.embed_in.weight",
    buffers=(CausalMask(".attention.bias"), *masked_biases(".attention"), Table(".rotary_emb.inv_freq", inv_freq)),
    expresses="MHA; partial rotary of any type; parallel with two norms, or sequential; tied or untied",
    hot=Hot(
        "GPTNeoXConfig",
        LONG_SIZES | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"use_parallel_residual": (True, False), "rope_parameters": ropes(partial_rotary_factor=0.5)},
    ),
)

"""OPT: a GPT-2 with ReLU, q, k and v apart, and positions that are counted from 2.

Source: transformers 5.23 `models/opt`. Of its two rows before the first position, padding reads one. The 350M, whose
norms stand behind the branches and whose embeddings are projected, is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.config.entries import Field, Ours, Theirs
from converters.config.kinds import FRACTION, POSITIVE_INT
from converters.config.layout import dims_of
from converters.config.part_layout import OFFSET
from converters.config.table import ConfigTable
from converters.errors import ConfigRefused
from converters.families.shared.activations import ACTIVATIONS
from converters.families.shared.decoders.one_for_all import BiasEverywhere
from converters.families.shared.dialect_fields import even_heads, sizes
from converters.families.shared.gpt_fields import NO_ROTARY, PLAIN_ATTENTION
from converters.families.shared.transformers_fields import ATTENTION_DROPOUT, LAYER_NORM, MIXER, MLP, NORM, block, model
from converters.families.shared.transformers_rules import QKV, linear, mlp_of, norm, vocabulary
from converters.family import Family, Hot, Rule
from converters.small_models import PLAIN_SIZES

BLOCK = "model.decoder.layers.{i}."


@dataclass(frozen=True)
class Projection:
    """`word_embed_proj_dim`, the width of the embedding: that of the model, or the embedding is projected."""

    theirs: tuple[str, ...] = ("word_embed_proj_dim",)
    ours: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing, if nothing is projected."""
        width, model = theirs.get("word_embed_proj_dim"), theirs["hidden_size"]
        if width not in (None, model):
            raise ConfigRefused(
                f"this model cannot be converted: word_embed_proj_dim is {width!r} and hidden_size {model!r}, so its"
                " embeddings are projected (as those of OPT 350M are), for which MixFormer has no part"
            )
        return {}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The width of the model."""
        return {"word_embed_proj_dim": ours["n_embd"]}


AFTER = "MixFormer has no block with norms behind the sums, as OPT 350M has them"
CONFIG = ConfigTable(
    called="OPT",
    entries=(
        *model("opt", "OPTForCausalLM", "OPTModel", tied=True, bos=2, eos=2, pad=1),
        *block("sequential", OFFSET),
        *sizes("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", 2048),
        even_heads("hidden_size", "num_attention_heads", rotating=False),
        *PLAIN_ATTENTION,
        *NO_ROTARY,
        LAYER_NORM,
        ATTENTION_DROPOUT,
        Projection(),
        BiasEverywhere(("enable_bias",), True),
        Field("ffn_dim", (MLP + "n_inner",), POSITIVE_INT, 3072, also=("n_inner",)),
        Field("activation_function", (MLP + "act_fn",), ACTIVATIONS, "relu", also=("activation_function",)),
        Field("dropout", ("resid_pdrop",), FRACTION, 0.1),
        Ours("embd_pdrop", (0.0,)),
        Ours(NORM + "eps", (1e-5,), also=("layer_norm_epsilon",)),
        Theirs("do_layer_norm_before", (True,), AFTER),
        Theirs("_remove_final_layer_norm", (False,), "save it with transformers' own final norm first", written=False),
        Theirs("layer_norm_elementwise_affine", (True,), "its norms have no weights", written=False),
        Theirs("layerdrop", (0.0,), "MixFormer drops no layers while training", written=False),
    ),
    free=frozenset({"init_std", "activation_dropout", "gradient_checkpointing"}),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of an OPT, by our resolved config."""
    bias = ours[MIXER + "bias"]
    return [
        Rule(("model.decoder.embed_positions.weight",), ("layers.0.wpe.weight",)),
        *norm(BLOCK + "self_attn_layer_norm", "layers.{b}.ln_1", ours),
        *norm(BLOCK + "final_layer_norm", "layers.{b}.ln_2", ours),
        *linear([f"{BLOCK}self_attn.{name}_proj" for name in "qkv"], "attn.Wqkv", bias, QKV),
        *linear([BLOCK + "self_attn.out_proj"], "attn.out_proj", bias),
        *linear([BLOCK + "fc1"], f"{mlp_of(ours)}.fc1", bias),
        *linear([BLOCK + "fc2"], f"{mlp_of(ours)}.fc2", bias),
        *norm("model.decoder.final_layer_norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "model.decoder.embed_tokens.weight", "lm_head"),
    ]


FAMILY = Family(
    name="opt",
    title="OPT (but the 350M), Galactica",
    model_types=("opt",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.decoder.embed_tokens.weight",
    tied=True,
    expresses="MHA; learned positions from row 2 on; any MLP width and activation; biases or none; tied or untied",
    hot=Hot(
        "OPTConfig",
        PLAIN_SIZES | {"ffn_dim": 88},
        {"ffn_dim": (52, 90), "enable_bias": (True, False)},
    ),
)

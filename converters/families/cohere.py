"""Cohere (Command-R): parallel blocks on one LayerNorm without a bias, neighbouring rotary pairs, scaled logits.

Source: transformers 5.23 `models/cohere`. With `use_qk_norm`, each head has norms of its own for queries and keys;
their weights are re-ordered as the rows of q and k are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from converters.algebra.flatten import Flatten
from converters.algebra.views import Each, Then
from converters.config.entries import Field, Ours
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.part_layout import OVER
from converters.config.table import ConfigTable
from converters.families.shared.decoders.one_for_all import HeadNorms
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import halves_of, inv_freq
from converters.families.shared.part_fields import logit_multiplier
from converters.families.shared.refusals import relics
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    GLU,
    LAYER_NORM,
    MIXER,
    NO_DROPOUT,
    NO_WINDOW,
    NORM,
    PLAIN_SCALE,
    SAME_SCALE,
    block,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import LAYER, QKV, llama_body, norm
from converters.family import SAME, Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

PAIRED = Then((Each((halves_of("n_head"), halves_of("n_head_kv"), SAME)), QKV))

CONFIG = ConfigTable(
    called="Cohere",
    entries=(
        *model("cohere", "CohereForCausalLM", "CohereModel", tied=True, bos=5, eos=255001, pad=0),
        *block("parallel"),
        *heads(),
        *mlp("silu"),
        *NO_DROPOUT,
        GLU,
        LAYER_NORM,
        Ours(NORM + "bias", (False,)),
        NO_WINDOW,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(8192),
        eps("layer_norm_eps", 1e-5),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        HeadNorms("use_qk_norm"),
        *relics(pretraining_tp=(1,)),
        logit_multiplier("logit_scale", 0.0625),
        Rope(5e5),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Cohere, by our resolved config."""
    found = [*norm(LAYER + "input_layernorm", "layers.{b}.ln", ours), *llama_body(ours, qkv=PAIRED)]
    return [*found, *_head_norms()] if OVER in ours else found


def _head_norms() -> Iterator[Rule]:
    for name, size in (("q_norm", "n_head"), ("k_norm", "n_head_kv")):
        move = Then((Flatten((size, "head_dim")), halves_of(size)))
        yield Rule((f"{LAYER}self_attn.{name}.weight",), (f"layers.{{b}}.mixer.{name}.weight",), move)


FAMILY = Family(
    name="cohere",
    title="Cohere Command-R and Aya",
    model_types=("cohere",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    tied=True,
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="parallel blocks on one LayerNorm without a bias; norms of each head; logits times a constant",
    hot=Hot(
        "CohereConfig",
        WIDE | {"logit_scale": 0.3, "use_qk_norm": True},
        {"rope_parameters": ROPES, "use_qk_norm": (True, False), "logit_scale": (0.0625, 1.0, 1.7)},
    ),
)

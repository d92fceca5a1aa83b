"""Mixtures of experts: entries and rules that Mixtral, Qwen-MoE and OLMoE share.

In theirs each expert has matrices of its own; ours holds those of all experts as one, expert after expert.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from converters.algebra.moves import Concat
from converters.config.entries import Entry, Field, Ours, Theirs
from converters.config.kinds import BOOL, NOT_NEGATIVE, POSITIVE_INT
from converters.config.moe_layout import (
    ACTIVE,
    EXPERTS,
    JITTER,
    KIND,
    LOSS,
    LOSS_COEF,
    MOE,
    NORM_TOPK,
    SHARED,
    SHARED_GATE,
)
from converters.families.shared.activations import ACTIVATIONS
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    MLP,
    NO_DROPOUT,
    PLAIN_SCALE,
    RMS_NORM,
    SAME_SCALE,
    block,
)
from converters.families.shared.transformers_rules import LAYER, llama_attention, norm, vocabulary
from converters.family import Rule

NO_SHARED = (Ours(SHARED, (None,), written=False), Ours(SHARED_GATE, (False,), written=False))
NO_JITTER = Ours(JITTER, (0.0,), written=False)
TOPK = Field("norm_topk_prob", (NORM_TOPK,), BOOL, False)
GATE_UP_DOWN = ("gate_proj", "up_proj", "down_proj")


def mixture(
    count: str, number: int, active: int, width: str, coef: float, inner: int | None = None
) -> tuple[Entry, ...]:
    """The decoder of a LLaMA with a mixture in the place of its MLP, but for eps, and what the router normalises.

    count, width: fields for the number of experts and the width of one. number, active, coef: defaults of the config
    class for that number, for how many a token uses, and for what the loss of the router is multiplied by. inner: the
    default of `width`, which has to be said without one.
    """
    one, also = (MLP + "n_inner",), ("n_inner",)
    said = Field(width, one, POSITIVE_INT, also=also)
    wide = said if inner is None else replace(said, default=inner)
    other = "num_experts" if count == "num_local_experts" else "num_local_experts"
    return (
        *block("sequential"),
        *NO_DROPOUT,
        RMS_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        Ours(KIND, (MOE,)),
        Field(count, (EXPERTS,), POSITIVE_INT, number, aliases=(other,)),
        Field("num_experts_per_tok", (ACTIVE,), POSITIVE_INT, active),
        wide,
        Field("hidden_act", (MLP + "act_fn",), ACTIVATIONS, "silu", also=("activation_function",)),
        Field("output_router_logits", (LOSS,), BOOL, False),
        Field("router_aux_loss_coef", (LOSS_COEF,), NOT_NEGATIVE, coef),
    )


def every_layer() -> tuple[Entry, ...]:
    """All layers have experts: Qwen's fields for others."""
    words = "only models with experts in every layer are converted"
    return Theirs("decoder_sparse_step", (1,), words), Theirs("mlp_only_layers", ([], None), words)


def mixture_rules(
    ours: Mapping[str, Any], block: str = "mlp.", names: tuple[str, str, str] = GATE_UP_DOWN
) -> Sequence[Rule]:
    """All tensors of such a decoder.

    block: what the keys of the router and the experts begin with, inside a layer. names: of an expert's gate, up, down.
    """
    gate, up, down = names
    experts = [f"{LAYER}{block}experts.{number}." for number in range(ours[EXPERTS])]
    up_gate = tuple(f"{expert}{name}.weight" for expert in experts for name in (up, gate))
    downs = tuple(f"{expert}{down}.weight" for expert in experts)
    return [
        *norm(LAYER + "input_layernorm", "layers.{b}.ln_1", ours),
        *norm(LAYER + "post_attention_layernorm", "layers.{b}.ln_2", ours),
        *llama_attention(ours),
        Rule((f"{LAYER}{block}gate.weight",), ("layers.{b}.mlp.router.weight",)),
        Rule(up_gate, ("layers.{b}.mlp.experts.fc1.weight",), Concat(("n_inner",) * len(up_gate))),
        Rule(downs, ("layers.{b}.mlp.experts.fc2.weight",), Concat(("n_embd",) * len(downs))),
        *norm("model.norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "model.embed_tokens.weight", "lm_head"),
    ]

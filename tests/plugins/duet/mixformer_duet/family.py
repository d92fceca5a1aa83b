"""Duet: made up to show a family with a block of its own, fields under other names, and a reference of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.config import layout
from converters.config.entries import Choice, Field, Ours
from converters.config.kinds import BOOL
from converters.config.layout import BIASED_GLU, dims_of
from converters.config.table import ConfigTable
from converters.families.shared.partial_rope import PartialRope
from converters.families.shared.rope import PARAMETERS
from converters.families.shared.transformers_fields import (
    MIXER,
    MLP,
    NO_DROPOUT,
    NO_QK_NORM,
    NO_WINDOW,
    PLAIN_SCALE,
    RMS_NORM,
    SAME_SCALE,
    block,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import QKV, UP_GATE, linear, norm, vocabulary
from converters.family import Family, Hot, Rule

BLOCK = "mixformer-duet/duet"  # the package, so that a config says what it needs
SCALES = "architecture.branch_scales"  # a keyword of the block
LAYER = "layers.{i}."
NAMES = {"rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor"}


@dataclass(frozen=True)
class DuetRope(PartialRope):
    """What `PartialRope` says, under Duet's own names."""

    theirs: tuple[str, ...] = tuple(NAMES)

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """As `PartialRope`, of the same fields under the names that it knows."""
        return super().read({NAMES.get(name, name): value for name, value in theirs.items()})

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Duet's two fields alone."""
        found = super().write(ours)
        return {name: found[known] for name, known in NAMES.items()}


CONFIG = ConfigTable(
    entries=(
        *model("duet", "DuetForCausalLM", "DuetModel", bos=None, eos=None),
        *block(BLOCK),
        *heads(whole=False),
        *mlp("silu"),
        *NO_DROPOUT,
        RMS_NORM,
        NO_WINDOW,
        NO_QK_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        positions(2048),
        eps("norm_eps", 1e-5),
        DuetRope(0.5),
        Ours(PARAMETERS, (None,), written=False),  # the default rope type alone
        Ours(MIXER + "dropout", (0.0,)),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        Choice("mlp_bias", MLP + "mlp_cls", ((False, "glu"), (True, BIASED_GLU))),
        Choice("branch_scales", SCALES, ((False, False), (True, True))),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Duet, by our resolved config."""
    qkv = [f"{LAYER}self_attn.{name}" for name in ("query", "key", "value")]
    up_gate = [f"{LAYER}mlp.{name}" for name in ("up", "gate")]
    bias, mlp_bias = ours[MIXER + "bias"], ours[MLP + "mlp_cls"] == BIASED_GLU
    scales = {"attention": "attn", "mlp": "mlp"} if ours[SCALES] else {}
    return [
        *norm(LAYER + "input_layernorm", "layers.{b}.ln_1", ours),
        *norm(LAYER + "post_attention_layernorm", "layers.{b}.ln_2", ours),
        *linear(qkv, "attn.Wqkv", bias, QKV),
        *linear([LAYER + "self_attn.output"], "attn.out_proj", bias),
        *linear(up_gate, "mlp.fc1", mlp_bias, UP_GATE),
        *linear([LAYER + "mlp.down"], "mlp.fc2", mlp_bias),
        *(Rule((f"{LAYER}scale.{a}",), (f"layers.{{b}}.branch_scale.{b}",)) for a, b in scales.items()),
        *norm("norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "embed.weight", "lm_head"),
    ]


def tensors(ours: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of ours: those of a sequential block, and the scales."""
    found: dict[str, tuple[int, ...]] = dict(layout.tensors({**ours, "architecture.block_cls": "sequential"}))
    sizes = dims_of(ours)
    for b in range(1, sizes["n_layer"] + 1) if ours[SCALES] else ():
        found |= {f"layers.{b}.branch_scale.{name}": (sizes["n_embd"],) for name in ("attn", "mlp")}
    return found


FAMILY = Family(
    name="duet",
    title="Duet, an example",
    model_types=("duet",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    tensors=tensors,
    head="lm_head.weight",
    expresses="MHA, GQA; partial rotary of the default type; biases; scales of branches; tied or untied",
    hot=Hot(
        "mixformer_duet.reference.DuetConfig",
        sizes={
            "vocab_size": 331,
            "hidden_size": 48,
            "intermediate_size": 88,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 20,
            "max_position_embeddings": 160,
            "attention_bias": True,
            "mlp_bias": True,
        },
        draws={
            "branch_scales": (True, False),
            "rotary_pct": (0.5, 1.0, 0.25, 0.3),
            "rotary_emb_base": (1e4, 5e5),
        },
        refuses={"an odd number of rotating dimensions": "expected an even number"},
        # Both biases are added to one sum.
        harmless=("layers.{b}.attn.out_proj.bias for layers.{b}.mlp.fc2.bias",),
    ),
)

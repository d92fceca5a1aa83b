"""nGPT as its tutorial has it: a bare state dict, and scores that no softmax turns into weights.

Source: the last listing of the nGPT tutorial. Rotary pairs are neighbours there and halves here, so rows of q and k
move, and the entries of their scale with them. A model that was built on a GPU has no learned rates: they are 1. `S_uv`
is stored there and used nowhere; it is carried.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.moves import Fill
from converters.algebra.views import Each, Then
from converters.config.entries import Ours, Written
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.table import ConfigTable, residue_of
from converters.families.shared.inv_freq import halves_of
from converters.families.shared.ngpt_fields import (
    ATTN_ALPHA,
    BLOCK,
    MLP_ALPHA,
    QK_SCALE,
    RESIDUAL,
    UV_SCALE,
    Idle,
    ngpt,
    normalised,
    scale,
    told_sizes,
)
from converters.families.shared.transformers_fields import MIXER, MLP, NORM, biases
from converters.families.shared.transformers_rules import QKV, linear, vocabulary
from converters.family import SAME, Family, Rule, Sample

NAME, RATES = "ngpt-tutorial", "learned_rates"
LAYER, EMBEDDING = "decoders.{i}.", "embedding_layer.weight"
HALVES = halves_of("n_head")
ONE = 0x3F800000  # 1.0 in float32

CONFIG = ConfigTable(
    entries=(
        *ngpt(NAME, formula="pow", head_bias=True),
        Ours(BLOCK, ("ngpt",)),
        *normalised(),
        *biases(False, False),
        Ours(MLP + "bias", (False,)),
        Ours(RESIDUAL, ("add",)),
        Ours(MIXER + "attn_fn", ("masked_linear",)),
        Ours(MIXER + "masked_score", (-1e8,)),
        *(entry for path in (ATTN_ALPHA, MLP_ALPHA, QK_SCALE, UV_SCALE) for entry in scale(path, 1.0, 1.0)),
        Ours(f"{UV_SCALE}.used", (False,)),
        Ours(NORM + "eps", (None,), written=False),
        Written("n_positions", 2048),
        Idle(RATES, BOOL, True),
    ),
    free=frozenset({"user_said"}),
    called="the tutorial's nGPT",
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a tutorial's nGPT, by our resolved config."""
    rates = residue_of(ours, NAME).get("fields", {}).get(RATES, True)
    qkv = Then((Each((HALVES, HALVES, SAME)), QKV))
    return [
        *linear([f"{LAYER}atten.{name}" for name in "qkv"], "attn.Wqkv", False, qkv),
        *linear([LAYER + "atten.o"], "attn.out_proj", False),
        Rule((LAYER + "atten.S_qk",), ("layers.{b}.attn.qk_scale.weight",), HALVES),
        *linear([LAYER + "mlp.fc1"], "mlp.fc1", False),
        *linear([LAYER + "mlp.fc2"], "mlp.fc2", False),
        Rule((LAYER + "mlp.S_uv",), ("layers.{b}.mlp.uv_scale.weight",)),
        *(_rate(theirs, mine, stored=rates) for theirs, mine in (("lr_atten", "attn_alpha"), ("lr_mlp", "mlp_alpha"))),
        *vocabulary(ours, EMBEDDING, "outlayer", bias=True),
    ]


def _rate(theirs: str, ours: str, *, stored: bool) -> Rule:
    """A learned rate, or the ones that stand for it."""
    key = (f"layers.{{b}}.{ours}.weight",)
    return Rule((LAYER + theirs,), key) if stored else Rule((), key, Fill(("n_embd",), "F32", ONE))


def told(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any] | None:
    """The config that a state dict of this dialect says; None for another."""
    sizes = told_sizes(shapes, "decoders.", ("atten.S_qk", "atten.q.weight", "mlp.S_uv"), EMBEDDING)
    rates = any(key.endswith((".lr_atten", ".lr_mlp")) for key in shapes)
    return sizes and {"model_type": NAME, **sizes, RATES: rates}


FAMILY = Family(
    name=NAME,
    title="nGPT of the tutorial: a state dict, attention without a softmax",
    model_types=(NAME,),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    head="outlayer.weight",
    expresses="MHA; with and without learned rates; head bias; untied; written back with --format native",
    dialect_of="ngpt",
    told=told,
    unstored=frozenset({RATES}),
    outputs=(".atten.o.weight", ".mlp.fc2.weight"),
    sample=Sample(
        config={"model_type": NAME, "vocab_size": 259, "n_embd": 48, "n_layer": 3, "n_head": 8, RATES: True}
        | {"dtype": "float32"},
        reach={"S_qk": (0.7, 1.3), "S_uv": (0.7, 1.3), "lr_atten": (0.28, 0.52), "lr_mlp": (0.28, 0.52)},
        signed=("lr_atten", "lr_mlp"),
    ),
)

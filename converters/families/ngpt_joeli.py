"""nGPT in the style of Hugging Face, as JoeLi12345/nGPT has it and NousResearch published its models.

Source: `modeling_ngpt.py` of that repository. Learned positions are added and heads turn as well; scores are divided by
sqrt(head_dim), although the code asks for the reverse. The head is `lm_head_2`; `lm_head` is the embedding again and
does nothing. Matrices are stored as `Conv1D`, (inputs, outputs). Rotary pairs are neighbours there and halves here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.moves import Split, Tie, Transpose
from converters.algebra.views import Each, Then
from converters.config.entries import Field, Ours, Theirs
from converters.config.kinds import FRACTION, NOT_NEGATIVE, POSITIVE, POSITIVE_INT
from converters.config.layout import dims_of
from converters.config.table import ConfigTable, residue_of
from converters.families.shared.dialect_fields import even_heads
from converters.families.shared.inv_freq import halves_of
from converters.families.shared.ngpt_fields import (
    ATTN_ALPHA,
    LOGIT_SCALE,
    MLP_ALPHA,
    QK_SCALE,
    Idle,
    WholePairs,
    interpolated,
    normalised,
    plain_parts,
    told_sizes,
)
from converters.families.shared.transformers_fields import MIXER, MLP, PLAIN_SCALE, model
from converters.families.shared.transformers_rules import QKV, UP_GATE, VOCAB, linear
from converters.family import SAME, Family, Rule, Sample
from converters.plan.heads import TIE

NAME, CLASS = "ngpt-joeli", "NgptLMHeadModel"
LAYER, EMBEDDING = "transformer.h.{i}.", "transformer.wte.weight"
OWN = ("attn.sqk", "attn.c_attn.weight", "mlp.su")
INITS = {ATTN_ALPHA: 0.05, MLP_ALPHA: 0.05, QK_SCALE: 1.0, LOGIT_SCALE: 1.0}  # divided by base_scale
PARTS, HALVES = Split(("q_rows", "kv_rows", "kv_rows")), halves_of("n_head")
TO_HALVES = Then((PARTS, Each((HALVES, HALVES, SAME)), QKV))
SETTINGS = model("ngpt", CLASS, "NgptModel", bos=50256, eos=50256)

CONFIG = ConfigTable(
    entries=(
        *(entry for entry in SETTINGS if entry.theirs != (TIE,)),
        Ours(TIE, (False,)),
        Theirs(TIE, (True, False), written=False),  # of lm_head, which does nothing
        *plain_parts("positional"),
        *normalised(PLAIN_SCALE),
        *interpolated(INITS, bias=True),
        Field("n_positions", ("n_positions",), POSITIVE_INT, 1024),
        Field("n_embd", ("n_embd",), POSITIVE_INT, 768),
        Field("n_layer", ("n_layer",), POSITIVE_INT, 12),
        Field(
            "n_head",
            (MIXER + "n_head", MIXER + "n_head_kv"),
            POSITIVE_INT,
            12,
            also=("n_head", "n_head_kv"),
            unwritten=(MIXER + "n_head",),
        ),
        Field(
            "n_inner",
            (MLP + "n_inner",),
            POSITIVE_INT,
            lambda theirs: 8 * theirs["n_embd"] // 3,
            True,
            also=("n_inner",),
        ),
        even_heads("n_embd", "n_head", rotating=True),
        WholePairs(),
        Ours(MIXER + "rotary_base", (10000.0,)),
        Field(
            "base_scale", tuple(f"{path}.scaling" for path in INITS), POSITIVE, lambda theirs: theirs["n_embd"] ** -0.5
        ),
        *(Theirs(name, ("silu",), written=False) for name in ("activation", "activation_function")),
        *(Idle(name, FRACTION, 0.0) for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")),
        Idle("layer_norm_epsilon", NOT_NEGATIVE, 1e-5),
    ),
    free=frozenset({"user_said", "gradient_checkpointing"}),
    called="the nGPT of JoeLi12345",
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of such an nGPT, by our resolved config."""
    c_attn, attn_bias = linear([LAYER + "attn.c_attn"], "attn.Wqkv", True)
    stored = residue_of(ours, NAME).get("copies")
    embedding = (EMBEDDING, "lm_head.weight") if stored else (EMBEDDING,)
    return [
        Rule(c_attn.theirs, c_attn.ours, Then((Transpose(), TO_HALVES))),
        Rule(attn_bias.theirs, attn_bias.ours, TO_HALVES),
        *(rule for name, own in MATRICES.items() for rule in _conv(name, own)),
        Rule((LAYER + "attn.sqk",), ("layers.{b}.attn.qk_scale.weight",), HALVES),
        Rule((LAYER + "mlp.su", LAYER + "mlp.sv"), ("layers.{b}.mlp.uv_scale.weight",), UP_GATE),
        *(Rule((LAYER + name,), (f"layers.{{b}}.{name}.weight",)) for name in ("attn_alpha", "mlp_alpha")),
        Rule(embedding, ("layers.0.wte.weight",), Then((Tie(), VOCAB)) if stored else VOCAB),
        Rule(("transformer.wpe.weight",), ("layers.0.wpe.weight",)),
        Rule(("lm_head_2.weight",), ("layers.{h}.linear.weight",), VOCAB),
        Rule(("sz",), ("layers.{h}.logit_scale.weight",), VOCAB),
    ]


MATRICES = {"attn.c_proj": "attn.out_proj", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}


def _conv(theirs: str, ours: str) -> list[Rule]:
    weight, bias = linear([LAYER + theirs], ours, True)
    return [Rule(weight.theirs, weight.ours, Transpose()), bias]


def told(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any] | None:
    """The config that a state dict of this dialect says, which lacks the number of heads; None for another."""
    sizes = told_sizes(shapes, "transformer.h.", OWN, EMBEDDING)
    if sizes is None or not any(key.endswith(OWN[0]) for key in shapes):
        return None
    positions, inner = (shapes.get(key, (0,))[0] for key in ("transformer.wpe.weight", "transformer.h.0.mlp.su"))
    return {"model_type": "ngpt", "architectures": [CLASS], **sizes, "n_positions": positions, "n_inner": inner}


FAMILY = Family(
    name=NAME,
    title="nGPT of JoeLi12345/nGPT and NousResearch: a folder of transformers",
    model_types=("ngpt",),
    classes=(CLASS,),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    head="lm_head_2.weight",
    own_head=True,
    copies={"lm_head.weight": EMBEDDING},
    expresses="MHA; learned and rotary positions; biases; any n_inner and base_scale; untied",
    dialect_of="ngpt",
    told=told,
    outputs=(".attn.c_attn.weight", ".mlp.c_fc.weight"),
    sample=Sample(
        config={"model_type": "ngpt", "architectures": [CLASS], "vocab_size": 259, "n_positions": 512, "n_embd": 48}
        | {"n_layer": 3, "n_head": 8, "n_inner": 128, "base_scale": 0.125, "dtype": "float32"},
        reach={
            "su": (0.7, 1.3),
            "sv": (0.7, 1.3),
            "alpha": (0.7, 1.3),
            "sqk": (0.0875, 0.1625),
            "sz": (0.0875, 0.1625),
        },
        signed=("alpha",),
    ),
)

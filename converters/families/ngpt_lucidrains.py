"""nGPT of lucidrains/nGPT-pytorch 0.2: a state dict of `nGPT`.

Source: `nGPT_pytorch/nGPT.py` of 0.2.16. Matrices are divided by the lengths of their rows, or columns, when they are
used, unless the model was built with `manual_norm_weights`; their stored values are carried as they are. Rotary pairs
are neighbours there and halves here. Whether later layers take the values of the first is in no tensor: a user says it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.views import Each, Then
from converters.config.entries import Field, Ours, Theirs, Written
from converters.config.kinds import POSITIVE_INT
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.errors import ConfigRefused
from converters.families.shared.dialect_fields import IDS, TIE, Unsaid, dialect
from converters.families.shared.inv_freq import halves_of, inv_freq
from converters.families.shared.ngpt_fields import (
    ATTN_ALPHA,
    LOGIT_SCALE,
    MLP_ALPHA,
    ONE_OVER_LAYERS,
    QK_SCALE,
    SIGNED,
    STREAM_AS_IT_IS,
    Switch,
    interpolated,
    inverse_root,
    normalised,
    plain_parts,
    root_of,
    told_sizes,
)
from converters.families.shared.transformers_fields import HEAD, MIXER, MLP, NORM
from converters.families.shared.transformers_rules import QKV, UP_GATE, VOCAB
from converters.family import SAME, Family, Rule, Sample
from converters.plan.known_buffers import Table

NAME, FREQUENCIES = "ngpt-lucidrains", "rotary_embed.freqs"
ENDS = {True: "parametrizations.weight.original", False: "weight"}  # of matrices, by whether they are parametrised
ATTN, FEED = "layers.{i}.0.", "layers.{i}.1."
UNIT = (*((f"{part}unit_weights", True, None) for part in (MIXER, MLP, HEAD)), ("embd_layer", "unit", "default"))
HALVES = halves_of("n_head")
ROOT_OF_HEAD = root_of(MIXER + "softmax_scale", (("head_dim", MIXER + "head_dim"),), int, "head_dim")

CONFIG = ConfigTable(
    entries=(
        *dialect(NAME),
        *plain_parts(None),
        *normalised(ROOT_OF_HEAD),
        *interpolated({QK_SCALE: 1.0, LOGIT_SCALE: 1.0}),
        Field("n_embd", ("n_embd",), POSITIVE_INT),
        Field("n_layer", ("n_layer",), POSITIVE_INT),
        Field(
            "n_head",
            (MIXER + "n_head", MIXER + "n_head_kv"),
            POSITIVE_INT,
            also=("n_head", "n_head_kv"),
            unwritten=(MIXER + "n_head",),
        ),
        Field("head_dim", (MIXER + "head_dim", MIXER + "rotary_dim"), POSITIVE_INT, also=("rotary_dim",)),
        Field("n_inner", (MLP + "n_inner",), POSITIVE_INT, also=("n_inner",)),
        Switch("parametrized", UNIT, needed=True),
        Switch("value_residual", ((MIXER + "value_residual", True, None),), needed=True),
        Ours(MIXER + "qk_scaled", ("q",)),
        Ours(MIXER + "rotary_base", (10000.0,)),
        inverse_root(f"{path}.scaling" for path in (ATTN_ALPHA, MLP_ALPHA, LOGIT_SCALE)),
        inverse_root((f"{QK_SCALE}.scaling",), power=1.0),
        ONE_OVER_LAYERS,
        SIGNED,
        STREAM_AS_IT_IS,
        Ours(NORM + "eps", (1e-12,)),
        TIE,
        Theirs("num_hyperspheres", (1,), "norms of groups have no counterpart", written=False),
        Theirs("norm_eps", (0.0,), "lengths about 1 have no counterpart", written=False),
        Theirs("attn_norm_qk", (True,), "heads of any length have no counterpart", written=False),
        Written("n_positions", 2048),
        Unsaid(IDS),
    ),
    free=frozenset({"user_said"}),
    called="the nGPT of lucidrains",
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of such an nGPT, by our resolved config."""
    end = f"linear.{ENDS[ours.get(MIXER + 'unit_weights') is True]}"
    qkv = Then((Each((HALVES, HALVES, SAME)), QKV))
    head = [] if ours["tie_word_embeddings"] else [Rule((f"to_logits.{end}",), ("layers.{h}.linear.weight",), VOCAB)]
    scales = (f"{FEED}fn.hidden_scale.scale", f"{FEED}fn.gate_scale.scale")
    return [
        Rule(tuple(f"{ATTN}fn.to_{name}.{end}" for name in "qkv"), ("layers.{b}.attn.Wqkv.weight",), qkv),
        Rule((f"{ATTN}fn.to_out.{end}",), ("layers.{b}.attn.out_proj.weight",)),
        Rule((f"{ATTN}fn.qk_scale.scale",), ("layers.{b}.attn.qk_scale.weight",), HALVES),
        Rule((f"{FEED}fn.to_hidden.{end}", f"{FEED}fn.to_gate.{end}"), ("layers.{b}.mlp.fc1.weight",), UP_GATE),
        Rule((f"{FEED}fn.to_out.{end}",), ("layers.{b}.mlp.fc2.weight",)),
        Rule(scales, ("layers.{b}.mlp.uv_scale.weight",), UP_GATE),
        Rule((f"{ATTN}branch_scale.scale",), ("layers.{b}.attn_alpha.weight",)),
        Rule((f"{FEED}branch_scale.scale",), ("layers.{b}.mlp_alpha.weight",)),
        Rule((f"token_embed.{end}",), ("layers.0.wte.weight",), VOCAB),
        *head,
        Rule(("logit_scale.scale",), ("layers.{h}.logit_scale.weight",), VOCAB),
    ]


def told(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any] | None:
    """The config that a state dict says, without `value_residual`; None for another dialect.

    Raises:
        ConfigRefused: it is of an older version, or lacks what says the sizes.
    """
    if any(key.endswith(".fn.q_scale.scale") for key in shapes):
        raise ConfigRefused("this is an nGPT of nGPT-pytorch before 0.2, whose attention is another; 0.2 is converted")
    said = "token_embed.linear." + ENDS[True] in shapes
    query, hidden = (f"fn.{name}.linear.{ENDS[said]}" for name in ("to_q", "to_hidden"))
    sizes = told_sizes(shapes, "layers.", (f"0.{query}", "0.fn.qk_scale.scale"), f"token_embed.linear.{ENDS[said]}")
    if sizes is None:
        return None
    if not all(shapes.get(key) for key in (FREQUENCIES, f"layers.0.0.{query}", f"layers.0.1.{hidden}")):
        raise ConfigRefused(f"{FREQUENCIES} or layer 0 is missing, whose shapes say the sizes of an nGPT of lucidrains")
    head_dim = 2 * shapes[FREQUENCIES][0]
    heads = {"n_head": shapes[f"layers.0.0.{query}"][0] // (head_dim or 1), "head_dim": head_dim}
    tied = not any(key.startswith("to_logits.") for key in shapes)
    inner, unsaid = shapes[f"layers.0.1.{hidden}"][0], {"tie_word_embeddings": tied, "value_residual": None}
    return {"model_type": NAME, **sizes, **heads, "n_inner": inner, "parametrized": said, **unsaid}


FAMILY = Family(
    name=NAME,
    title="nGPT of lucidrains: a state dict of nGPT-pytorch 0.2",
    model_types=(NAME,),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    own_head=True,
    expresses="MHA; any head_dim; first values in later layers; parametrised matrices; tied or untied",
    dialect_of="ngpt",
    told=told,
    buffers=(Table(FREQUENCIES, inv_freq),),
    outputs=tuple(f".to_out.linear.{end}" for end in ENDS.values()),
    sample=Sample(
        config={"model_type": NAME, "vocab_size": 259, "n_embd": 48, "n_layer": 3, "n_head": 4, "head_dim": 16}
        | {"n_inner": 128, "parametrized": True, "value_residual": True, "dtype": "float32"},
        reach={"qk_scale.scale": (0.015, 0.027), "logit_scale.scale": (0.1, 0.19), "branch_scale.scale": (0.12, 0.23)}
        | {"hidden_scale.scale": (0.7, 1.3), "gate_scale.scale": (0.7, 1.3)},
        signed=("branch_scale.scale",),
    ),
)

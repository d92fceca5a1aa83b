"""nGPT of alxndrTL/modded-nanogpt: the state_step*.pt of `train_ngpt2.py`.

Heads are normalised and scaled before they turn, with one vector for all heads, and turn the other way: that is the
usual turn with the two halves of each head exchanged. The tables of the turn are rounded to bfloat16. A model that was
built with another `mup_width_mult` than 1 divides the stream before the head, which no tensor shows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.views import Each, Then
from converters.config.entries import Ours, Theirs
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.dialect_fields import dialect
from converters.families.shared.inv_freq import SWAPPED, SWAPPED_IN_ONE
from converters.families.shared.ngpt_fields import (
    ATTN_ALPHA,
    LOGIT_SCALE,
    MLP_ALPHA,
    ONE_OVER_LAYERS,
    OWN_HEAD,
    QK_SCALE,
    STREAM_AS_IT_IS,
    WHOLE_HEADS,
    flat_sizes,
    interpolated,
    inverse_root,
    normalised,
    plain_parts,
    told_sizes,
)
from converters.families.shared.transformers_fields import MIXER, NORM
from converters.families.shared.transformers_rules import QKV, UP_GATE, VOCAB, linear, vocabulary
from converters.family import SAME, Family, Rule, Sample

NAME = "ngpt-modded-nanogpt"
LAYER, EMBEDDING = "transformer.h.{i}.", "transformer.wte.weight"
OWN = ("attn.qk_scaler.scale", "attn.c_q.weight", "mlp.u_scaler.scale")
SCALES = (ATTN_ALPHA, MLP_ALPHA, QK_SCALE, LOGIT_SCALE)

CONFIG = ConfigTable(
    entries=(
        *dialect(NAME),
        *plain_parts(),
        *normalised(),
        *interpolated({QK_SCALE: 1.0, LOGIT_SCALE: 1.0}),
        *flat_sizes(),
        *WHOLE_HEADS,
        *OWN_HEAD,
        STREAM_AS_IT_IS,
        ONE_OVER_LAYERS,
        inverse_root(f"{path}.scaling" for path in SCALES),
        Ours(NORM + "eps", (1e-12,)),
        Ours(MIXER + "rotary_table", ("bfloat16",)),
        Ours(MIXER + "qk_scaled", ("heads",)),
        Ours(MIXER + "qk_order", ("rotary_last",)),
        Theirs("mup_width_mult", (1,), "the stream would be divided before the head", written=False),
    ),
    free=frozenset({"step", "user_said"}),
    called="the nGPT of modded-nanogpt",
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of such an nGPT, by our resolved config."""
    qkv = Then((Each((SWAPPED, SWAPPED, SAME)), QKV))
    return [
        *linear([f"{LAYER}attn.c_{name}" for name in "qkv"], "attn.Wqkv", False, qkv),
        *linear([LAYER + "attn.c_proj"], "attn.out_proj", False),
        Rule((LAYER + "attn.qk_scaler.scale",), ("layers.{b}.attn.qk_scale.weight",), SWAPPED_IN_ONE),
        *linear([LAYER + "mlp.c_fc", LAYER + "mlp.c_fc2"], "mlp.fc1", False, UP_GATE),
        *linear([LAYER + "mlp.c_proj"], "mlp.fc2", False),
        Rule(
            (LAYER + "mlp.u_scaler.scale", LAYER + "mlp.v_scaler.scale"), ("layers.{b}.mlp.uv_scale.weight",), UP_GATE
        ),
        *(Rule((f"{LAYER}{n}_scaler.scale",), (f"layers.{{b}}.{n}_alpha.weight",)) for n in ("attn", "mlp")),
        Rule(("logits_scaler.scale",), ("layers.{h}.logit_scale.weight",), VOCAB),
        *vocabulary(ours, EMBEDDING, "lm_head"),
    ]


def told(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any] | None:
    """The config that a state dict of this dialect says; None for another."""
    sizes = told_sizes(shapes, "transformer.h.", OWN, EMBEDDING)
    if sizes is None or not any(key.endswith(OWN[0]) for key in shapes):
        return None
    first = LAYER.format(i=0)
    head_dim, inner = (shapes.get(f"{first}{name}", (0,))[0] for name in (OWN[0], OWN[2]))
    return {"model_type": NAME, **sizes, "n_head": sizes["n_embd"] // (head_dim or 1), "n_inner": inner}


FAMILY = Family(
    name=NAME,
    title="nGPT of alxndrTL/modded-nanogpt: state_step*.pt",
    model_types=(NAME,),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    head="lm_head.weight",
    expresses="MHA; any n_inner; untied; written back with --format native",
    dialect_of="ngpt",
    told=told,
    outputs=(".attn.c_proj.weight", ".mlp.c_proj.weight"),
    sample=Sample(
        config={"model_type": NAME, "vocab_size": 259, "n_embd": 48, "n_layer": 3, "n_head": 8, "n_inner": 128}
        | {"dtype": "float32"},
        reach={"qk_scaler.scale": (0.1, 0.19), "logits_scaler.scale": (0.1, 0.19)}
        | {"u_scaler.scale": (0.7, 1.3), "v_scaler.scale": (0.7, 1.3)}
        | {"attn_scaler.scale": (0.12, 0.23), "mlp_scaler.scale": (0.12, 0.23)},
        signed=("attn_scaler.scale", "mlp_scaler.scale"),
    ),
)

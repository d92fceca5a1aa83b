"""nGPT as NVIDIA publishes it: the ckpt.pt of its train.py, of a normalised transformer or of the plain one beside it.

Source: NVIDIA/ngpt at ed19eb2, `model.py` and `train.py`. What it calls a rotary embedding is no rotation, and is kept:
ours has it as a style of its own, so no row moves. Matrices of a layer are bfloat16, all else is float32.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Choice, Field, Ours, Written
from converters.config.kinds import BOOL, FRACTION, POSITIVE, POSITIVE_INT
from converters.config.layout import BIASED_GLU, dims_of
from converters.config.table import ConfigTable
from converters.families.shared.ngpt_fields import (
    ATTN_ALPHA,
    BLOCK,
    LOGIT_SCALE,
    MLP_ALPHA,
    QK_SCALE,
    RESIDUAL,
    ROOT_OF_WIDTH,
    UV_SCALE,
    Either,
    Idle,
    ngpt,
    normalised,
    told_sizes,
)
from converters.families.shared.transformers_fields import MIXER, MLP, NORM, PLAIN_SCALE, RMS_NORM
from converters.families.shared.transformers_rules import QKV, VOCAB, linear, vocabulary
from converters.family import SAME, Family, Rule, Sample

NAME, BIAS = "ngpt-nvidia", (MIXER + "bias", MIXER + "out_bias")
LAYER, EMBEDDING = "transformer.h.{i}.", "transformer.wte.weight"
OWN = ("query.weight", "att_c_proj.weight", "sqk", "suv")
INITS = {ATTN_ALPHA: 0.05, MLP_ALPHA: 0.05, QK_SCALE: 1.0, LOGIT_SCALE: 1.0}  # divided by base_scale
SCALES = {
    LAYER + "sqk": "layers.{b}.attn.qk_scale",
    LAYER + "suv": "layers.{b}.mlp.uv_scale",
    LAYER + "attn_alpha": "layers.{b}.attn_alpha",
    LAYER + "mlp_alpha": "layers.{b}.mlp_alpha",
    "sz": "layers.{h}.logit_scale",
}
NORMS = {
    LAYER + "rmsnorm_att.weight": "layers.{b}.ln_1",
    LAYER + "rmsnorm_mlp.weight": "layers.{b}.ln_2",
    "rmsnorm_f.weight": "layers.{h}.ln",
}

NORMALISED = (
    *normalised(),
    Ours(RESIDUAL, ("lerp",)),
    *(Ours(f"{path}.init", (init,)) for path, init in INITS.items()),
    Field("base_scale", tuple(f"{path}.scaling" for path in INITS), POSITIVE),
    ROOT_OF_WIDTH,
    Ours(f"{UV_SCALE}.scaling", (1.0,)),
    Field("bias", (*BIAS, MLP + "bias"), BOOL, False),
)
PLAIN = (
    RMS_NORM,
    Ours(NORM + "eps", (1e-6,)),
    Written("layer_norm_epsilon", 1e-6),
    PLAIN_SCALE,
    Idle("base_scale", POSITIVE, 0.02),
    Field("bias", BIAS, BOOL, False),
    Choice("bias", MLP + "mlp_cls", ((False, "glu"), (True, BIASED_GLU))),
)
CONFIG = ConfigTable(
    entries=(
        *ngpt(NAME, formula="exp", head_bias=False),
        Ours(MIXER + "rotary_style", ("ngpt_nvidia",)),
        Either("use_nGPT", BLOCK, ((1, "ngpt", NORMALISED), (0, "sequential", PLAIN))),
        Field("block_size", ("n_positions",), POSITIVE_INT, 1024),
        Idle("dropout", FRACTION, 0.0),
    ),
    free=frozenset({"iter_num", "user_said"}),
    called="NVIDIA's nGPT",
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of an nGPT of NVIDIA, by our resolved config."""
    bias, vectors = bool(ours[MIXER + "bias"]), SCALES if ours[BLOCK] == "ngpt" else NORMS
    return [
        *linear([LAYER + name for name in ("query", "key", "value")], "attn.Wqkv", bias, QKV),
        *linear([LAYER + "att_c_proj"], "attn.out_proj", bias),
        *linear([LAYER + "c_fc"], "mlp.fc1", bias),
        *linear([LAYER + "mlp_c_proj"], "mlp.fc2", bias),
        *(Rule((key,), (f"{own}.weight",), VOCAB if key == "sz" else SAME) for key, own in vectors.items()),
        *vocabulary(ours, EMBEDDING, "lm_head"),
    ]


def told(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any] | None:
    """The config that a state dict of this dialect says, which lacks base_scale; None for another."""
    sizes, bias = told_sizes(shapes, "transformer.h.", OWN, EMBEDDING), any(key.endswith(".bias") for key in shapes)
    return sizes and {"model_type": NAME, **sizes, "use_nGPT": int("sz" in shapes), "bias": bias}


FAMILY = Family(
    name=NAME,
    title="nGPT of NVIDIA/ngpt: ckpt.pt, with use_nGPT 1 or 0",
    model_types=(NAME,),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    head="lm_head.weight",
    expresses="MHA; use_nGPT 1 and 0; with or without biases; untied; written back with --format native",
    dialect_of="ngpt",
    told=told,
    outputs=(".att_c_proj.weight", ".mlp_c_proj.weight"),
    sample=Sample(
        config={"model_type": NAME, "use_nGPT": 1, "n_layer": 3, "n_head": 8, "n_embd": 48, "block_size": 512}
        | {"base_scale": 0.125, "bias": False, "vocab_size": 259, "dropout": 0.0, "dtype": "float32"},
        reach={"suv": (0.7, 1.3), "alpha": (0.7, 1.3), "sqk": (0.0875, 0.1625), "sz": (0.0875, 0.1625)},
        signed=("alpha",),
        bfloat16=tuple(f"{n}.weight" for n in ("query", "key", "value", "att_c_proj", "c_fc", "mlp_c_proj")),
    ),
)

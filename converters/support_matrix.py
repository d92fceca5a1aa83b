"""The support matrix: which variants each family can hold, found by asking the families.

For each family the first plain MixFormer is taken that it can hold, or its small model in plain sizes. A variant is
supported if that model with the variant can be converted to the family's config and back without a change.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from converters.config.layout import BIASED_GLU, SOURCE_VOCAB, resolve, unflatten
from converters.config.list_architecture import WINDOW, PerLayer, as_list
from converters.config.moe_layout import ACTIVE, EXPERTS, MOE, NORM_TOPK, SHARED, SHARED_GATE
from converters.config.ngpt_layout import NEUTRAL as NEUTRAL_OF_NGPT
from converters.config.part_layout import (
    ALIBI_FORMULA,
    BLOCK,
    CLIP,
    EMBD_SCALE,
    LOGIT_MULTIPLIER,
    LOGIT_SOFTCAP,
    NORMED,
    NORMS,
    OFFSET,
    OVER,
    RESIDUAL_SCALE,
    UNBIASED_MLP,
)
from converters.config.part_layout import (
    NEUTRAL as NEUTRAL_OF_PARTS,
)
from converters.errors import ConfigRefused
from converters.families.shared.transformers_fields import HEAD, MIXER, MLP, NORM
from converters.family import Family, list_families, umbrellas
from converters.small_models import Hot

Flat = Mapping[str, Any]
PLAIN: Flat = {
    "vocab_size": 64,
    "n_positions": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "pad_vocab_size_multiple": 1,
    "architecture.block_cls": "sequential",
    MIXER + "mixer_cls": "mha",
    NORM + "norm_cls": "rms",
    NORM + "eps": 1e-5,
    "layer_norm_epsilon": 1e-5,
    MLP + "n_inner": 64,
    HEAD + "head_cls": "causal_lm",
}
BODIES: tuple[tuple[Flat, ...], ...] = (
    tuple({"architecture.block_cls": kind} for kind in ("sequential", "parallel", "parallel_two_norms")),
    ({NORM + "norm_cls": "rms"}, {NORM + "norm_cls": "torch"}),
    ({MLP + "mlp_cls": "glu", MLP + "act_fn": "silu"}, {MLP + "mlp_cls": "mlp", MLP + "act_fn": "gelu_new"}),
    ({"embd_layer": "default", MIXER + "rotary_dim": 8}, {"embd_layer": "positional", MIXER + "rotary_dim": 0}),
    tuple({MIXER + "bias": qkv, MIXER + "out_bias": out} for qkv, out in ((False, False), (True, False), (True, True))),
    ({HEAD + "use_bias": False}, {HEAD + "use_bias": True}),
    ({}, {MIXER + "qk_norm": True}),
)
# Sizes of the small models of families, by the names that most of them have; what is said for each layer is left out.
PLAIN_SIZES: Mapping[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
NEUTRAL = {**NEUTRAL_OF_NGPT, **NEUTRAL_OF_PARTS}
ROPE = MIXER + "rope_parameters"
FACTORS = {"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [1.0, 2.0, 4.0, 8.0]}
BANDS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}


def _rope(kind: str, **parameters: Any) -> Flat:
    return {MIXER + "rotary_base": 1e4, ROPE: {"rope_type": kind, "rope_theta": 1e4, **parameters}}


COLUMNS: dict[str, dict[str, Flat]] = {
    "attention heads": {
        "fewer key-value heads": {MIXER + "n_head_kv": 2},
        "head_dim apart from n_embd / n_head": {MIXER + "head_dim": 10, MIXER + "rotary_dim": 10},
        "normalised q and k": {MIXER + "qk_norm": True},
        "norms over all of q and k": {MIXER + "qk_norm": True, OVER: "width"},
        "norms of each head": {MIXER + "qk_norm": True, OVER: "each_head"},
        "plain q and k": {MIXER + "qk_norm": False, MIXER + "qk_l2_norm": False},
        "q and k of length 1 over all heads": {MIXER + "qk_l2_span": "full"},
        "a learned scale on q alone": {MIXER + "qk_scaled": "q"},
        "one learned scale for all heads": {MIXER + "qk_scaled": "heads"},
        "first values in later layers": {MIXER + "value_residual": True},
        "q and k of length 1, with a learned scale": {MIXER + "qk_l2_norm": True, MIXER + "qk_scale.init": 1.0},
    },
    "positions": {
        "learned positions, no rotary": {"embd_layer": "positional", MIXER + "rotary_dim": 0},
        "part of a head rotates": {MIXER + "rotary_dim": 4},
        "another theta": {MIXER + "rotary_base": 5e5, ROPE: None},
        "rope linear or dynamic": _rope("dynamic", factor=2.0),
        "rope yarn or llama3": _rope("llama3", factor=4.0, **BANDS),
        "positions from row 2 on": {"embd_layer": OFFSET, MIXER + "rotary_dim": 0},
        "ALiBi of BLOOM": {MIXER + "use_alibi": True, ALIBI_FORMULA: "bloom", MIXER + "rotary_dim": 0},
        "ALiBi of MPT": {MIXER + "use_alibi": True, ALIBI_FORMULA: "mpt", MIXER + "rotary_dim": 0},
        "layers without positions": {MIXER + "rotary_dim": PerLayer((8, 0))},
        "learned and rotary positions": {"embd_layer": "positional", MIXER + "qk_l2_norm": True},
        "rotary after norm and scale": {MIXER + "qk_order": "rotary_last"},
        "rotary tables in bfloat16": {MIXER + "rotary_table": "bfloat16"},
        "NVIDIA's odd turn": {MIXER + "rotary_style": "ngpt_nvidia"},
        "longrope": _rope("longrope", **FACTORS, original_max_position_embeddings=32),
    },
    "scores": {
        "a window": {MIXER + WINDOW: "(15, 0)"},
        "a window on some layers": {MIXER + WINDOW: PerLayer((None, "(15, 0)"))},
        "unscaled scores": {MIXER + "softmax_scale": 1.0},
        "scores scaled by layer": {MIXER + "scale_attn_by_inverse_layer_idx": True},
        "capped scores": {MIXER + "softcap": 30.0},
        "bounded q, k and v": {CLIP: 4.0},
        "no softmax": {MIXER + "attn_fn": "masked_linear", MIXER + "masked_score": -1e8},
    },
    "biases": {
        "no biases in attention": {MIXER + "bias": False, MIXER + "out_bias": False},
        "biases on q, k, v alone": {MIXER + "bias": True, MIXER + "out_bias": False},
        "biases in all of attention": {MIXER + "bias": True, MIXER + "out_bias": True},
        "biases in attention and MLP": {MIXER + "bias": True, MIXER + "out_bias": True, MLP + "bias": True},
    },
    "MLP": {
        "GLU": {MLP + "mlp_cls": "glu"},
        "GLU with biases": {MLP + "mlp_cls": BIASED_GLU},
        "plain MLP with biases": {MLP + "mlp_cls": "mlp"},
        "plain MLP without biases": {MLP + "mlp_cls": UNBIASED_MLP},
        "another activation": {MLP + "act_fn": "relu"},
        "experts": {MLP + "mlp_cls": MOE, EXPERTS: 4, ACTIVE: 2, NORM_TOPK: True},
        "experts, weights as they are": {MLP + "mlp_cls": MOE, EXPERTS: 4, ACTIVE: 2, NORM_TOPK: False},
        "experts and a shared one": {MLP + "mlp_cls": MOE, EXPERTS: 4, ACTIVE: 2, SHARED: 32, SHARED_GATE: True},
        "GLU with a learned scale": {MLP + "mlp_cls": "glu_scaled"},
    },
    "blocks": {
        "parallel blocks": {"architecture.block_cls": "parallel"},
        "norms after branches": {"architecture.block_cls": BLOCK, NORMS: "after"},
        "norms before and after": {"architecture.block_cls": BLOCK, NORMS: "both"},
        "scaled branches": {"architecture.block_cls": BLOCK, RESIDUAL_SCALE: 0.5},
        "a norm behind the embedding": {"embd_layer": NORMED},
        "scaled embeddings": {"embd_layer": "scaled", EMBD_SCALE: 12.0},
        "parallel blocks with two norms": {"architecture.block_cls": "parallel_two_norms"},
        "dropout of residuals": {"resid_pdrop": 0.1},
        "normalised, branches added": {"architecture.block_cls": "ngpt", "architecture.residual": "add"},
        "normalised, rates with signs": {"architecture.signed_rates": True},
        "normalised, branches interpolated": {"architecture.block_cls": "ngpt", "architecture.residual": "lerp"},
    },
    "output head": {
        "head with a bias": {HEAD + "use_bias": True},
        "tied head": {"tie_word_embeddings": True},
        "untied head": {"tie_word_embeddings": False},
        "logits times a constant": {LOGIT_MULTIPLIER: 0.5},
        "capped logits": {LOGIT_SOFTCAP: 30.0},
        "logits with a learned scale": {HEAD + "logit_scale.init": 1.0},
    },
}
VARIANTS: dict[str, Flat] = {name: flat for column in COLUMNS.values() for name, flat in column.items()}


def expresses(family: Family, flat: Flat) -> bool:
    """Whether the family can hold a model of ours, given by dotted paths, and gives it back unchanged."""
    ours = as_list(unflatten(flat))
    try:
        theirs = family.config.to_theirs(ours, family.name)
        back = resolve(family.config.read(theirs))
    except ConfigRefused:
        return False
    return all(back.get(path, NEUTRAL.get(path)) == value for path, value in flat.items() if path in VARIED)


VARIED = {path for variant in VARIANTS.values() for path in variant}


def plainest(family: Family) -> Flat | None:
    """The family's own sample, its small model in plain sizes, or the first plain model of ours that it can hold."""
    own = family.sample.config if family.sample else _small(family)
    if own:
        flat = resolve(family.config.read(own))
        same = {path: value[0] if isinstance(value, PerLayer) else value for path, value in flat.items()}
        layers = (flat if "architecture.residual" in flat else PLAIN)["n_layer"]  # rates may begin at 1 / n_layer
        return {**{path: value for path, value in same.items() if path != SOURCE_VOCAB}, "n_layer": layers}
    found: Iterator[Flat] = ({**PLAIN, **_merged(parts)} for parts in product(*BODIES))
    return next((flat for flat in found if expresses(family, flat)), None)


def _small(family: Family) -> Flat:
    """The config of the family's small model, in plain sizes; empty for a family that does not bring one."""
    said = family.hot.sizes if isinstance(family.hot, Hot) else {}
    if "num_attention_heads" not in said:  # names of its own
        return dict(said)
    kept = {name: value for name, value in said.items() if not isinstance(value, list)}
    return {**kept, **{name: value for name, value in PLAIN_SIZES.items() if name in kept}}


def _merged(parts: tuple[Flat, ...]) -> dict[str, Any]:
    return {path: value for part in parts for path, value in part.items()}


def matrix() -> dict[str, dict[str, bool]]:
    """Variant -> family -> whether it converts both ways. Dialects that are forms of another family are left out."""
    own = [f for f in list_families(plugins=False) if f.dialect_of in ("", *umbrellas())]
    bases = [(f, plainest(f)) for f in own]
    return {
        name: {f.name: base is not None and expresses(f, {**base, **variant}) for f, base in bases}
        for name, variant in VARIANTS.items()
    }


def markdown() -> str:
    """The table of docs/families.md: a row per family, a column per part of a model, in it what goes both ways."""
    expressed = matrix()
    lines = [f"| family | {' | '.join(COLUMNS)} |", f"| --- {'| --- ' * len(COLUMNS)}|"]
    for family in next(iter(expressed.values())):
        cells = ("; ".join(name for name in names if expressed[name][family]) for names in COLUMNS.values())
        lines.append(f"| `{family}` | {' | '.join(cell or '–' for cell in cells)} |")
    return "\n".join(lines)

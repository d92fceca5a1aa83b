"""What MixFormer's own parts add to the layout: keywords that only a config which uses them has, and their tensors.

Other families' tables need not know these paths: a value that changes nothing is the same as an absent one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from converters.config import ngpt_layout
from converters.config.kinds import same
from converters.config.moe_layout import DEFAULTS as MIXTURE
from converters.errors import ConfigRefused

BLOCK = "residual"
NORMS, RESIDUAL_SCALE = "architecture.norms", "architecture.residual_scale"
NORMED, OFFSET = "normed", "positional_offset"  # kinds of embeddings
SCALED, SCALED_TABLE, EMBD_SCALE = "scaled", "scaled_table", "embd_scale"
UNBIASED_MLP, XIELU_MLP = "mlp_no_bias", "mlp_xielu"
OVER, CLIP = "architecture.mixer.qk_norm_over", "architecture.mixer.clip_qkv"
GROWTH = "architecture.mixer.query_growth"
ALIBI_FORMULA, ALIBI_BIAS_MAX = "architecture.mixer.alibi_formula", "architecture.mixer.alibi_bias_max"
LOGIT_MULTIPLIER, LOGIT_SOFTCAP = "architecture.head.logit_multiplier", "architecture.head.logit_softcap"
AFFINE, ZERO_CENTRED = "architecture.norm.elementwise_affine", "architecture.norm.zero_centered_weight"

# Keyword -> the value that changes nothing.
NEUTRAL: Mapping[str, Any] = {
    EMBD_SCALE: None,
    OVER: "head",
    CLIP: None,
    GROWTH: None,
    LOGIT_MULTIPLIER: 1.0,
    LOGIT_SOFTCAP: 0.0,
    ALIBI_FORMULA: "exact",
    ALIBI_BIAS_MAX: 8.0,
}
NORMS_OF: Mapping[str, tuple[str, ...]] = {
    "before": ("ln_1", "ln_2"),
    "after": ("after_1", "after_2"),
    "both": ("ln_1", "ln_2", "after_1", "after_2"),
}
SIZES_OF = {"head": ("head_dim", "head_dim"), "each_head": ("q_rows", "kv_rows"), "width": ("q_rows", "kv_rows")}

FLAGS = (AFFINE, ZERO_CENTRED)

# Paths that change what a model computes, so that nothing may ignore them.
CHANGES_FUNCTION = ngpt_layout.CHANGES_FUNCTION | {NORMS, RESIDUAL_SCALE, AFFINE, ZERO_CENTRED, *NEUTRAL, *MIXTURE}


def spread(flat: dict[str, Any]) -> None:
    """No neutral values, and the defaults of the residual block, in a flat config."""
    for path, neutral in NEUTRAL.items():
        if path in flat and same(flat[path], neutral):
            del flat[path]
    if flat["architecture.block_cls"] == BLOCK:
        flat.setdefault(NORMS, "before")
        flat.setdefault(RESIDUAL_SCALE, 1.0)


def block_norms(resolved: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the norms of a residual block.

    Raises:
        ConfigRefused: `norms` is none of "before", "after" and "both".
    """
    places = resolved[NORMS]
    if not isinstance(places, str) or places not in NORMS_OF:
        raise ConfigRefused(f"{NORMS} is {places!r}, expected one of {', '.join(NORMS_OF)}")
    return NORMS_OF[places]


def qk_norms(resolved: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Name, size and whether it may have a bias, of the norms of queries and keys.

    Raises:
        ConfigRefused: `qk_norm_over` is no value of it.
    """
    over = resolved.get(OVER, "head")
    if not isinstance(over, str) or over not in SIZES_OF:
        raise ConfigRefused(f"{OVER} is {over!r}, expected one of {', '.join(SIZES_OF)}")
    for name, size in zip(("q_norm", "k_norm"), SIZES_OF[over], strict=True):
        yield name, size, over != "each_head"


def activation(resolved: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Keys and shapes of what the activation of an MLP holds."""
    if resolved["architecture.mlp.mlp_cls"] == XIELU_MLP:
        yield from (("mlp.act.alpha_p", ("one",)), ("mlp.act.alpha_n", ("one",)))
        yield from (("mlp.act.beta", ()), ("mlp.act.eps", ()))

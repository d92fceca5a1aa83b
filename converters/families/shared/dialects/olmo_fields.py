"""The config of an nGPT of OLMo-core, as its training writes it under `model`.

Source: `olmo_core` 3.0.0, `nn/transformer/config.py` and the config classes that it names. Older configs say
`attention` for `sequence_mixer`.
"""

from converters.config.entries import Field, Ours, Theirs, Written
from converters.config.kinds import POSITIVE, POSITIVE_INT, Kind
from converters.families.shared.dialect_fields import IDS, Unsaid, dialect, even_heads
from converters.families.shared.dialects.nested_fields import Inside, Must
from converters.families.shared.ngpt_fields import (
    ATTN_ALPHA,
    LOGIT_SCALE,
    MLP_ALPHA,
    QK_SCALE,
    STREAM_AS_IT_IS,
    WholePairs,
    head_width,
    interpolated,
    inverse_root,
    normalised,
    plain_parts,
    root_of,
)
from converters.families.shared.transformers_fields import MIXER, MLP, NORM
from converters.plan.heads import TIE

MIX, FEED = "block.sequence_mixer.", "block.feed_forward."
HEADS, KV = MIX + "n_heads", MIX + "n_kv_heads"
INITS = {ATTN_ALPHA: 0.05, MLP_ALPHA: 0.05, QK_SCALE: 1.0, LOGIT_SCALE: 1.0}  # times sqrt(d_model)
ROOT_OF_HEAD = root_of(
    MIXER + "softmax_scale", (("d_model", "n_embd"), (HEADS, MIXER + "n_head")), head_width, "a head"
)
TEXT = Kind("a text", lambda value: isinstance(value, str))
CLASSES = {
    "": "nn.transformer.config.TransformerConfig",
    "block.": "nn.transformer.config.TransformerBlockConfig",
    MIX: "nn.attention.AttentionConfig",
    MIX + "rope.": "nn.rope.RoPEConfig",
    FEED: "nn.feed_forward.FeedForwardConfig",
    "lm_head.": "nn.lm_head.LMHeadConfig",
}
FIXED = {  # of what has another function with any other value; the first is written
    **{f"{part}name": ("normalized",) for part in ("", "block.", MIX, FEED, "lm_head.")},
    MIX + "rope.name": ("default", "fused"),
    MIX + "type": ("attention",),
}
OFF = {  # may be said, and have no other value
    **{f"{MIX}{name}": (False,) for name in ("bias", "scalable_softmax", "attention_sinks", "use_head_qk_norm")},
    **{f"{part}bias": (False,) for part in (FEED, "lm_head.")},
    MIX + "rope.no_global_rope": (False,),
    MIX + "rope.partial_rotary_factor": (1.0,),
    FEED + "activation": ("silu",),
    TIE: (False,),
}

MODEL = Inside(
    "model",
    entries=(
        *(entry for entry in dialect("") if entry.theirs != ("model_type",)),
        *(Theirs(name, values) for name, values in FIXED.items()),
        *(Theirs(name, values, written=False) for name, values in OFF.items()),
        *plain_parts(),
        *normalised(ROOT_OF_HEAD),
        *interpolated(INITS, width="d_model"),
        inverse_root((f"{path}.scaling" for path in INITS), "d_model"),
        Field("d_model", ("n_embd",), POSITIVE_INT),
        Field("n_layers", ("n_layer",), POSITIVE_INT),
        Field(HEADS, (MIXER + "n_head",), POSITIVE_INT, also=("n_head",), unwritten=(MIXER + "n_head",)),
        Field(KV, (MIXER + "n_head_kv",), POSITIVE_INT, lambda its: its[HEADS], none=True, also=("n_head_kv",)),
        even_heads("d_model", HEADS, rotating=True),
        WholePairs("d_model", HEADS),
        Field(FEED + "hidden_size", (MLP + "n_inner",), POSITIVE_INT, also=("n_inner",)),
        Field(MIX + "rope.theta", (MIXER + "rotary_base",), POSITIVE),
        Must(MIX + "qk_norm.name", "l2_norm"),
        STREAM_AS_IT_IS,
        Ours(MIXER + "qk_l2_span", ("full",)),
        Ours(MIXER + "qk_scaled", ("apart",)),
        Ours(MIXER + "qk_order", ("rotary_last",)),
        Ours(NORM + "eps", (None,), written=False),
        Ours(TIE, (False,)),
        *(Theirs(f"{part}_CLASS_", (f"olmo_core.{name}",), kind=TEXT) for part, name in CLASSES.items()),
        Written("n_positions", 2048),
        Unsaid(IDS),
    ),
    free=frozenset({MIX + "rope.full_precision", "init_method", "init_seed", "init_std", "embedding_init_std"}),
    anywhere=frozenset({"dtype", "_CLASS_", "backend", "use_flash", "loss_implementation", "freeze_params"}),
    older=(("block.attention.", MIX),),
)

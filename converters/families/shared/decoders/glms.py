"""What GLM and GLM-4 share: all but the norms of a block."""

from collections.abc import Mapping
from typing import Any

from converters.algebra.views import Each, Then
from converters.config.entries import Entry, Field, Ours
from converters.config.kinds import BOOL
from converters.families.shared.inv_freq import HALVES, KV_HALVES
from converters.families.shared.partial_rope import PartialRope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    GLU,
    MIXER,
    NO_DROPOUT,
    NO_QK_NORM,
    NO_WINDOW,
    PLAIN_SCALE,
    RMS_NORM,
    SAME_SCALE,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import GATE_UP, LAYER, QKV, linear, llama_attention, norm, vocabulary
from converters.family import SAME, Rule

PAIRED = Then((Each((HALVES, KV_HALVES, SAME)), QKV))


def glm_entries(model_type: str, name: str) -> tuple[Entry, ...]:
    """The table without the block; `name`: what its classes begin with."""
    ends = [151329, 151336, 151338]
    return (
        *model(model_type, f"{name}ForCausalLM", f"{name}Model", bos=None, eos=ends, pad=151329),
        *heads(default_kv=2, head_dim=128, whole=False),
        *mlp("silu"),
        *NO_DROPOUT,
        GLU,
        RMS_NORM,
        NO_WINDOW,
        NO_QK_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(131072),
        eps("rms_norm_eps", 1.5625e-07),
        Field("attention_bias", (MIXER + "bias",), BOOL, True),
        Ours(MIXER + "out_bias", (False,)),
        PartialRope(0.5, head_dim=128),
    )


def glm_attention_and_mlp(ours: Mapping[str, Any]) -> list[Rule]:
    """The tensors without the norms of a block."""
    return [
        *llama_attention(ours, qkv=PAIRED),
        *linear([LAYER + "mlp.gate_up_proj"], "mlp.fc1", False, GATE_UP),
        *linear([LAYER + "mlp.down_proj"], "mlp.fc2", False),
        *norm("model.norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "model.embed_tokens.weight", "lm_head"),
    ]

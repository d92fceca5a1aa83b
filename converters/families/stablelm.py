"""StableLM: LayerNorms and a GLU, in sequential or parallel blocks; a quarter of each head rotates.

Source: transformers 5.23 `models/stablelm`. With `qk_layernorm`, each head has norms of its own for queries and keys.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from converters.algebra.moves import Concat
from converters.config.echo import Echo
from converters.config.entries import Choice, Field, Ours, Theirs
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.part_layout import OVER
from converters.config.table import ConfigTable
from converters.families.shared.decoders.one_for_all import FullWidth, HeadNorms
from converters.families.shared.hot_sizes import ROPES, SIZES
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.partial_rope import PartialRope
from converters.families.shared.refusals import relics
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    GLU,
    HEAD,
    LAYER_NORM,
    MIXER,
    NO_DROPOUT,
    NO_WINDOW,
    PLAIN_SCALE,
    SAME_SCALE,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import LAYER, UP_GATE, linear, llama_attention, norm, vocabulary
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(
    called="StableLM",
    entries=(
        *model("stablelm", "StableLmForCausalLM", "StableLmModel", bos=0, eos=0),
        Choice("use_parallel_residual", "architecture.block_cls", ((False, "sequential"), (True, "parallel"))),
        Ours("embd_layer", ("default",)),
        Ours(HEAD + "head_cls", ("causal_lm",)),
        Ours(HEAD + "use_bias", (False,)),
        *heads(default_kv=32, whole=False),
        FullWidth(),
        *mlp("silu"),
        *NO_DROPOUT,
        GLU,
        LAYER_NORM,
        NO_WINDOW,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(4096),
        eps("layer_norm_eps", 1e-5),
        Field("use_qkv_bias", (MIXER + "bias",), BOOL, False),
        Ours(MIXER + "out_bias", (False,)),
        HeadNorms("qk_layernorm"),
        Theirs("hidden_dropout", (0.0,), "dropout of the MLP alone is not a MixFormer's; set it to 0.0"),
        PartialRope(0.25),
        *relics(rotary_scaling_factor=(1.0,)),
        Echo("norm_eps", lambda theirs: theirs.get("layer_norm_eps", 1e-5), "layer_norm_eps is"),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a StableLM, by our resolved config."""
    parallel = ours["architecture.block_cls"] == "parallel"
    mixer = "mixer" if parallel else "attn"
    found = [
        *norm(LAYER + "input_layernorm", "layers.{b}.ln" if parallel else "layers.{b}.ln_1", ours),
        *(() if parallel else norm(LAYER + "post_attention_layernorm", "layers.{b}.ln_2", ours)),
        *llama_attention(ours, block=mixer),
        *linear([f"{LAYER}mlp.{name}_proj" for name in ("up", "gate")], "mlp.fc1", False, UP_GATE),
        *linear([LAYER + "mlp.down_proj"], "mlp.fc2", False),
        *norm("model.norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "model.embed_tokens.weight", "lm_head"),
    ]
    return [*found, *_head_norms(ours, mixer)] if OVER in ours else found


def _head_norms(ours: Mapping[str, Any], mixer: str) -> Iterator[Rule]:
    for name, size in (("q", "n_head"), ("k", "n_head_kv")):
        each = [f"{LAYER}self_attn.{name}_layernorm.norms.{k}.weight" for k in range(ours[MIXER + size])]
        yield Rule(tuple(each), (f"layers.{{b}}.{mixer}.{name}_norm.weight",), Concat(("head_dim",) * len(each)))


FAMILY = Family(
    name="stablelm",
    title="StableLM 2, StableLM 3B 4E1T and Stable Code 3B",
    model_types=("stablelm",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="MHA, GQA; partial rotary; parallel or sequential blocks; norms of each head; biases on q, k and v",
    hot=Hot(
        "StableLmConfig",
        SIZES | {"partial_rotary_factor": 0.5, "qk_layernorm": True},
        {
            "rope_parameters": ROPES,
            "partial_rotary_factor": (0.5, 1.0, 0.7),
            "use_parallel_residual": (True, False),
            "use_qkv_bias": (True, False),
        },
    ),
)

"""nGPT as OLMo-core's NormalizedTransformer: a folder with model.safetensors and the config.json of the training run.

Source: `olmo_core` 3.0.0, `nn/transformer`, `nn/attention`, `nn/feed_forward`, `nn/lm_head`. Queries are divided by the
length of all heads together, and so are keys; each has a scale of its own, and heads turn after that. The model's own
config is the object under `model`; a checkpoint that is distributed over files has to be made one first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.moves import Concat
from converters.config.layout import dims_of
from converters.config.paths import unflatten
from converters.config.table import ConfigTable
from converters.errors import ConfigRefused
from converters.families.shared.dialects.olmo_fields import FEED, HEADS, KV, MIX, MODEL
from converters.families.shared.ngpt_fields import told_sizes
from converters.families.shared.transformers_rules import QKV, UP_GATE, VOCAB, linear, vocabulary
from converters.family import Family, Rule, Sample

NAME = "ngpt-olmo"
LAYER, EMBEDDING = "blocks.{i}.", "embeddings.weight"
OWN = ("attention.sq", "attention.w_q.weight", "feed_forward.sw1")
CONFIG = ConfigTable(
    entries=(MODEL,),
    free=frozenset(
        "run_name launch dataset data_loader train_module trainer init_seed load_path load_trainer_state tokenizer"
        " _CLASS_ user_said backend".split()
    ),
    called="OLMo-core's nGPT",
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a NormalizedTransformer, by our resolved config."""
    mix, feed = LAYER + "attention.", LAYER + "feed_forward."
    return [
        *linear([f"{mix}w_{name}" for name in "qkv"], "attn.Wqkv", False, QKV),
        *linear([mix + "w_out"], "attn.out_proj", False),
        Rule((mix + "sq", mix + "sk"), ("layers.{b}.attn.qk_scale.weight",), Concat(("q_rows", "kv_rows"))),
        *linear([feed + "w3", feed + "w1"], "mlp.fc1", False, UP_GATE),
        *linear([feed + "w2"], "mlp.fc2", False),
        Rule((feed + "sw3", feed + "sw1"), ("layers.{b}.mlp.uv_scale.weight",), UP_GATE),
        *(Rule((LAYER + name,), (f"layers.{{b}}.{name}.weight",)) for name in ("attn_alpha", "mlp_alpha")),
        Rule(("lm_head.sz",), ("layers.{h}.logit_scale.weight",), VOCAB),
        *vocabulary(ours, EMBEDDING, "lm_head.w_out"),
    ]


def told(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any] | None:
    """Raises ConfigRefused for tensors of this dialect, whose heads and theta only config.json says."""
    if told_sizes(shapes, "blocks.", OWN, EMBEDDING) is None:
        return None
    raise ConfigRefused("these are tensors of OLMo-core: put its config.json beside them, which says heads and theta")


def knows(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is one of OLMo-core, of such a model."""
    model = config.get("model")
    return isinstance(model, Mapping) and model.get("name") == "normalized" and "d_model" in model


SAMPLE = {"name": "normalized", "d_model": 48, "vocab_size": 259, "n_layers": 3, "dtype": "float32"} | {
    HEADS: 6,
    KV: 2,
    FEED + "hidden_size": 104,
    MIX + "rope.theta": 500_000,
    MIX + "qk_norm.name": "l2_norm",
}

FAMILY = Family(
    name=NAME,
    title="nGPT of OLMo-core: model.safetensors and its config.json",
    model_types=(NAME,),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    head="lm_head.w_out.weight",
    expresses="MHA, GQA, MQA; any theta and hidden_size; untied",
    dialect_of="ngpt",
    told=told,
    knows=knows,
    outputs=(".attention.w_out.weight", ".feed_forward.w2.weight"),
    sample=Sample(
        config={"model": unflatten(SAMPLE)},
        reach={"sw1": (0.7, 1.3), "sw3": (0.7, 1.3), "alpha": (0.7, 1.3), "sq": (0.1, 0.19), "sk": (0.1, 0.19)}
        | {"sz": (0.1, 0.19)},
        signed=("alpha",),
    ),
)

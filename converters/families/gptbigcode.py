"""GPTBigCode (SantaCoder, StarCoder): a GPT-2 whose heads share one key and one value.

Source: transformers 5.23 `models/gpt_bigcode`. Its matrices are not transposed. With `multi_query` off, the rows of
`c_attn` are head after head, each with q, k and v.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.algebra.moves import Rows
from converters.config.cannot_hold import CannotHold
from converters.config.entries import Choice, Theirs
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.errors import ConfigRefused
from converters.families.shared.dialect_fields import even_heads
from converters.families.shared.gpt_fields import NO_ROTARY, gpt_sizes
from converters.families.shared.transformers_fields import (
    LAYER_NORM,
    MIXER,
    NO_QK_NORM,
    NO_WINDOW,
    PLAIN_MLP,
    SAME_SCALE,
    biases,
    block,
    eps,
    model,
)
from converters.families.shared.transformers_rules import linear, mlp_of, norm, vocabulary
from converters.family import SAME, Family, Hot, Rule
from converters.small_models import GPT_SIZES

BLOCK = "transformer.h.{i}."
BY_HEAD = Rows(("n_head", 3, "head_dim"), (1, 0, 2))
FREE = """attention_softmax_in_fp32 scale_attention_softmax_in_fp32 inference_runner validate_runner_input n_ctx
pad_key_length pre_allocate_kv_cache summary_activation summary_first_dropout summary_proj_to_labels summary_type
summary_use_proj max_batch_size max_sequence_length gradient_checkpointing"""


@dataclass(frozen=True)
class MultiQuery:
    """`multi_query`: one head for keys and values, or as many as for queries."""

    theirs: tuple[str, ...] = ("multi_query", "num_key_value_heads")
    ours: tuple[str, ...] = (MIXER + "n_head_kv",)
    also: tuple[str, ...] = ("n_head_kv",)

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The number of heads for keys and values."""
        shared = theirs.get("multi_query", True)
        if not BOOL.holds(shared):
            raise ConfigRefused(f"multi_query is {shared!r}, expected {BOOL.words}")
        number = 1 if shared else theirs.get("n_head", theirs.get("num_attention_heads"))
        said = theirs.get("num_key_value_heads", number)
        if said != number:
            raise ConfigRefused(f"num_key_value_heads is {said!r} and multi_query {shared!r} gives {number}; keep one")
        return {MIXER + "n_head_kv": number, "n_head_kv": number}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Both fields."""
        heads, number = ours[MIXER + "n_head"], ours[MIXER + "n_head_kv"]
        if number not in (1, heads):
            raise CannotHold(f"it uses {number} key-value heads", f"1 or {heads}", MIXER + "n_head_kv")
        return {"multi_query": number == 1, "num_key_value_heads": number}


CONFIG = ConfigTable(
    called="GPTBigCode",
    entries=(
        *model("gpt_bigcode", "GPTBigCodeForCausalLM", "GPTBigCodeModel", tied=True, bos=50256, eos=50256),
        *block("sequential", "positional"),
        *gpt_sizes(1024, 0.1, "gelu_pytorch_tanh", (MultiQuery(), even_heads("n_embd", "n_head", rotating=False))),
        *biases(True, True),
        PLAIN_MLP,
        LAYER_NORM,
        NO_WINDOW,
        NO_QK_NORM,
        SAME_SCALE,
        eps("layer_norm_epsilon", 1e-5),
        *NO_ROTARY,
        Choice("scale_attn_weights", MIXER + "softmax_scale", ((True, None), (False, 1.0))),
        Theirs("add_cross_attention", (False,), "only models without an encoder can be converted", written=False),
    ),
    free=frozenset(FREE.split()),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a GPTBigCode, by our resolved config."""
    order = SAME if ours[MIXER + "n_head_kv"] == 1 else BY_HEAD
    return [
        Rule(("transformer.wpe.weight",), ("layers.0.wpe.weight",)),
        *norm(BLOCK + "ln_1", "layers.{b}.ln_1", ours),
        *norm(BLOCK + "ln_2", "layers.{b}.ln_2", ours),
        *linear([BLOCK + "attn.c_attn"], "attn.Wqkv", True, order),
        *linear([BLOCK + "attn.c_proj"], "attn.out_proj", True),
        *linear([BLOCK + "mlp.c_fc"], f"{mlp_of(ours)}.fc1", True),
        *linear([BLOCK + "mlp.c_proj"], f"{mlp_of(ours)}.fc2", True),
        *norm("transformer.ln_f", "layers.{h}.ln", ours),
        *vocabulary(ours, "transformer.wte.weight", "lm_head"),
    ]


FAMILY = Family(
    name="gptbigcode",
    title="GPTBigCode: SantaCoder, StarCoder 1",
    model_types=("gpt_bigcode",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="transformer.",
    head="lm_head.weight",
    embedding="transformer.wte.weight",
    tied=True,
    expresses="MQA or MHA; learned positions; any n_inner and activation; unscaled scores; tied or untied",
    hot=Hot("GPTBigCodeConfig", GPT_SIZES, {"multi_query": (True, False), "num_key_value_heads": ()}),
)

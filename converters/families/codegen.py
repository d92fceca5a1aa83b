"""CodeGen: a parallel MixFormer with partial rotary embeddings, LayerNorm and a head bias.

Source: transformers 5.23 `models/codegen`. The rows of `qkv_proj` lie in four shards (one for each core of the training
machine), each with q, v and k. Its rotary pairs are interleaved; ours are half-split.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.moves import Concat, Rows, Split
from converters.algebra.views import Each, Reorder, Then
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.errors import ConfigRefused
from converters.families.shared.causal_masks import MASKED_BIASES, CausalMask
from converters.families.shared.gpt_fields import gptj_block, gptj_rules
from converters.families.shared.inv_freq import HALVES
from converters.families.shared.transformers_fields import model
from converters.families.shared.transformers_rules import linear
from converters.family import SAME, Family, Rule

SHARDS = 4
THIRDS = ("q_rows", "q_rows", "q_rows")
QKV = Then(
    (
        Rows((SHARDS, 3, "shard_rows"), (1, 0, 2)),
        Split(THIRDS),
        Reorder((0, 2, 1)),
        Each((HALVES, HALVES, SAME)),
        Concat(THIRDS),
    )
)
CONFIG = ConfigTable(
    called="CodeGen",
    entries=(*model("codegen", "CodeGenForCausalLM", "CodeGenModel", bos=50256, eos=50256), *gptj_block()),
    free=frozenset({"n_ctx", "gradient_checkpointing", "scale_attn_weights"}),
)


def dims(ours: Mapping[str, Any]) -> Any:
    """Our sizes, and the rows of one of q, k or v in a shard."""
    sizes = dims_of(ours)
    if sizes["n_head"] % SHARDS:
        raise ConfigRefused(f"n_head is {sizes['n_head']}, CodeGen needs a multiple of {SHARDS}")
    return sizes.with_size("shard_rows", sizes["q_rows"] // SHARDS)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a CodeGen, by our resolved config."""
    return [*gptj_rules(ours), *linear(["transformer.h.{i}.attn.qkv_proj"], "mixer.Wqkv", False, QKV)]


FAMILY = Family(
    name="codegen",
    title="CodeGen and CodeGen2 in transformers' form",
    model_types=("codegen",),
    config=CONFIG,
    rules=rules,
    dims=dims,
    base="transformer.",
    head="lm_head.weight",
    embedding="transformer.wte.weight",
    buffers=(CausalMask(".attn.causal_mask"), *MASKED_BIASES),
    expresses="MHA with heads in fours; any rotary_dim, n_inner and activation; head bias; tied or untied",
)

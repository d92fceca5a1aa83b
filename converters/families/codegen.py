"""CodeGen: a parallel MixFormer with partial rotary embeddings, LayerNorm and a head bias.

Source: transformers 5.23 `models/codegen`. The rows of `qkv_proj` lie in shards (one for each core of the training
machine), each with q, v and k. CodeGen and transformers have four; CodeGen2 1B and 3.7B, which run code of their own,
have eight. Its rotary pairs are interleaved; ours are half-split.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.moves import Concat, Rows, Split
from converters.algebra.views import Each, Reorder, Then
from converters.checkpoint.users_word import QKV_SHARDS
from converters.config.layout import dims_of
from converters.config.table import ConfigTable, residue_of
from converters.errors import ConfigRefused
from converters.families.shared.causal_masks import MASKED_BIASES, CausalMask
from converters.families.shared.gpt_fields import gptj_block, gptj_rules
from converters.families.shared.inv_freq import HALVES
from converters.families.shared.transformers_fields import model
from converters.families.shared.transformers_rules import linear
from converters.family import SAME, Family, Rule

SHARDS = 4
CODEGEN2 = {(16, 2048): 8, (16, 4096): 8, (32, 4096): 4, (34, 6144): 4}  # (n_layer, n_embd) of 1B, 3.7B, 7B, 16B
OWN_CODE = ("auto_map", "head_dim")  # fields of CodeGen2 with code of its own, which transformers does not have
MOST_SHARDS = 64
THIRDS = ("q_rows", "q_rows", "q_rows")
QKV = Then(
    (
        Rows(("shards", 3, "shard_rows"), (1, 0, 2)),
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


def shards_of(ours: Mapping[str, Any]) -> int:
    """The shards of `qkv_proj`: as a user said, as the size tells of a CodeGen2, else four.

    Raises:
        ConfigRefused: it is a CodeGen2 of another size, or the residue was changed by hand.
    """
    residue = residue_of(ours, "codegen")
    said, fields = residue.get(QKV_SHARDS), residue.get("fields", {})
    if said is not None:
        if type(said) is not int or not 1 <= said <= MOST_SHARDS:
            raise ConfigRefused(f"converted_from.{QKV_SHARDS} is {said!r}, expected a number from 1 to {MOST_SHARDS}")
        return said
    if all(fields.get(name) is None for name in OWN_CODE):
        return SHARDS
    sizes = ours.get("n_layer"), ours.get("n_embd")
    if sizes not in CODEGEN2:
        named = " and ".join(name for name in OWN_CODE if fields.get(name) is not None)
        raise ConfigRefused(
            f"config.json has {named}, so this CodeGen runs code of its own, and only that says how many shards"
            f" its qkv_proj has (mp_num; 8 in CodeGen2 1B and 3.7B, 4 in 7B and 16B): say it with --qkv-shards N"
        )
    return CODEGEN2[sizes]


def dims(ours: Mapping[str, Any]) -> Any:
    """Our sizes, the number of shards, and the rows of one of q, k or v in a shard."""
    sizes, shards = dims_of(ours), shards_of(ours)
    if sizes["n_head"] % shards:
        raise ConfigRefused(f"n_head is {sizes['n_head']}, CodeGen needs a multiple of {shards}")
    return sizes.with_size("shards", shards).with_size("shard_rows", sizes["q_rows"] // shards)


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
    expresses="MHA with heads in shards; any rotary_dim, n_inner and activation; head bias; tied or untied",
)

"""LLaMA as litgpt stores it: lit_model.pth, with its sizes in model_config.yaml. Qwen2.5 is one with biases on q, k, v.

Source: litgpt 0.5.13, `model.py` and `scripts/convert_hf_checkpoint.py`. Rotary pairs are halves, and the rows of `qkv`
are those of ours: all of q, all of k, all of v. In older files they are group after group, under the name `attn.attn`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field, Ours
from converters.config.kinds import BOOL, POSITIVE_INT
from converters.config.table import ConfigTable, residue_of
from converters.families import falcon
from converters.families.shared.dialect_fields import IDS, TIE, Unsaid, dialect, llama_block, sizes
from converters.families.shared.dialects.litgpt_fields import UNREAD, LitgptRope, litgpt_block
from converters.families.shared.transformers_fields import MIXER, MLP, eps
from converters.families.shared.transformers_rules import UP_GATE, linear, norm, vocabulary
from converters.family import SAME, Family, Rule

NAME, BY_GROUP = "llama-litgpt", "qkv_by_group"
LAYER, EMBEDDING, HEAD = "transformer.h.{i}.", "transformer.wte.weight", "lm_head.weight"


def _head_dim(theirs: Mapping[str, Any]) -> Any:
    return theirs["n_embd"] // theirs["n_head"]


CONFIG = ConfigTable(
    called="litgpt's LLaMA",
    entries=(
        *dialect(NAME, "padded_vocab_size"),
        TIE,
        *llama_block(),
        *sizes("n_embd", "n_layer", "n_head", "block_size", 4096, kv="n_query_groups"),
        Field(
            "head_size",
            (MIXER + "head_dim", MIXER + "rotary_dim"),
            POSITIVE_INT,
            _head_dim,
            none=True,
            also=("rotary_dim",),
        ),
        Field("intermediate_size", (MLP + "n_inner",), POSITIVE_INT, also=("n_inner",)),
        Field("attn_bias", (MIXER + "bias",), BOOL, False),
        Ours(MIXER + "out_bias", (False,)),
        eps("norm_eps", 1e-5),
        LitgptRope(),
        *litgpt_block(),
        Unsaid(IDS),
    ),
    free=UNREAD | {BY_GROUP},
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a LLaMA in litgpt, by our resolved config."""
    by_group = residue_of(ours, NAME).get("fields", {}).get(BY_GROUP) is True
    qkv, move = ("attn.attn", falcon.QKV) if by_group else ("attn.qkv", SAME)
    return [
        *norm(LAYER + "norm_1", "layers.{b}.ln_1", ours),
        *norm(LAYER + "norm_2", "layers.{b}.ln_2", ours),
        *linear([LAYER + qkv], "attn.Wqkv", ours[MIXER + "bias"], move),
        *linear([LAYER + "attn.proj"], "attn.out_proj", False),
        *linear([LAYER + "mlp.fc_2", LAYER + "mlp.fc_1"], "mlp.fc1", False, UP_GATE),
        *linear([LAYER + "mlp.proj"], "mlp.fc2", False),
        *norm("transformer.ln_f", "layers.{h}.ln", ours),
        *vocabulary(ours, EMBEDDING, HEAD.removesuffix(".weight")),
    ]


FAMILY = Family(
    name=NAME,
    title="LLaMA as litgpt stores it: lit_model.pth and model_config.yaml",
    model_types=(NAME,),
    config=CONFIG,
    rules=rules,
    dims=falcon.dims,
    head=HEAD,
    embedding=EMBEDDING,
    expresses="MHA, GQA, MQA; any head_dim; biases on q, k and v; rope plain, linear or of LLaMA 3.1; tied or untied",
    dialect_of="llama",
)

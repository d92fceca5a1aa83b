"""LLaMA as Meta releases it: interleaved rotary pairs, and each tensor cut for the model-parallel ranks.

Source: `model.py` of Meta's `llama` and `llama3` repositories. Matrices whose outputs are split between ranks were cut
along their rows, the others along their columns. Norms are in every rank.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.dims import Dims
from converters.config.layout import dims_of
from converters.config.table import ConfigTable, residue_of
from converters.errors import ConfigRefused
from converters.families.shared.dialect_fields import IDS, TIE, Unsaid, dialect, even_heads, llama_block, sizes
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.meta_fields import InnerWidth, MetaRope
from converters.families.shared.meta_rules import MOST_RANKS, cut_sizes, meta_rules, part
from converters.families.shared.transformers_fields import biases, eps
from converters.family import Family, Rule
from converters.plan.known_buffers import Table


def _length(theirs: Mapping[str, Any]) -> int:
    """The longest sequence of each generation, which params.json does not say."""
    if theirs.get("use_scaled_rope"):
        return 131072
    return 8192 if theirs.get("rope_theta") == 500000.0 else 2048


CONFIG = ConfigTable(
    entries=(
        *dialect("llama-meta"),
        TIE,
        *llama_block(),
        *biases(False, False),
        *sizes("dim", "n_layers", "n_heads", "max_seq_len", _length, kv="n_kv_heads"),
        even_heads("dim", "n_heads", rotating=True),
        InnerWidth(),
        MetaRope(),
        eps("norm_eps", 1e-5),
        Unsaid(IDS),
    ),
    free=frozenset({"model_parallel", "vocab_parallel", "max_batch_size"}),
)


def ranks_of(ours: Mapping[str, Any]) -> tuple[int, bool]:
    """How many ranks the checkpoint was cut for, and whether its embedding was cut along its rows.

    Raises:
        ConfigRefused: the residue was changed by hand.
    """
    fields = residue_of(ours, "llama-meta").get("fields", {})
    count, by_rows = fields.get("model_parallel", 1), fields.get("vocab_parallel", False)
    if type(count) is not int or not 1 <= count <= MOST_RANKS or type(by_rows) is not bool:
        raise ConfigRefused(
            f"converted_from.fields in config.json was changed by hand: model_parallel is {count!r} and vocab_parallel"
            f" {by_rows!r}"
        )
    return count, by_rows


def dims(ours: Mapping[str, Any]) -> Dims:
    """Our sizes, and those of the parts that each rank has."""
    found, (count, by_rows) = dims_of(ours), ranks_of(ours)
    for name in cut_sizes(ours, by_rows) if count > 1 else ():
        if found[name] % count:
            raise ConfigRefused(f"{name} is {found[name]}, which cannot be cut into {count} equal parts for the ranks")
        found = found.with_size(part(name, count), found[name] // count)
    return found


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of all ranks, by our resolved config."""
    return meta_rules(ours, *ranks_of(ours))


FAMILY = Family(
    name="llama-meta",
    title="LLaMA as Meta releases it: params.json and consolidated.NN.pth",
    model_types=("llama-meta",),
    config=CONFIG,
    rules=rules,
    dims=dims,
    head="output.weight",
    buffers=(Table("rope.freqs", inv_freq),),
    expresses="MHA, GQA; any number of model-parallel ranks; scaled rope of LLaMA 3.1; tied or untied",
    dialect_of="llama",
)

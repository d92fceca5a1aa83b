"""llama2.c: a LLaMA under Meta's names in float32, with fixed theta and eps.

Source: llama2.c at 350e04f, `model.py`, and `run.c`, which skips the rotary tables in files of version 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field, Ours, Written
from converters.config.kinds import POSITIVE_INT
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.dialect_fields import TIE, Unsaid, dialect, even_heads, llama_block, sizes
from converters.families.shared.meta_rules import meta_rules
from converters.families.shared.rope import PARAMETERS
from converters.families.shared.sinusoids import COSINES, SINES
from converters.families.shared.transformers_fields import MIXER, MLP, NORM, biases
from converters.family import Family, Rule

CONFIG = ConfigTable(
    called="llama2.c",
    entries=(
        *dialect("llama2c"),
        TIE,
        *llama_block(),
        *biases(False, False),
        *sizes("dim", "n_layers", "n_heads", "seq_len", 2048, kv="n_kv_heads"),
        even_heads("dim", "n_heads", rotating=True),
        Field("hidden_dim", (MLP + "n_inner",), POSITIVE_INT, also=("n_inner",)),
        Ours(NORM + "eps", (1e-5,)),
        Written("layer_norm_epsilon", 1e-5),
        Ours(MIXER + "rotary_base", (10000.0,)),
        Ours(PARAMETERS, (None,), written=False),
        Written("bos_token_id", 1),
        Written("eos_token_id", 2),
        Unsaid(("pad_token_id",)),
    ),
    free=frozenset({"version"}),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a llama2.c file, by our resolved config."""
    return meta_rules(ours)


FAMILY = Family(
    name="llama2c",
    title="LLaMA as llama2.c stores it: one .bin file of float32",
    model_types=("llama2c",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    head="output.weight",
    buffers=(COSINES, SINES),
    expresses="MHA, GQA; theta 10000, eps 1e-5; tied or untied; written back with --format native",
    dialect_of="llama",
)

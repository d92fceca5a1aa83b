"""The rotary tables that MixFormers of the first generation stored: compared with their formula and left out.

The model makes them itself, so a table that says something else is refused: the model may have been trained with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from converters.algebra.views import Check
from converters.checkpoint.checkpoint import Checkpoint
from converters.plan.known_buffers import Table, find_buffers, used

SUFFIX = ".rotary_emb.inv_freq"
LEFT_OUT = "the rotary tables (inv_freq) were compared with their formula and left out"


def inv_freq(resolved: Mapping[str, Any]) -> Sequence[float]:
    """base^(-2k / rotary_dim) for k in 0..rotary_dim / 2 (RoFormer, arXiv 2104.09864, section 3.2.2)."""
    mixer = "architecture.mixer."
    dim, base = resolved[mixer + "rotary_dim"], resolved[mixer + "rotary_base"]
    return [base ** (-2 * k / dim) for k in range(dim // 2)]


def tables_of(source: Checkpoint) -> list[str]:
    """The keys of rotary tables in a MixFormer."""
    return [key for key in source.tensors if key.endswith(SUFFIX)]


def compared(source: Checkpoint, keys: Sequence[str], resolved: Mapping[str, Any], *, drop: bool) -> tuple[Check, ...]:
    """Compares tables with their formula, unless they are dropped whatever they hold; the checks account for them.

    Raises:
        NotInvertible: a table is not what its formula gives.
    """
    if not drop:
        tables = replace(source, tensors={key: source.tensors[key] for key in keys})
        find_buffers(tables, [Table(SUFFIX, inv_freq)], resolved)
    return tuple(used(source.tensors[key]) for key in keys)

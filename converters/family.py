"""What a family of checkpoints is, and how the one that a checkpoint belongs to is found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from converters import families, layout
from converters.algebra import Move, Same
from converters.buffers import BufferRule
from converters.config_table import ConfigTable
from converters.dims import Dims
from converters.errors import ConfigRefused, UsageError, nearest

OURS = "mixformer"
SAME = Same()


@dataclass(frozen=True)
class Rule:
    """One or several tensors of theirs become one or several of ours through a move.

    Keys are templates: `{i}` is theirs' layer from 0, `{b}` our block from 1, `{h}` our head behind the last block.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    move: Move = SAME

    def bound(self, n_layer: int) -> list["Rule"]:
        """The rule for each layer, or once if it has no layer."""
        each = any("{i}" in key or "{b}" in key for key in (*self.theirs, *self.ours))
        return [self._at(i, n_layer) for i in range(n_layer)] if each else [self._at(0, n_layer)]

    def _at(self, i: int, n_layer: int) -> "Rule":
        places = {"i": str(i), "b": str(i + 1), "h": str(n_layer + 1)}
        theirs, ours = (tuple(key.format(**places) for key in keys) for keys in (self.theirs, self.ours))
        return replace(self, theirs=theirs, ours=ours)


@dataclass(frozen=True)
class Family:
    """Everything a conversion knows about one kind of checkpoint.

    name: as on the command line. model_types: values of `model_type` in config.json. config: its config table.
    rules: from our resolved config to rules, all layers in one template each. expresses: one line for the listing.
    base: the prefix of all keys but the head's, which a bare decoder leaves out. head: the key of the output head.
    tied: what a config means that does not say whether head and embedding are one. buffers: stored tensors that a
    formula gives. tensors: from our resolved config to the shape of each tensor of ours; only a family that brings a
    block of its own has its own. dialect_of: the family whose models this is another form of.
    """

    name: str
    title: str
    model_types: tuple[str, ...]
    config: ConfigTable
    rules: Callable[[Mapping[str, Any]], Sequence[Rule]]
    dims: Callable[[Mapping[str, Any]], Dims]
    expresses: str
    base: str = ""
    head: str = ""
    tied: bool = False
    buffers: tuple[BufferRule, ...] = ()
    tensors: Callable[[Mapping[str, Any]], Mapping[str, tuple[int, ...]]] = layout.tensors
    dialect_of: str = ""

    @property
    def head_prefix(self) -> str:
        """What all keys of the head begin with."""
        return self.head.rpartition(".")[0] + "."


def list_families() -> tuple[Family, ...]:
    """All families, by name; MixFormer itself is not among them."""
    return tuple(found for _, found in sorted(_found().items()))


def get_family(name: str) -> Family:
    """The family of that name.

    Raises:
        UsageError: there is none.
    """
    found = _found()
    if name not in found:
        raise UsageError(f"there is no family {name!r}{nearest(name, found)}; known are {', '.join([*found, OURS])}")
    return found[name]


@cache
def _found() -> dict[str, Family]:
    modules = (import_module(f"{families.__name__}.{module.name}") for module in iter_modules(families.__path__))
    return {module.FAMILY.name: module.FAMILY for module in modules if hasattr(module, "FAMILY")}


def family_of(config: Mapping[str, Any]) -> str:
    """The name of the family that a config.json belongs to, by its `model_type`.

    Raises:
        ConfigRefused: no family has this model_type, or there is none.
    """
    model_type = config.get("model_type")
    if model_type == "mixformer-sequential":
        return OURS
    matches = [family.name for family in list_families() if model_type in family.model_types]
    if not matches:
        known = ", ".join(["mixformer-sequential", *(t for family in list_families() for t in family.model_types)])
        raise ConfigRefused(f"config.json has model_type {model_type!r}; conversions know {known}")
    return matches[0]

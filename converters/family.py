"""A family of checkpoints as a value, and finding the family of a checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Protocol

from converters.algebra.dims import Dims
from converters.algebra.views import Move, Same, View
from converters.checkpoint.checkpoint import StoredTensor
from converters.config import layout
from converters.config.table import RESIDUE, ConfigTable
from converters.errors import ConfigRefused, PluginRefused, UsageError, nearest
from converters.generations.configs import MODEL_TYPES
from converters.plugins import ADVICE, Plugin, plugin_modules
from converters.small_models import Hot as Hot
from converters.small_models import Sample as Sample

OURS = "mixformer"
FAMILIES = "converters.families"  # found by its name, as plug-ins are, so that imports go down only
GROUP = "mixformer.families"  # of entry points; each names a module with a `FAMILY`
COMMANDS = frozenset("plan parity golden push inspect diff families zoo mixformer".split())
SAME = Same()


@dataclass(frozen=True)
class Rule:
    """One or several tensors of theirs become one or several of ours through a move.

    Keys are templates: `{i}` is theirs' layer from 0, `{b}` our block from 1, `{h}` our head after the last block.
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


class BufferRule(Protocol):
    """A formula for the stored tensors whose keys end in `suffix`."""

    @property
    def suffix(self) -> str:
        """The end of the keys."""
        ...

    @property
    def name(self) -> str:
        """The name under which the residue keeps a content."""
        ...

    def content(self, tensor: StoredTensor, resolved: Mapping[str, Any]) -> Any:
        """What the residue keeps of a stored buffer, as JSON.

        Raises:
            NotInvertible: it is not what its formula gives.
        """
        ...

    def holds(self, dtype: str, content: Any, resolved: Mapping[str, Any]) -> bool:
        """Whether a content in the residue is what the formula gives today.

        Raises:
            TypeError, ValueError, KeyError: it is not a content.
        """
        ...

    def view(self, dtype: str, content: Any) -> View:
        """The buffer as a tensor of fills."""
        ...


@dataclass(frozen=True)
class Family:
    """Everything a conversion knows about one kind of checkpoint.

    name: as on the command line. model_types: values of `model_type` in config.json. config: its config table.
    rules: from our resolved config to rules, all layers in one template each. expresses: one line for the listing.
    base: the prefix of all keys but the head's, which a bare decoder leaves out. head: the key of the output head.
    tied: what a config means that does not say whether head and embedding are one. buffers: stored tensors that a
    formula gives. tensors: from our resolved config to the shape of each tensor of ours; only a family that brings a
    block of its own has its own. dialect_of: the family whose models this is another form of. hot: the small model
    that it is tested with; a pair (config_class, sizes) is short for one that says no more. told: from keys and shapes
    of a bare state dict to the config that they say; None where they are not this family's. unstored: fields of theirs
    that say of tensors with one constant value that they are not stored: they end with that value. outputs: ends of
    the keys of matrices whose columns lie along the width of the model; of all others rows do. sample: a small model to
    try the family with; without one the plainest in the sizes of a sample is made.
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
    hot: Hot | tuple[str, Mapping[str, Any]] | None = None
    told: Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, Any] | None] | None = None
    unstored: frozenset[str] = frozenset()
    outputs: tuple[str, ...] = ()
    sample: Sample | None = None

    @property
    def head_prefix(self) -> str:
        """The prefix of all keys of the head."""
        return self.head.rpartition(".")[0] + "."


@dataclass(frozen=True)
class Umbrella:
    """A name for dialects, families `<name>-<dialect>`; `plain` is the one whose sample stands for all."""

    name: str
    title: str
    plain: str

    def family(self, dialect: str) -> str:
        """The family of one of its dialects.

        Raises:
            UsageError: there is no such dialect.
        """
        if dialect not in self.dialects:
            raise UsageError(f"--dialect is {dialect!r}; the dialects of {self.name} are {', '.join(self.dialects)}")
        return f"{self.name}-{dialect}"

    @property
    def dialects(self) -> tuple[str, ...]:
        """Their names, without that of the umbrella."""
        names = sorted(family.name for family in _found().values() if family.dialect_of == self.name)
        return tuple(name.removeprefix(f"{self.name}-") for name in names)


def umbrellas() -> dict[str, Umbrella]:
    """Name -> umbrella."""
    return {module.UMBRELLA.name: module.UMBRELLA for module in _modules() if hasattr(module, "UMBRELLA")}


def list_families(*, plugins: bool = True) -> tuple[Family, ...]:
    """All families, by name; MixFormer itself is not among them. `plugins`: those of other packages too.

    Raises:
        PluginRefused: a plug-in is broken.
    """
    found = {**_found(), **(_plugins() if plugins else {})}
    return tuple(family for _, family in sorted(found.items()))


def get_family(name: str) -> Family:
    """The family of that name.

    Raises:
        UsageError: there is none.
    """
    found = _found()
    if name not in found:
        found = {**found, **_plugins()}
    if name not in found:
        raise UsageError(f"there is no family {name!r}{nearest(name, found)}; known are {', '.join([*found, OURS])}")
    return found[name]


@cache
def _plugins() -> dict[str, Family]:
    """Name -> family of every installed package that brings one."""
    found: dict[str, Family] = {}
    for plugin in plugin_modules(GROUP):
        family = _family_in(plugin)
        if family.name in {*COMMANDS, *umbrellas(), *_found(), *found}:
            name = family.name
            raise PluginRefused(
                f"the package {plugin.package} brings a family {name!r}, but that name is taken; uninstall it"
            )
        found[family.name] = family
    return found


def _family_in(plugin: Plugin) -> Family:
    family = getattr(plugin.module, "FAMILY", None)
    if not isinstance(family, Family):
        raise PluginRefused(f"{plugin.named} of the package {plugin.package} has no FAMILY made of Family; {ADVICE}")
    return family


@cache
def _found() -> dict[str, Family]:
    return {module.FAMILY.name: module.FAMILY for module in _modules() if hasattr(module, "FAMILY")}


@cache
def _modules() -> tuple[ModuleType, ...]:
    """All modules of built-in families."""
    return tuple(import_module(f"{FAMILIES}.{name}") for _, name, _ in iter_modules(import_module(FAMILIES).__path__))


def target_family(to: str, config: Mapping[str, Any], dialect: str | None = None) -> str:
    """The family to convert to: for an umbrella the dialect that is named, or the one that a config came from.

    Raises:
        UsageError: an umbrella, and nothing tells which of its dialects is meant; or one it does not have.
    """
    umbrella = umbrellas().get(to)
    if umbrella is None:
        return to
    if dialect is not None:
        return umbrella.family(dialect)
    residue = config.get(RESIDUE)
    origin = residue.get("family") if isinstance(residue, dict) else config.get("model_type")
    if origin in [f"{to}-{name}" for name in umbrella.dialects]:
        return str(origin)
    raise UsageError(
        f"--to {to}: this model came from none of its dialects; name one: --dialect {' or '.join(umbrella.dialects)}"
    )


def dialect_of(name: str) -> str:
    """The family of the models that this dialect is another form of; empty for a family that is no dialect."""
    return "" if name == OURS else get_family(name).dialect_of


def family_of(config: Mapping[str, Any], chosen: str | None = None) -> str:
    """The name of the family that a config.json belongs to, by `model_type` or, without one, by `architectures`.

    chosen: the family to take where several fit or config.json names none, as those of 2019 do; ignored if it does not
    fit or does not exist.

    Raises:
        ConfigRefused: no family fits, or several do and none is chosen.
    """
    if config.get("model_type") in MODEL_TYPES:
        return OURS
    built_in = chosen in _found() or chosen in umbrellas()
    wanted = {} if chosen in (None, OURS) else _found() if built_in else _plugins()
    if chosen in wanted and (_fits(wanted[chosen], config) or is_unnamed(config)):
        return chosen
    fitting = [family.name for family in list_families(plugins=not built_in) if _fits(family, config)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigRefused(
            f"config.json fits {' and '.join(fitting)}; say which it is, for example: convert {fitting[0]} SOURCE"
        )
    known = ", ".join([*MODEL_TYPES, *(t for family in list_families() for t in family.model_types)])
    if is_unnamed(config):
        raise ConfigRefused("config.json has no model_type; say which family it is: convert FAMILY SOURCE --to TARGET")
    said = config.get("model_type"), config.get("architectures")
    raise ConfigRefused(
        f"config.json has model_type {said[0]!r} and architectures {said[1]!r}; the known types are {known}"
    )


def is_unnamed(config: Mapping[str, Any]) -> bool:
    """Whether a config has sizes alone and names neither a type nor a class."""
    return not config.get("model_type") and not config.get("architectures")


def _fits(family: Family, config: Mapping[str, Any]) -> bool:
    """Whether a config says that it is of this family."""
    model_type, classes = config.get("model_type"), config.get("architectures")
    return model_type in family.model_types if model_type else family.config.names_own_class(classes)

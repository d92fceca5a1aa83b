"""A family of checkpoints as a value, and finding one by its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Protocol

from converters.algebra.dims import Dims
from converters.algebra.views import Move, Same, View
from converters.checkpoint.checkpoint import StoredTensor
from converters.config import layout
from converters.config.table import ConfigTable
from converters.errors import PluginRefused, UsageError, nearest
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
    head_names: older keys of it. embedding: the key of the embedding, which a tied head may stand for.
    tied: what a config means that does not say whether head and embedding are one. buffers: stored tensors that a
    formula gives. tensors: from our resolved config to the shape of each tensor of ours; only a family that brings a
    block of its own has its own. dialect_of: the family whose models this is another form of. hot: the small model
    that it is tested with; a pair (config_class, sizes) is short for one that says no more. told: from keys and shapes
    of a bare state dict to the config that they say; None where they are not this family's. unstored: fields of theirs
    that say of tensors with one constant value that they are not stored: they end with that value. outputs: ends of
    the keys of matrices whose columns lie along the width of the model; of all others rows do. sample: a small model to
    try the family with; without one the plainest in the sizes of a sample is made. classes: names in `architectures`,
    of which a config has to name one where its model_type is that of several programs. own_head: whether the head is
    the embedding is what the family's table says, and nothing is concluded from tensors that are there or not. copies:
    a copy of another tensor that a checkpoint may store -> that tensor's key; the residue keeps, as `copies`, which
    were stored. knows: whether a config that names neither type nor class is of this family. safetensors: whether the
    programs of a dialect read safetensors with its key names.
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
    head_names: tuple[str, ...] = ()
    embedding: str = ""
    tied: bool = False
    buffers: tuple[BufferRule, ...] = ()
    tensors: Callable[[Mapping[str, Any]], Mapping[str, tuple[int, ...]]] = layout.tensors
    dialect_of: str = ""
    hot: Hot | tuple[str, Mapping[str, Any]] | None = None
    told: Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, Any] | None] | None = None
    unstored: frozenset[str] = frozenset()
    outputs: tuple[str, ...] = ()
    sample: Sample | None = None
    classes: tuple[str, ...] = ()
    own_head: bool = False
    copies: Mapping[str, str] = field(default_factory=dict)
    knows: Callable[[Mapping[str, Any]], bool] | None = None
    safetensors: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether the programs of a dialect read a folder with safetensors, as those of a family of transformers do."""
        return bool(self.classes or self.knows or self.safetensors)

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
        start = f"{self.name}_"
        return tuple(sorted(file.removeprefix(start).replace("_", "-") for file in _files() if file.startswith(start)))


def umbrellas() -> dict[str, Umbrella]:
    """Name -> umbrella."""
    return {module.UMBRELLA.name: module.UMBRELLA for module in _modules() if hasattr(module, "UMBRELLA")}


def find_umbrella(name: str) -> Umbrella | None:
    """The umbrella of that name, if there is one; no family is loaded."""
    return getattr(_module(name), "UMBRELLA", None)


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
    family = find_family(name)
    if family is None:
        found = [*_found(), *_plugins(), OURS]
        raise UsageError(f"there is no family {name!r}{nearest(name, found)}; known are {', '.join(found)}")
    return family


def find_family(name: str) -> Family | None:
    """The family of that name, if there is one. Of the built-in ones no other is loaded."""
    return _built_in(name) or _plugins().get(name)


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


def _built_in(name: str) -> Family | None:
    family = getattr(_module(name), "FAMILY", None)
    return family if family and family.name == name else None


def has_file(name: str) -> bool:
    """Whether a built-in family or umbrella has that name."""
    return _module(name) is not None


def _module(name: str) -> ModuleType | None:
    """The module of a built-in family or umbrella; its file has the same name, with _ for -."""
    file = name.replace("-", "_")
    return import_module(f"{FAMILIES}.{file}") if file in _files() else None


@cache
def _found() -> dict[str, Family]:
    return {module.FAMILY.name: module.FAMILY for module in _modules() if hasattr(module, "FAMILY")}


@cache
def _modules() -> tuple[ModuleType, ...]:
    """All modules of built-in families."""
    return tuple(import_module(f"{FAMILIES}.{name}") for name in _files())


@cache
def _files() -> tuple[str, ...]:
    """The names of their files."""
    return tuple(name for _, name, _ in iter_modules(import_module(FAMILIES).__path__))


def dialect_of(name: str) -> str:
    """The family of the models that this dialect is another form of; empty for a family that is no dialect."""
    return "" if name == OURS else get_family(name).dialect_of

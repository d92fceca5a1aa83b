"""Layers of different kinds: windows by `layer_types`, and layers whose heads do not rotate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.config.cannot_hold import CannotHold
from converters.config.kinds import BOOL, POSITIVE_INT, spelled
from converters.config.list_architecture import PerLayer, per_layer
from converters.errors import ConfigRefused
from converters.families.shared.rope import HEAD_DIM, ROTARY_DIM
from converters.families.shared.transformers_fields import head_dim_of
from converters.families.shared.windows import FULL, PATH, SLIDING, tokens_of, written

TYPES, WINDOW, LAYERS = "layer_types", "sliding_window", "num_hidden_layers"
Theirs = Mapping[str, Any]


def layers_of(theirs: Theirs) -> int:
    """The number of layers.

    Raises:
        ConfigRefused: it is no positive integer.
    """
    found: Any = theirs.get(LAYERS)
    if not POSITIVE_INT.holds(found):
        raise ConfigRefused(f"{LAYERS} is {found!r}, expected {POSITIVE_INT.words}")
    return int(found)


def each_layer(ours: Theirs, path: str) -> list[Any]:
    """The value of each layer of ours.

    Raises:
        ConfigRefused: n_layer is no size, or there is not one value for each layer.
    """
    value, n_layer = ours.get(path), ours["n_layer"]
    if not POSITIVE_INT.holds(n_layer):
        raise ConfigRefused(f"n_layer is {n_layer!r}, expected {POSITIVE_INT.words}")
    return list(value) if isinstance(value, PerLayer) else [value] * n_layer


def sliding_in(kind: Any) -> bool:
    """Whether a kind of layer has a window."""
    return bool(kind == SLIDING)


def every(n: int, name: str) -> Callable[[Theirs], list[str]]:
    """Every n-th layer is full and all others slide; `name`: an older field that says another n."""

    def kinds(theirs: Theirs) -> list[str]:
        step = theirs.get(name, n) if name else n
        if not POSITIVE_INT.holds(step):
            raise ConfigRefused(f"{name} is {spelled(step)}, expected {POSITIVE_INT.words}; or write {TYPES}")
        return [SLIDING if (i + 1) % step else FULL for i in range(layers_of(theirs))]

    return kinds


def all_alike(theirs: Theirs) -> list[str]:
    """All layers slide where there is a window."""
    return [FULL if theirs.get(WINDOW, 0) is None else SLIDING] * layers_of(theirs)


@dataclass(frozen=True)
class KindWindows:
    """`sliding_window` for the layers that `layer_types` says.

    default: of sliding_window. kinds: `layer_types` where theirs does not say it. switch: a flag that turns windows on.
    names: older fields that `kinds` reads.
    """

    default: int | None
    kinds: Callable[[Theirs], list[str]]
    switch: str = ""
    names: tuple[str, ...] = ()
    ours: tuple[str, ...] = (PATH,)
    also: tuple[str, ...] = ()

    @property
    def theirs(self) -> tuple[str, ...]:
        """The fields."""
        return (WINDOW, TYPES, *self.names, *((self.switch,) if self.switch else ()))

    def read(self, theirs: Theirs) -> dict[str, Any]:
        """The window of all layers, or one for each.

        Raises:
            ConfigRefused: a value is not allowed, or a layer has a window where there is none.
        """
        return {PATH: per_layer([written(tokens) for tokens in self.tokens(theirs)])}

    def tokens(self, theirs: Theirs) -> list[int | None]:
        """The tokens in the window of each layer, None for all."""
        size = theirs.get(WINDOW, self.default)
        if size is not None and not POSITIVE_INT.holds(size):
            raise ConfigRefused(f"{WINDOW} is {spelled(size)}, expected a positive integer or null")
        use = theirs.get(self.switch, False) if self.switch else True
        if not BOOL.holds(use):
            raise ConfigRefused(f"{self.switch} is {spelled(use)}, expected {BOOL.words}")
        kinds = kinds_of(theirs, self.kinds)
        if SLIDING in kinds and (size is None or not use):
            raise ConfigRefused(f"{TYPES} has {SLIDING!r}, but there is no window; set {self.switch or WINDOW}")
        return [size if kind == SLIDING else None for kind in kinds]

    def write(self, ours: Theirs) -> dict[str, Any]:
        """The fields; older ones are not written.

        Raises:
            CannotHold: there are windows of different sizes.
        """
        found = [tokens_of(window) for window in each_layer(ours, PATH)]
        size = one_size(found)
        fields = {WINDOW: size, TYPES: [SLIDING if tokens else FULL for tokens in found]}
        return fields | ({self.switch: size is not None} if self.switch else {})


def kinds_of(theirs: Theirs, otherwise: Callable[[Theirs], list[str]]) -> list[str]:
    """The kind of each layer.

    Raises:
        ConfigRefused: `layer_types` is no list of them, one for each layer.
    """
    said, n_layer = theirs.get(TYPES), layers_of(theirs)
    if said is None:
        return otherwise(theirs)
    if not isinstance(said, list) or len(said) != n_layer or not all(kind in (FULL, SLIDING) for kind in said):
        raise ConfigRefused(f"{TYPES} is {said!r}, expected a list of {n_layer}, each {FULL!r} or {SLIDING!r}")
    return said


def one_size(windows: Sequence[int | None]) -> int | None:
    """The size of all windows; None where there are none.

    Raises:
        CannotHold: they differ.
    """
    sizes = sorted({tokens for tokens in windows if tokens is not None})
    if len(sizes) > 1:
        raise CannotHold(f"its {PATH} has {sizes} tokens", "one window for all layers that have one", WINDOW)
    return sizes[0] if sizes else None


def rotates(ours: Theirs) -> list[bool]:
    """Whether the heads of each layer rotate, as a whole.

    Raises:
        CannotHold: a part of a head rotates.
    """
    found, head_dim = each_layer(ours, ROTARY_DIM), ours[HEAD_DIM]
    if any(type(dim) is not int or (dim > 0 and dim != head_dim) for dim in found):
        raise CannotHold(f"its {ROTARY_DIM} is {ours.get(ROTARY_DIM)!r}", f"0 or head_dim, {head_dim}", ROTARY_DIM)
    return [dim > 0 for dim in found]


def rotary_dims(theirs: Theirs, rotating: Sequence[bool]) -> dict[str, Any]:
    """What ours says of layers whose heads rotate as a whole, or not at all."""
    head_dim = head_dim_of(theirs)
    return {ROTARY_DIM: per_layer([head_dim if turns else 0 for turns in rotating]), "rotary_dim": head_dim}


@dataclass(frozen=True)
class RotatingLayers:
    """`no_rope_layers`: 1 for a layer whose heads rotate and 0 for one without positions, which is every n-th."""

    name: str = "no_rope_layers"
    step: str = "no_rope_layer_interval"
    n: int = 4
    ours: tuple[str, ...] = (ROTARY_DIM,)
    also: tuple[str, ...] = ("rotary_dim",)

    @property
    def theirs(self) -> tuple[str, ...]:
        """The fields."""
        return self.name, self.step

    def flags(self, theirs: Theirs) -> list[bool]:
        """Whether each layer rotates.

        Raises:
            ConfigRefused: a value is not allowed.
        """
        n_layer, said = layers_of(theirs), theirs.get(self.name)
        if said is None:
            step = theirs.get(self.step, self.n)
            if not POSITIVE_INT.holds(step):
                raise ConfigRefused(f"{self.step} is {spelled(step)}, expected {POSITIVE_INT.words}")
            return [(i + 1) % step != 0 for i in range(n_layer)]
        if (
            not isinstance(said, list)
            or len(said) < n_layer
            or any(type(k) is not int or k not in (0, 1) for k in said)
        ):
            raise ConfigRefused(f"{self.name} is {said!r}, expected a list of {n_layer} numbers, each 0 or 1")
        return [k == 1 for k in said[:n_layer]]

    def read(self, theirs: Theirs) -> dict[str, Any]:
        """How many dimensions rotate in each layer."""
        return rotary_dims(theirs, self.flags(theirs))

    def write(self, ours: Theirs) -> dict[str, Any]:
        """The list.

        Raises:
            CannotHold: a part of a head rotates.
        """
        return {self.name: [int(turns) for turns in rotates(ours)], self.step: self.n}


@dataclass(frozen=True)
class SlidingRotates:
    """EXAONE-4's layers: with `sliding_window`, those with a window rotate and the others have no positions."""

    default: int = 4096
    step: str = "sliding_window_pattern"
    ours: tuple[str, ...] = (PATH, ROTARY_DIM)
    also: tuple[str, ...] = ("rotary_dim",)

    @property
    def theirs(self) -> tuple[str, ...]:
        """The fields."""
        return WINDOW, TYPES, self.step

    def read(self, theirs: Theirs) -> dict[str, Any]:
        """The windows, and how many dimensions rotate in each layer.

        Raises:
            ConfigRefused: a value is not allowed, or a layer has a window where there is none.
        """
        tokens = KindWindows(self.default, every(4, self.step)).tokens(theirs)
        whole = theirs.get(WINDOW, self.default) is None
        dims = rotary_dims(theirs, [whole or size is not None for size in tokens])
        return {PATH: per_layer([written(size) for size in tokens]), **dims}

    def write(self, ours: Theirs) -> dict[str, Any]:
        """The fields.

        Raises:
            CannotHold: a layer without a window rotates beside one with a window, or the other way round.
        """
        windows, turns = [tokens_of(window) for window in each_layer(ours, PATH)], rotates(ours)
        size = one_size(windows)
        whole = size is None and all(turns)
        if not whole and turns != [tokens is not None for tokens in windows]:
            needs = "rotary positions on the layers with a window alone, or on all layers and no window"
            raise CannotHold(f"its {ROTARY_DIM} is {ours.get(ROTARY_DIM)!r}", needs, ROTARY_DIM)
        found = {TYPES: [SLIDING if tokens else FULL for tokens in windows]}
        return found | {WINDOW: None if whole else size or self.default, self.step: 0 if whole else 4}

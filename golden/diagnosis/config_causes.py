"""Fields of config.json that differ from what the reference's config means, with the config that corrects them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from converters.config import layout
from converters.config.kinds import same
from converters.config.list_architecture import PerLayer, as_list
from converters.config_alignment import ECHOES, FREE, SAID, families_of
from converters.errors import ConversionError
from converters.family import OURS, get_family
from golden.diagnosis.hypotheses import SHOWS_IN
from golden.models.anatomy import Anatomy
from golden.models.loading import says_mixformer
from golden.models.parts import ConfigPath
from golden.weights.facts import numbered
from golden.weights.places import rank

DEPTH = ("n_layer", "num_hidden_layers")  # another number of layers is told by the weights
IGNORED = FREE | {*ECHOES, *SAID, *DEPTH, "architectures", "transformers_version", "_name_or_path", "model_type"}
Config = Mapping[str, Any]


@dataclass(frozen=True)
class FieldCause:
    """One field of config.json: what it says and what it should say; None where it says nothing.

    ``also``: other places that hold the same value.
    """

    path: str
    now: Any
    should: Any
    name: str
    place: str
    also: tuple[str, ...] = ()

    @property
    def claim(self) -> str:
        """The difference in a sentence; of a value for each layer, that of the layers that differ."""
        layers = self.layers
        if not layers:
            return f"{self.name} is {_said(self.now)} and should be {_said(self.should)}"
        groups: dict[tuple[str, str], list[int]] = {}
        for i in layers:
            groups.setdefault((_said(self.now[i]), _said(self.should[i])), []).append(i)
        return "; ".join(
            f"layer{'s' if len(found) > 1 else ''} {numbered(found)}: {self.name} is {now} and should be {should}"
            for (now, should), found in groups.items()
        )

    @property
    def undo(self) -> str:
        """What is applied to correct it, in words."""
        if self.layers:
            return f"the right {self.name} in each layer"
        return f"no {self.name}" if self.should is None else f"{self.name} {self.should}"

    @property
    def layers(self) -> list[int]:
        """The layers that differ, where both sides have a value for each."""
        both = isinstance(self.now, PerLayer) and isinstance(self.should, PerLayer)
        return [i for i, pair in enumerate(zip(self.now, self.should, strict=True)) if not same(*pair)] if both else []


LATE = ("tie", "logit_scale_init", "logit_scale_scaling", "logit_multiplier", "logit_softcap")
"""Fields that the logits show first."""


def _said(value: Any) -> str:
    return "not said" if value is None else str(value)


def expected_config(candidate: Config, reference: Config) -> Config | None:
    """What the candidate's config.json would be if the reference were converted; None where that is not known."""
    try:
        mine, theirs = families_of(candidate, reference)
        if mine == theirs:
            return reference
        ours = reference if theirs == OURS else get_family(theirs).config.to_ours(reference, theirs)
        return ours if mine == OURS else get_family(mine).config.to_theirs(ours, mine)
    except (ConversionError, KeyError, TypeError, ValueError, AttributeError):
        return None


def field_causes(candidate: Config, expected: Config, anatomy: Anatomy | None) -> list[FieldCause]:
    """Every field that may change the function and says something else, in the order in which it shows."""
    try:
        now, should = _leaves(candidate), _leaves(expected)
    except ConversionError:
        return []
    found = [
        FieldCause(path, *_spread(_stated(candidate, path, now.get(path)), should.get(path)), *_named(path, anatomy))
        for path in sorted(now.keys() | should.keys())
        if path not in IGNORED and path.split(".")[0] not in IGNORED and not same(now.get(path), should.get(path))
    ]
    found = [cause for cause in found if cause.now is not None or cause.should is not None]
    found = [replace(c, place=f"layer {c.layers[0]}") if c.layers else c for c in _joined(found, anatomy)]
    return sorted(found, key=lambda cause: rank(cause.place))


def _spread(now: Any, should: Any) -> tuple[Any, Any]:
    """Both values for each layer, where one side has one for each."""
    count = max((len(value) for value in (now, should) if isinstance(value, PerLayer)), default=0)
    if not count:
        return now, should
    one, other = (value if isinstance(value, PerLayer) else PerLayer((value,) * count) for value in (now, should))
    return (one, other) if len(one) == len(other) else (now, should)


def _joined(causes: list[FieldCause], anatomy: Anatomy | None) -> list[FieldCause]:
    """Fields of one name that all say the same wrong value as one."""
    left = {cause.path: cause for cause in causes}
    for dial, places in anatomy.dials.items() if anatomy else ():
        group = [left[path] for path in dict.fromkeys(map(_dotted, places)) if path in left]
        alike = len(group) > 1 and all(same(c.now, group[0].now) and same(c.should, group[0].should) for c in group)
        if alike and len(group) == len(set(map(_dotted, places))):
            also = tuple(cause.path for cause in group[1:])
            left[group[0].path] = replace(group[0], name=dial, also=also)
            for path in also:
                del left[path]
    return list(left.values())


def _dotted(place: ConfigPath) -> str:
    return ".".join(str(step) for step in place if isinstance(step, str))


def _leaves(config: Config) -> dict[str, Any]:
    """Dotted paths to values; of a MixFormer with every default said."""
    return dict(_flat("", layout.resolve(config) if says_mixformer(config) else config))


def _stated(config: Config, path: str, resolved: Any) -> Any:
    """The value that a config states, also where it is one that `layout.resolve` leaves out because it is neutral."""
    if resolved is not None:
        return resolved
    place, rest = next(_places(dict(config), path))
    value: Any = place
    for step in rest.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _flat(start: str, config: Config) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{start}{name}.", value)
        else:
            yield f"{start}{name}", value


def _named(path: str, anatomy: Anatomy | None) -> tuple[str, str]:
    """The short name of a field, and the stage in which a wrong value shows first."""
    for dial, places in anatomy.dials.items() if anatomy else ():
        if path in map(_dotted, places):
            early = "embeddings" if dial == "embd_scale" else "layer 0"
            return dial, "logits" if dial in LATE else _stage(SHOWS_IN.get(dial, (early,))[0])
    return path, "layer 0"


def _stage(stage: str) -> str:
    return "layer 0, norm 1" if stage == "layer 0, norm" else stage


def corrected(candidate: Config, causes: list[FieldCause]) -> dict[str, Any]:
    """The candidate's config with these fields as they should be, in every block."""
    config: dict[str, Any] = copy.deepcopy(dict(candidate))
    for cause in causes:
        for path in (cause.path, *cause.also):
            blocks = config.get("architecture")
            for place, rest in _places(config, path):
                by_layer = cause.layers and isinstance(blocks, list) and place is not config
                _set(place, rest, cause.should[_index(blocks, place)] if by_layer else cause.should)
    return as_list(config) if isinstance(config.get("architecture"), dict) else config


def _index(blocks: Any, block: dict[str, Any]) -> int:
    return next(i for i, one in enumerate(blocks) if one is block)


def _places(config: dict[str, Any], path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects that hold a field, and its path in each: a MixFormer may list its blocks one by one."""
    top, _, rest = path.partition(".")
    blocks = config.get("architecture")
    if top != "architecture" or not isinstance(blocks, list):
        yield config, path
        return
    if rest.startswith(("head.", "loss.")):
        yield config, rest
        return
    if rest.startswith("norm."):
        yield config, f"final_{rest}"
    yield from ((block, rest) for block in blocks)


def _set(place: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if not isinstance(place.get(parent), dict):
            place[parent] = {}
        place = place[parent]
    if value is None:
        place.pop(name, None)
    else:
        place[name] = value

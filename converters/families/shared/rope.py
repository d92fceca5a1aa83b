"""Rotary position embeddings in theirs' configs: one meaning, two spellings.

Since transformers 5 a config says `rope_parameters: {rope_theta, rope_type, ...}`; before, it said `rope_theta` and
`rope_scaling: {type or rope_type, ...}`. Both are read. Both are written: readers of either age find their own.

Types and parameters are those of `ROPE_INIT_FUNCTIONS` in transformers 5.23. A type other than the default stands in
ours as `mixer.rope_parameters`, a keyword on which the SDK raises, because it would ignore any other place.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from converters.config.cannot_hold import CannotHold
from converters.config.kinds import FACTORS, FRACTION, POSITIVE, POSITIVE_INT, Kind, same
from converters.config.list_architecture import PerLayer
from converters.errors import ConfigRefused, nearest

BASE, PARAMETERS = "architecture.mixer.rotary_base", "architecture.mixer.rope_parameters"
ROTARY_DIM, HEAD_DIM = "architecture.mixer.rotary_dim", "architecture.mixer.head_dim"
TYPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "proportional": (),
}
BOOLEAN = Kind("true or false", lambda value: type(value) is bool)
KNOWN: dict[str, Kind] = {
    "factor": POSITIVE,
    "attention_factor": POSITIVE,
    "beta_fast": POSITIVE,
    "beta_slow": POSITIVE,
    "mscale": POSITIVE,
    "mscale_all_dim": POSITIVE,
    "truncate": BOOLEAN,
    "short_factor": FACTORS,
    "long_factor": FACTORS,
    "low_freq_factor": POSITIVE,
    "high_freq_factor": POSITIVE,
    "original_max_position_embeddings": POSITIVE_INT,
    "partial_rotary_factor": FRACTION,
}
# Parameters that other readers know and transformers ignores, and what they are for there.
ELSEWHERE = {
    "attn_factor": "other readers multiply attention by it",
    "short_mscale": "other readers multiply attention by it",
    "long_mscale": "other readers multiply attention by it",
    "finetuned": "other readers choose the kind of yarn by it",
}
TYPO = 0.9  # how much alike two names are that mean the same
SAID = {*KNOWN, "type", "rope_type", "rope_theta", "llama_4_scaling_beta"}  # the last: Ministral-3's


@dataclass(frozen=True)
class Rope:
    """The entry for all rope types of a decoder whose whole head rotates."""

    default_theta: float = 10000.0
    theirs: tuple[str, ...] = ("rope_theta", "rope_parameters", "rope_scaling")
    ours: tuple[str, ...] = (BASE, PARAMETERS)
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """`rotary_base`, and `rope_parameters` for a type other than the default.

        Raises:
            ConfigRefused: an unknown type or parameter, an unsound value, a missing one, or two thetas that differ.
        """
        old, new = _object(theirs, "rope_scaling"), _object(theirs, "rope_parameters")
        theta = self._theta({**old, **new}, theirs)
        meanings = [_meaning(spelling) for spelling in (old, new) if spelling]
        if len(meanings) == 2 and not same(*meanings):
            raise ConfigRefused(
                f"rope_scaling says {meanings[0]} and rope_parameters {meanings[1]}; they differ, keep one"
            )
        parameters = dict(meanings[-1]) if meanings else {}
        kind = parameters.pop("rope_type", "default")
        _check(kind, parameters, theirs)
        if kind == "default":
            return {BASE: theta}
        return {BASE: theta, PARAMETERS: {"rope_type": kind, "rope_theta": theta, **dict(sorted(parameters.items()))}}

    def _theta(self, parameters: dict[str, Any], theirs: Mapping[str, Any]) -> Any:
        thetas = [source["rope_theta"] for source in (parameters, theirs) if "rope_theta" in source]
        parameters.pop("rope_theta", None)
        theta = thetas[0] if thetas else self.default_theta
        if not POSITIVE.holds(theta):
            raise ConfigRefused(f"rope_theta is {theta!r}, expected {POSITIVE.words}")
        if not all(same(theta, other) for other in thetas):
            raise ConfigRefused(
                f"rope_theta is {thetas[1]} and rope_parameters.rope_theta {thetas[0]}; they differ, keep one"
            )
        return theta

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Both spellings."""
        theta, given = ours[BASE], ours.get(PARAMETERS)
        for path in (BASE, PARAMETERS):
            if isinstance(ours.get(path), PerLayer):
                raise CannotHold(f"its {path} is {ours[path]!r}", "one rope for all layers", path)
        if not POSITIVE.holds(theta):
            raise ConfigRefused(f"{BASE} is {theta!r}, expected {POSITIVE.words}")
        if given is None:
            return {"rope_theta": theta, "rope_parameters": {"rope_theta": theta, "rope_type": "default"}}
        parameters = dict(given) if isinstance(given, dict) else {}
        kind, own = parameters.pop("rope_type", None), parameters.pop("rope_theta", theta)
        if not same(own, theta):
            raise ConfigRefused(f"{PARAMETERS}.rope_theta is {own!r} and {BASE} {theta!r}; they differ, keep one")
        _check(kind, parameters)
        both = {"rope_type": kind, **parameters}
        return {"rope_theta": theta, "rope_scaling": both, "rope_parameters": {"rope_theta": theta, **both}}


def _object(theirs: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = theirs.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigRefused(f"{name} is {value!r}, expected an object or null")
    return dict(value)


def _meaning(spelling: Mapping[str, Any]) -> dict[str, Any]:
    """One spelling without theta, its type under its new name."""
    rest = {name: value for name, value in spelling.items() if name not in ("type", "rope_type", "rope_theta")}
    return {"rope_type": spelling.get("rope_type", spelling.get("type", "default")), **rest}


def _check(kind: Any, parameters: Mapping[str, Any], theirs: Mapping[str, Any] | None = None) -> None:
    """Type and parameters must be those that transformers runs."""
    if not isinstance(kind, str) or kind not in TYPES:
        raise ConfigRefused(f"rope_type is {kind!r}; conversions know {', '.join(TYPES)}")
    for name in TYPES[kind]:
        if parameters.get(name) is None:
            raise ConfigRefused(f"rope_parameters.{name} is missing; rope_type {kind!r} needs it")
    if unknown := [name for name in parameters if name not in KNOWN]:
        raise ConfigRefused(_unknown(unknown))
    for name, value in parameters.items():
        if value is not None and not KNOWN[name].holds(value):
            raise ConfigRefused(f"rope_parameters.{name} is {value!r}, expected {KNOWN[name].words}")
    if theirs is not None and kind == "longrope":
        _check_lengths(parameters, theirs)
    if kind not in ("default", "proportional") and parameters.get("partial_rotary_factor", 1) != 1:
        factor = parameters["partial_rotary_factor"]
        raise ConfigRefused(f"partial_rotary_factor {factor} with rope_type {kind!r}: transformers has no such rope")


def _unknown(names: Iterable[str]) -> str:
    """What to do about parameters that transformers ignores, as words that can be pasted."""
    names = list(names)
    told = [f"{name} ({ELSEWHERE[name]})" if name in ELSEWHERE else name + nearest(name, KNOWN, TYPO) for name in names]
    words = " ".join(f"--waive {shlex.quote(f'rope_parameters.{name}')}" for name in names)
    return (
        f"rope_parameters has unknown names: {', '.join(told)}. transformers ignores them. If you mean it to run"
        f" without them, add: {words}"
    )


def _check_lengths(parameters: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """One factor for each frequency: half of the head's dimensions."""
    width, heads, head_dim = (theirs.get(name) for name in ("hidden_size", "num_attention_heads", "head_dim"))
    if head_dim is None and type(width) is int and type(heads) is int and heads > 0:
        head_dim = width // heads
    for name in ("short_factor", "long_factor"):
        if type(head_dim) is int and len(parameters[name]) != head_dim // 2:
            raise ConfigRefused(f"rope_parameters.{name} has {len(parameters[name])} factors, expected {head_dim // 2}")

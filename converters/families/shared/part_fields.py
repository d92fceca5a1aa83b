"""Entries for parts of MixFormer that are not of the SDK: multipliers, caps, scales of scores, biases everywhere."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from converters.config.cannot_hold import CannotHold
from converters.config.entries import Entry, OneField, OnePath, Ours
from converters.config.kinds import POSITIVE, Kind, same, spelled
from converters.config.part_layout import BLOCK as RESIDUAL
from converters.config.part_layout import (
    CLIP,
    EMBD_SCALE,
    LOGIT_MULTIPLIER,
    LOGIT_SOFTCAP,
    NORMS,
    OVER,
    RESIDUAL_SCALE,
    ZERO_CENTRED,
)
from converters.errors import ConfigRefused
from converters.families.shared.transformers_fields import HEAD, MIXER, NORM

SCORE_SCALE, SOFTCAP = MIXER + "softmax_scale", MIXER + "softcap"
NUMBER = Kind("a number", lambda value: type(value) in (int, float) and abs(value) < 1e300)
ZERO_CENTRED_RMS = (Ours(NORM + "norm_cls", ("flash_rms",)), Ours(ZERO_CENTRED, (True,)))
ZERO_CENTRED_LAYER_NORM = (Ours(NORM + "norm_cls", ("torch",)), Ours(ZERO_CENTRED, (True,)))
WIDTH_NORM = (Ours(MIXER + "qk_norm", (True,)), Ours(OVER, ("width",)))
HEAD_NORM = Ours(MIXER + "qk_norm", (True,))


def residual_block(norms: str, *, embedding: str = "default", scaled: bool = False) -> tuple[Entry, ...]:
    """The architecture: residual blocks with norms "before", "after" or "both", and a head without a bias.

    scaled: branches have a multiplier, for which the table has an entry of its own.
    """
    return (
        Ours("architecture.block_cls", (RESIDUAL,)),
        Ours(NORMS, (norms,)),
        *(() if scaled else (Ours(RESIDUAL_SCALE, (1.0,), written=False),)),
        Ours("embd_layer", (embedding,)),
        Ours(HEAD + "head_cls", ("causal_lm",)),
        Ours(HEAD + "use_bias", (False,)),
    )


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Number(OneField, OnePath):
    """A number that both sides have; where ours does not say it, it is `neutral`.

    name: theirs. path: ours. default: where theirs does not say it. into, back: from a value of theirs to ours, and
    from ours to theirs; `back` gives what `into` takes back to the same value. null: null in theirs is `neutral`.
    """

    name: str
    path: str
    neutral: Any
    default: Any
    kind: Kind = NUMBER
    null: bool = False
    into: Callable[[Any], Any] = _as_it_is
    back: Callable[[Any], Any] = _as_it_is
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The path, unless it says nothing.

        Raises:
            ConfigRefused: it is no number of this kind.
        """
        value = theirs.get(self.name, self.default)
        if value is None and self.null:
            return {}
        if not self.kind.holds(value):
            raise ConfigRefused(f"{self.name} is {spelled(value)}, expected {self.kind.words}")
        return {self.path: self.into(value)}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The field.

        Raises:
            CannotHold: ours is no number of this kind.
        """
        value = ours.get(self.path, self.neutral)
        if same(value, self.neutral) and self.null:
            return {self.name: None}
        if not NUMBER.holds(value) or not self.kind.holds(found := self.back(value)):
            raise CannotHold(f"its {self.path} is {spelled(value)}", self.kind.words, self.path)
        return {self.name: found}


def inverse(value: float) -> float:
    """1 / value, with few digits wherever that gives the value back; 0, which is no divisor, for 0."""
    if not value:
        return 0.0
    plain = 1.0 / value
    return next((n for n in (round(plain, 6), round(plain, 12)) if n and 1.0 / n == value), plain)


def embedding_multiplier(name: str, default: float) -> Entry:
    """What embeddings are multiplied by."""
    return Number(name, EMBD_SCALE, 1.0, default)


def residual_multiplier(name: str, default: float) -> Entry:
    """What each branch is multiplied by."""
    return Number(name, RESIDUAL_SCALE, 1.0, default)


def logit_multiplier(name: str, default: float) -> Entry:
    """What logits are multiplied by."""
    return Number(name, LOGIT_MULTIPLIER, 1.0, default)


def logit_divisor(name: str, default: float) -> Entry:
    """What logits are divided by."""
    return Number(name, LOGIT_MULTIPLIER, 1.0, default, POSITIVE, into=inverse, back=inverse)


def score_cap(name: str, default: float | None) -> Entry:
    """The bound of attention scores, null for none."""
    return Number(name, SOFTCAP, 0.0, default, POSITIVE, null=True)


def logit_cap(name: str, default: float | None) -> Entry:
    """The bound of logits, null for none."""
    return Number(name, LOGIT_SOFTCAP, 0.0, default, POSITIVE, null=True)


def clip(name: str) -> Entry:
    """The bound of q, k and v, null for none."""
    return Number(name, CLIP, None, None, POSITIVE, null=True)


@dataclass(frozen=True)
class ScoreScale(OneField):
    """What attention scores are multiplied by: the value of a field, or its inverse square root with `root`."""

    name: str
    default: float
    root: bool = False
    ours: tuple[str, ...] = (SCORE_SCALE,)
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The factor.

        Raises:
            ConfigRefused: it is no positive number.
        """
        value = theirs.get(self.name, self.default)
        if not POSITIVE.holds(value):
            raise ConfigRefused(f"{self.name} is {spelled(value)}, expected {POSITIVE.words}")
        return {SCORE_SCALE: float(value) ** -0.5 if self.root else value}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The field; what ours does not say is 1 / sqrt(head_dim).

        Raises:
            CannotHold: ours is no positive number.
        """
        scale, head_dim = ours.get(SCORE_SCALE), ours[MIXER + "head_dim"]
        if scale is None:
            return {self.name: head_dim if self.root else head_dim**-0.5}
        if not POSITIVE.holds(scale):
            raise CannotHold(f"its {SCORE_SCALE} is {spelled(scale)}", POSITIVE.words, SCORE_SCALE)
        return {self.name: _squared(scale) if self.root else scale}


def _squared(scale: float) -> float:
    """The number whose inverse square root this is: a whole one if there is one."""
    plain = scale**-2
    return round(plain) if round(plain) and float(round(plain)) ** -0.5 == scale else plain

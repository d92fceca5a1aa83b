"""Config entries of GGUF metadata: special ids, and rotary embeddings with a type or with a tensor of factors."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Config, Entry, Field
from converters.config.kinds import POSITIVE, POSITIVE_INT, TOKEN
from converters.errors import ConfigRefused
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.meta_fields import llama3, llama3_factor
from converters.families.shared.rope import BASE, PARAMETERS

THETA, SCALE = "llama.rope.freq_base", "rope_freqs.factor"
KIND, FACTOR, ORIGINAL = (f"llama.rope.scaling.{name}" for name in ("type", "factor", "original_context_length"))
FINETUNED, OLD_FACTOR = "llama.rope.scaling.finetuned", "llama.rope.scale_linear"
NEUTRAL = ("none", None)


def gguf_tokens() -> tuple[Entry, ...]:
    """Special ids, which belong to the tokenizer there."""
    names = (("bos", "bos"), ("eos", "eos"), ("padding", "pad"))
    return tuple(Field(f"tokenizer.ggml.{name}_token_id", (f"{ours}_token_id",), TOKEN, None) for name, ours in names)


class GgufRope:
    """Theta; a scaling of type linear or yarn; or LLaMA 3.1's factors, which are a tensor (`rope_freqs.weight`)."""

    theirs: tuple[str, ...] = (THETA, KIND, FACTOR, ORIGINAL, FINETUNED, OLD_FACTOR, SCALE)
    ours: tuple[str, ...] = (BASE, PARAMETERS)
    also: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """`rotary_base`, and `rope_parameters` where they are scaled.

        Raises:
            ConfigRefused: an unknown type, a value that is not allowed, or two scalings at once.
        """
        theta, kind = theirs.get(THETA, 10000.0), theirs.get(KIND)
        factor = theirs.get(FACTOR, theirs.get(OLD_FACTOR))
        if not POSITIVE.holds(theta) or not (factor is None or POSITIVE.holds(factor)):
            raise ConfigRefused(f"{THETA} is {theta!r} and {FACTOR} {factor!r}, expected {POSITIVE.words}")
        scaled = _scaling(kind if kind is not None or factor in (None, 1) else "linear", factor, theirs)
        if SCALE in theirs:
            if scaled:
                raise ConfigRefused(
                    f"{KIND} is {kind!r}, but there is a tensor rope_freqs.weight too; expected one scaling"
                )
            scaled = llama3(theta, theirs[SCALE])
        return {BASE: theta, PARAMETERS: {**scaled, "rope_theta": theta}} if scaled else {BASE: theta}

    def write(self, ours: Config) -> dict[str, Any]:
        """The entries that mean the same.

        Raises:
            CannotHold: a rope type that llama.cpp does not have, or has with other parameters.
        """
        theta, given = ours[BASE], ours.get(PARAMETERS)
        if given is None:
            return {THETA: theta}
        kind = given.get("rope_type") if isinstance(given, Mapping) else None
        rest = {n: v for n, v in dict(given).items() if n not in ("rope_type", "rope_theta", "factor")}
        if kind == "linear" and not rest:
            return {THETA: theta, KIND: kind, FACTOR: given["factor"]}
        if kind == "yarn" and rest.keys() == {"original_max_position_embeddings"}:
            return {
                THETA: theta,
                KIND: kind,
                FACTOR: given["factor"],
                ORIGINAL: rest["original_max_position_embeddings"],
            }
        return {THETA: theta, SCALE: llama3_factor(given, theta)}


def _scaling(kind: Any, factor: Any, theirs: Config) -> dict[str, Any]:
    if kind in NEUTRAL:
        return {}
    if kind not in ("linear", "yarn") or factor is None:
        raise ConfigRefused(
            f"{KIND} is {kind!r} and {FACTOR} is {factor!r}; expected none, or linear or yarn with a factor"
        )
    if kind == "linear":
        return {"rope_type": kind, "factor": factor}
    original = theirs.get(ORIGINAL)
    if not POSITIVE_INT.holds(original):
        raise ConfigRefused(f"{ORIGINAL} is {original!r}, expected {POSITIVE_INT.words}; yarn needs it")
    return {"rope_type": kind, "factor": factor, "original_max_position_embeddings": original}


def frequency_factors(resolved: Mapping[str, Any]) -> Sequence[float]:
    """The divisor of each frequency, 1 where it stays as it is (the llama3 rope of transformers 5.23)."""
    given = resolved.get(PARAMETERS)
    if not isinstance(given, Mapping) or given.get("rope_type") != "llama3":
        return [1.0] * len(inv_freq(resolved))
    low, high, original = (
        given[n] for n in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    return [_divisor(original * freq / (2 * math.pi), low, high, given["factor"]) for freq in inv_freq(resolved)]


def _divisor(turns: float, low: float, high: float, factor: float) -> float:
    """turns: of a rotary pair over the original context."""
    if turns > high:
        return 1.0
    if turns < low:
        return factor
    smooth = (turns - low) / (high - low)
    return 1 / ((1 - smooth) / factor + smooth)

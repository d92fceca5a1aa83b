"""Partial rotary embeddings, which rotate a part of each head: `partial_rotary_factor` theirs, `rotary_dim` ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.config.kinds import FRACTION, LARGEST, POSITIVE_INT
from converters.errors import ConfigRefused
from converters.families.shared.rope import BASE, HEAD_DIM, PARAMETERS, ROTARY_DIM, Rope
from converters.families.shared.transformers_fields import head_dim_of

FACTOR, ORIGINAL = "partial_rotary_factor", "original_max_position_embeddings"
SPELLINGS = ("rope_parameters", "rope_scaling")


@dataclass(frozen=True)
class PartialRope:
    """The fields of `Rope`, and the part of a head that rotates.

    default: the factor where theirs has none. head_dim: the width of a head where theirs does not say it, if it does
    not follow from other fields.
    """

    default: float
    theirs: tuple[str, ...] = ("rope_theta", *SPELLINGS, FACTOR)
    ours: tuple[str, ...] = (BASE, PARAMETERS, ROTARY_DIM)
    also: tuple[str, ...] = ("rotary_dim",)
    head_dim: int | None = None

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """`rotary_base`, `rotary_dim`, and `rope_parameters` for a type other than the default.

        Raises:
            ConfigRefused: as `Rope`; also two factors that differ, or an odd number of rotating dimensions.
        """
        factor, head_dim = self._factor(theirs), head_dim_of(theirs, self.head_dim)
        if not POSITIVE_INT.holds(head_dim):
            raise ConfigRefused(f"head_dim is {head_dim!r}, expected {POSITIVE_INT.words}")
        rotary_dim = int(head_dim * factor)  # as transformers rounds it
        if rotary_dim % 2:
            raise ConfigRefused(
                f"{FACTOR} {factor} of head_dim {head_dim} is {rotary_dim} rotating dimensions, expected an even number"
            )
        plain = {name: value for name, value in theirs.items() if name != FACTOR}
        for name in SPELLINGS:
            if isinstance(plain.get(name), dict):
                plain[name] = {key: value for key, value in plain[name].items() if key != FACTOR}
        found = Rope().read({**plain, "head_dim": rotary_dim})
        kind = found.get(PARAMETERS, {}).get("rope_type")
        if kind == "proportional" and rotary_dim != head_dim:
            raise ConfigRefused(f"rope_type is 'proportional' and {FACTOR} is {factor}, which transformers cannot run")
        return {**found, ROTARY_DIM: rotary_dim, "rotary_dim": rotary_dim}

    def _factor(self, theirs: Mapping[str, Any]) -> float:
        places = [theirs, *(theirs[name] for name in SPELLINGS if isinstance(theirs.get(name), dict))]
        said = [place[FACTOR] for place in places if place.get(FACTOR) is not None]
        if any(value != said[0] for value in said):
            raise ConfigRefused(f"{FACTOR} is {' and '.join(map(repr, said))}; expected one value")
        factor = said[0] if said else self.default
        if not FRACTION.holds(factor):
            raise ConfigRefused(f"{FACTOR} is {factor!r}, expected {FRACTION.words}")
        return float(factor)

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Both spellings of the rope fields; the factor beside them and in `rope_parameters`."""
        for name, least in ((ROTARY_DIM, -1), (HEAD_DIM, 1)):
            if type(ours[name]) is not int or not least <= ours[name] < LARGEST:
                raise ConfigRefused(f"{name} is {ours[name]!r}, expected a whole number of at least {least}")
        found = Rope().write(ours)
        factor = _fraction(max(ours[ROTARY_DIM], 0), ours[HEAD_DIM])
        return {**found, FACTOR: factor, "rope_parameters": {**found["rope_parameters"], FACTOR: factor}}


def _fraction(part: int, whole: int) -> float:
    """A factor that transformers rounds to `part`: the quotient, or a little more where the quotient gives less."""
    return part / whole if int(whole * (part / whole)) == part else (part + 0.5) / whole


@dataclass(frozen=True)
class Phi3Rope(PartialRope):
    """The rope of Phi-3: default or longrope (earlier "su" and "yarn"), with the original length, 4096 by default."""

    theirs: tuple[str, ...] = ("rope_theta", *SPELLINGS, FACTOR, ORIGINAL)

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """As `PartialRope`; an original length outside the parameters replaces one inside."""
        original = theirs.get(ORIGINAL, 4096)
        if not POSITIVE_INT.holds(original):
            raise ConfigRefused(f"{ORIGINAL} is {original!r}, expected {POSITIVE_INT.words}")
        modern = {name: _modern(theirs[name], original) for name in SPELLINGS if isinstance(theirs.get(name), dict)}
        found = super().read({**theirs, **modern})
        _only_longrope(found.get(PARAMETERS))
        return found

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """As `PartialRope`; older versions of transformers need exactly three fields in `rope_scaling`."""
        found = super().write(ours)
        if PARAMETERS not in ours or ours[PARAMETERS] is None:
            return found
        _only_longrope(ours[PARAMETERS])
        parameters = found["rope_parameters"]
        original = parameters.get(ORIGINAL) or ours["n_positions"]
        rest = {name: value for name, value in found["rope_scaling"].items() if name not in (ORIGINAL, "rope_type")}
        return {
            **found,
            "rope_scaling": {"type": "longrope", **rest},
            "rope_parameters": {**parameters, ORIGINAL: original},
            ORIGINAL: original,
        }


def _modern(spelling: Mapping[str, Any], original: int) -> dict[str, Any]:
    kind = spelling.get("rope_type", spelling.get("type", "default"))
    rest = {name: value for name, value in spelling.items() if name not in ("type", "rope_type", ORIGINAL)}
    kind = "longrope" if kind in ("su", "yarn") else kind
    return {**rest, "rope_type": kind, **({ORIGINAL: original} if kind == "longrope" else {})}


def _only_longrope(parameters: Any) -> None:
    kind = parameters.get("rope_type") if isinstance(parameters, dict) else None
    if kind not in (None, "longrope"):
        raise ConfigRefused(f"rope_type is {kind!r}, expected 'default' or 'longrope', the types of Phi-3")

"""What the Gemmas share: embeddings times the root of their width, and a rope for each kind of layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.config.cannot_hold import CannotHold
from converters.config.entries import Theirs
from converters.config.kinds import POSITIVE_INT, same
from converters.config.list_architecture import per_layer
from converters.config.part_layout import EMBD_SCALE
from converters.errors import ConfigRefused
from converters.families.shared.decoders.layer_kinds import KindWindows, each_layer
from converters.families.shared.rope import BASE, PARAMETERS, Rope
from converters.families.shared.windows import FULL, PATH, SLIDING

CAUSAL = Theirs("use_bidirectional_attention", (None, False), "attention to later tokens is not a MixFormer's", False)
ROPE_FIELDS = ("rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq")


@dataclass(frozen=True)
class RootOfWidth:
    """Embeddings are multiplied by sqrt(n_embd): no field says so."""

    theirs: tuple[str, ...] = ()
    ours: tuple[str, ...] = (EMBD_SCALE,)
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The multiplier.

        Raises:
            ConfigRefused: the width is no size.
        """
        width = theirs.get("hidden_size")
        if not POSITIVE_INT.holds(width):
            raise ConfigRefused(f"hidden_size is {width!r}, expected {POSITIVE_INT.words}")
        return {EMBD_SCALE: int(width or 0) ** 0.5}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing.

        Raises:
            CannotHold: ours has another multiplier.
        """
        scale, wanted = ours.get(EMBD_SCALE), ours["n_embd"] ** 0.5
        if not same(scale, wanted):
            needs = f"the root of n_embd, {wanted}"
            raise CannotHold(f"it uses embeddings times {scale}", needs, EMBD_SCALE)
        return {}


# Older releases of transformers 5 write these beside the kinds of layers, and read neither.
BESIDE_KINDS = (("rope_type", "default"), ("rope_theta", None))


@dataclass(frozen=True)
class KindRopes:
    """Gemma-3's rope: one for layers with a window, one for the others; windows are those of `windows`."""

    windows: KindWindows
    full: float = 1e6
    sliding: float = 1e4
    theirs: tuple[str, ...] = ROPE_FIELDS
    ours: tuple[str, ...] = (BASE, PARAMETERS)
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """`rotary_base` and `rope_parameters` of all layers, or one for each.

        Raises:
            ConfigRefused: as `Rope`, for either kind.
        """
        found = {kind: Rope(theta).read(self._said(theirs, kind)) for kind, theta in self._thetas()}
        rows = [found[SLIDING if tokens else FULL] for tokens in self.windows.tokens(theirs)]
        parameters = per_layer([row.get(PARAMETERS) for row in rows])
        return {BASE: per_layer([row[BASE] for row in rows])} | ({} if parameters is None else {PARAMETERS: parameters})

    def _thetas(self) -> tuple[tuple[str, float], tuple[str, float]]:
        return (FULL, self.full), (SLIDING, self.sliding)

    def _said(self, theirs: Mapping[str, Any], kind: str) -> dict[str, Any]:
        """The fields of one rope for all layers that say the same as theirs do of one kind."""
        new, name = theirs.get("rope_parameters"), "rope_theta" if kind == FULL else "rope_local_base_freq"
        if isinstance(new, dict):
            new = {key: value for key, value in new.items() if (key, value) not in BESIDE_KINDS}
        if new is not None and (not isinstance(new, dict) or not set(new) <= {FULL, SLIDING}):
            raise ConfigRefused(f"rope_parameters is {new!r}, expected an object with {FULL!r} and {SLIDING!r}")
        shared = ("hidden_size", "num_attention_heads", "head_dim", *(("rope_scaling",) if kind == FULL else ()))
        said = {field: theirs[field] for field in shared if field in theirs}
        said |= {"rope_theta": theirs[name]} if name in theirs else {}
        return said | ({"rope_parameters": new[kind]} if new and new.get(kind) is not None else {})

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Both ropes; a kind that no layer is of has the default.

        Raises:
            CannotHold: layers of one kind have different ropes.
        """
        found: dict[str, dict[str, Any]] = {}
        rows = zip(each_layer(ours, PATH), each_layer(ours, BASE), each_layer(ours, PARAMETERS), strict=True)
        for window, base, parameters in rows:
            kind = FULL if window is None else SLIDING
            one = Rope().write({BASE: base, PARAMETERS: parameters})["rope_parameters"]
            if not same(found.setdefault(kind, one), one):
                raise CannotHold(f"its {BASE} is {ours.get(BASE)!r}", "one rope for each kind of layer", BASE)
        default = {kind: {"rope_theta": theta, "rope_type": "default"} for kind, theta in self._thetas()}
        return {"rope_parameters": default | found}

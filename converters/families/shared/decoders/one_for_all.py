"""Entries that say one thing of several paths: biases everywhere, norms of each head, heads as wide as the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.config.cannot_hold import CannotHold
from converters.config.entries import OneField
from converters.config.kinds import BOOL, spelled
from converters.config.part_layout import OVER, UNBIASED_MLP
from converters.errors import ConfigRefused
from converters.families.shared.activations import ACTIVATIONS
from converters.families.shared.transformers_fields import MIXER, MLP, head_dim_of


@dataclass(frozen=True)
class HeadNorms(OneField):
    """A switch for norms of queries and keys that each head has for itself."""

    name: str
    ours: tuple[str, ...] = (MIXER + "qk_norm", OVER)
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """Both paths, if it is on.

        Raises:
            ConfigRefused: it is neither true nor false.
        """
        value = theirs.get(self.name, False)
        if not BOOL.holds(value):
            raise ConfigRefused(f"{self.name} is {spelled(value)}, expected {BOOL.words}")
        return {MIXER + "qk_norm": True, OVER: "each_head"} if value else {}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The switch.

        Raises:
            CannotHold: the norms of queries and keys are of another kind.
        """
        value, over = ours[MIXER + "qk_norm"], ours.get(OVER, "head")
        if not BOOL.holds(value) or (value and over != "each_head"):
            raise CannotHold("it uses one norm for all queries", 'norms of each head, qk_norm_over "each_head"', OVER)
        return {self.name: value}


@dataclass(frozen=True)
class BiasEverywhere:
    """One value for the biases of attention and of the MLP, under one name or several, which must agree.

    names: the fields that are written. mlps: the MLP with biases, others that are the same, and the one without.
    aliases: older names.
    """

    names: tuple[str, ...]
    default: bool
    mlps: tuple[str, ...] = ("mlp", "fused_mlp", UNBIASED_MLP)
    aliases: tuple[str, ...] = ()
    ours: tuple[str, ...] = (MIXER + "bias", MIXER + "out_bias", MLP + "mlp_cls")
    also: tuple[str, ...] = ()

    @property
    def theirs(self) -> tuple[str, ...]:
        """All names."""
        return (*self.names, *self.aliases)

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The three paths.

        Raises:
            ConfigRefused: a field is neither true nor false, or two of them differ.
        """
        said = {name: theirs[name] for name in self.theirs if name in theirs}
        value = next(iter(said.values()), self.default)
        if not BOOL.holds(value) or any(other is not value for other in said.values()):
            named = " and ".join(f"{name} is {spelled(one)}" for name, one in said.items())
            raise ConfigRefused(f"{named}; expected {BOOL.words}, one value for all biases")
        mlp = self.mlps[0] if value else self.mlps[-1]
        return {MIXER + "bias": value, MIXER + "out_bias": value, MLP + "mlp_cls": mlp}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The fields.

        Raises:
            CannotHold: some have biases and others have none.
        """
        mlp = ours[MLP + "mlp_cls"]
        said = [ours[MIXER + "bias"], ours[MIXER + "out_bias"], mlp in self.mlps[:-1]]
        if mlp not in self.mlps or any(not BOOL.holds(value) or value is not said[0] for value in said):
            named = " and ".join(f"{path} {spelled(ours[path])}" for path in self.ours)
            raise CannotHold(f"it has {named}", "one value for all biases", self.names[0])
        return dict.fromkeys(self.names, said[0])


@dataclass(frozen=True)
class FullWidth:
    """Their heads together are as wide as the model, as their output matrix is square; `default`: of head_dim."""

    default: int | None = None
    theirs: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing, if it is so.

        Raises:
            ConfigRefused: the heads are wider or narrower.
        """
        width, heads, head_dim = theirs["hidden_size"], theirs["num_attention_heads"], head_dim_of(theirs, self.default)
        if heads * head_dim != width:
            raise ConfigRefused(
                f"head_dim is {head_dim}, expected hidden_size / num_attention_heads, {width} / {heads}"
            )
        return {}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing, if it is so.

        Raises:
            CannotHold: the heads are wider or narrower.
        """
        heads, head_dim = ours[MIXER + "n_head"], ours[MIXER + "head_dim"]
        if heads * head_dim != ours["n_embd"]:
            needs = f"n_embd / n_head, here {ours['n_embd']} / {heads}"
            raise CannotHold(f"it uses heads of {head_dim} dimensions", needs, MIXER + "head_dim")
        return {}


@dataclass(frozen=True)
class MLPByActivation(OneField):
    """A plain MLP whose activation has parameters under one name, and none under all others.

    name: the field of the activation. learning: the value that stands for the one with parameters, and the default.
    with_parameters, plain: our MLPs.
    """

    name: str
    learning: str
    with_parameters: str
    plain: str
    ours: tuple[str, ...] = (MLP + "mlp_cls", MLP + "act_fn")
    also: tuple[str, ...] = ("activation_function",)

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The MLP, and its activation where it has no parameters.

        Raises:
            ConfigRefused: it is no known activation.
        """
        value = theirs.get(self.name, self.learning)
        if value == self.learning:
            return {MLP + "mlp_cls": self.with_parameters}
        if not ACTIVATIONS.holds(value):
            raise ConfigRefused(f"{self.name} is {spelled(value)}, expected {self.learning!r} or {ACTIVATIONS.words}")
        return {MLP + "mlp_cls": self.plain, MLP + "act_fn": value, "activation_function": value}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The field.

        Raises:
            CannotHold: ours has another kind of MLP, or an unknown activation.
        """
        kind, act = ours[MLP + "mlp_cls"], ours.get(MLP + "act_fn")
        if kind == self.with_parameters:
            return {self.name: self.learning}
        if kind != self.plain or not ACTIVATIONS.holds(act):
            needs = f"{self.with_parameters} or {self.plain}"
            raise CannotHold(f"it uses the MLP {spelled(kind)} with {spelled(act)}", needs, MLP + "mlp_cls")
        return {self.name: act}

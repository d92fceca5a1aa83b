"""Config entries that GPT-2, CodeGen and GPT-J share, and rules that CodeGen and GPT-J share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.config.cannot_hold import CannotHold
from converters.config.entries import Entry, Field, OneField, Ours
from converters.config.kinds import FRACTION, POSITIVE_INT, Kind
from converters.config.layout import TWO_NORMS
from converters.config.table import BASE
from converters.errors import ConfigRefused
from converters.families.shared.activations import ACTIVATIONS
from converters.families.shared.transformers_fields import (
    LAYER_NORM,
    MIXER,
    MLP,
    NO_QK_NORM,
    NO_WINDOW,
    PLAIN_MLP,
    PLAIN_SCALE,
    SAME_SCALE,
    biases,
    block,
    eps,
)
from converters.families.shared.transformers_rules import linear, mlp_of, norm, vocabulary
from converters.family import Rule

NO_ROTARY = (
    Ours(MIXER + "rotary_dim", (0, -1), also=("rotary_dim",)),
    Ours(MIXER + "rotary_base", (10000.0,), written=False),
)
PLAIN_ATTENTION = (NO_WINDOW, NO_QK_NORM, PLAIN_SCALE, SAME_SCALE)
EVEN = Kind("an even positive integer", lambda value: type(value) is int and value > 0 and value % 2 == 0)


def _head_dim(theirs: Mapping[str, Any]) -> int:
    width, heads = theirs["n_embd"], theirs["n_head"]
    if type(width) is not int or type(heads) is not int or heads < 1 or width % heads:
        raise ConfigRefused(f"n_embd is {width!r}, expected a multiple of n_head {heads!r}")
    return width // heads


class _HeadDim:
    """head_dim is n_embd / n_head, and all heads have keys and values of their own. Theirs has no fields for this."""

    theirs: tuple[str, ...] = ()
    ours: tuple[str, ...] = (MIXER + "head_dim", MIXER + "n_head_kv")
    also: tuple[str, ...] = ("n_head_kv",)

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """What follows from n_embd and n_head."""
        head_dim, n_head = _head_dim(theirs), theirs["n_head"]
        return {MIXER + "head_dim": head_dim, MIXER + "n_head_kv": n_head, "n_head_kv": n_head}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing, if ours has the same values.

        Raises:
            CannotHold: heads of another width, or fewer of them for keys and values.
        """
        heads, kv, head_dim = (ours[MIXER + name] for name in ("n_head", "n_head_kv", "head_dim"))
        if not POSITIVE_INT.holds(head_dim) or not POSITIVE_INT.holds(heads):
            raise ConfigRefused(f"{MIXER}head_dim is {head_dim!r} and n_head {heads!r}, expected positive integers")
        if kv != heads:
            uses = f"it uses {kv} key-value heads for {heads} query heads"
            raise CannotHold(uses, "as many key-value heads as query heads", f"{MIXER}n_head_kv {heads}")
        if heads * head_dim != ours["n_embd"]:
            wanted = f"{MIXER}head_dim = {ours['n_embd']} / {heads}"
            raise CannotHold(f"it uses heads of {head_dim} dimensions", "n_embd / n_head dimensions", wanted)
        return {}


def gpt_sizes(
    n_positions: int, dropout: float, act: str = "gelu_new", heads: tuple[Entry, ...] = (_HeadDim(),)
) -> tuple[Entry, ...]:
    """Sizes, activation and dropouts; the arguments are the defaults of the config class.

    heads: what says width and number of heads, where keys and values may have fewer.
    """
    inner = (MLP + "n_inner",)
    return (
        Field("n_embd", ("n_embd",), POSITIVE_INT, aliases=("hidden_size",)),
        Field("n_layer", ("n_layer",), POSITIVE_INT, aliases=("num_hidden_layers",)),
        Field(
            "n_head",
            (MIXER + "n_head",),
            POSITIVE_INT,
            aliases=("num_attention_heads",),
            also=("n_head",),
            unwritten=(MIXER + "n_head",),
        ),
        *heads,
        Field("n_positions", ("n_positions",), POSITIVE_INT, n_positions, aliases=("max_position_embeddings",)),
        Field("n_inner", inner, POSITIVE_INT, lambda theirs: 4 * theirs["n_embd"], none=True, also=("n_inner",)),
        Field("activation_function", (MLP + "act_fn",), ACTIVATIONS, act, also=("activation_function",)),
        Field("attn_pdrop", (MIXER + "dropout",), FRACTION, dropout),
        Field("embd_pdrop", ("embd_pdrop",), FRACTION, dropout),
        Field("resid_pdrop", ("resid_pdrop",), FRACTION, dropout),
    )


def gptj_block() -> tuple[Entry, ...]:
    """The entries of CodeGen and GPT-J beyond those of every model."""
    return (
        *block("parallel", head_bias=True),
        *gpt_sizes(n_positions=2048, dropout=0.0),
        *biases(False, False),
        PLAIN_MLP,
        LAYER_NORM,
        NO_WINDOW,
        NO_QK_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        eps("layer_norm_epsilon", 1e-5),
        Field("rotary_dim", (MIXER + "rotary_dim",), EVEN, 64, also=("rotary_dim",)),
        Ours(MIXER + "rotary_base", (10000.0,)),
    )


def gptj_rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """All tensors of CodeGen and GPT-J but q, k and v."""
    layer = "transformer.h.{i}."
    return [
        *norm(layer + "ln_1", "layers.{b}.ln", ours),
        *linear([layer + "attn.out_proj"], "mixer.out_proj", False),
        *linear([layer + "mlp.fc_in"], f"{mlp_of(ours)}.fc1", True),
        *linear([layer + "mlp.fc_out"], f"{mlp_of(ours)}.fc2", True),
        *norm("transformer.ln_f", "layers.{h}.ln", ours),
        *vocabulary(ours, "transformer.wte.weight", "lm_head", bias=True),
    ]


OF_ANY_CONFIG = frozenset({"architectures", "dtype", "torch_dtype", "model_type"})


@dataclass(frozen=True)
class Nested(OneField):
    """A field that is an object, with fields for `entries`; `free`: those in it that change no function."""

    name: str
    entries: tuple[Entry, ...]
    free: frozenset[str]
    also: tuple[str, ...] = ()

    @property
    def ours(self) -> tuple[str, ...]:
        """Those of all entries."""
        return tuple(path for entry in self.entries for path in entry.ours)

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """What the entries read.

        Raises:
            ConfigRefused: it is no object, or has a field that no entry names.
        """
        said = theirs.get(self.name) or {}
        if not isinstance(said, dict):
            raise ConfigRefused(f"{self.name} is {said!r}, expected an object or null")
        known = {name for entry in self.entries for name in entry.theirs} | self.free | BASE | OF_ANY_CONFIG
        if unknown := sorted(set(said) - known):
            raise ConfigRefused(f"{self.name} has unknown fields: {', '.join(unknown)}")
        return {path: value for entry in self.entries for path, value in entry.read(said).items()}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The object."""
        return {self.name: {name: value for entry in self.entries for name, value in entry.write(ours).items()}}


KIND, KV = "architecture.block_cls", MIXER + "n_head_kv"


@dataclass(frozen=True)
class FalconDecoder:
    """The fields of Falcon that say which decoder it is: its blocks, and its heads for keys and values."""

    theirs: tuple[str, ...] = (
        "new_decoder_architecture",
        "multi_query",
        "parallel_attn",
        "num_ln_in_parallel_attn",
        "num_kv_heads",
    )
    ours: tuple[str, ...] = (KIND, KV)
    also: tuple[str, ...] = ("n_head_kv",)

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The block and the number of heads for keys and values.

        Raises:
            ConfigRefused: transformers cannot run such a decoder.
        """
        said = {"new_decoder_architecture": False, "multi_query": True, "parallel_attn": True}
        new, shared, parallel = (bool(theirs.get(name, default)) for name, default in said.items())
        norms, heads = theirs.get("num_ln_in_parallel_attn"), theirs["num_attention_heads"]
        kv = 1 if shared and not new else theirs.get("num_kv_heads") or heads
        two = new and norms in (None, 2)
        if (
            (new and not parallel)
            or norms not in ((None, 1, 2) if new else (None, 1))
            or (kv != heads and not (new or shared))
        ):
            found = ", ".join(f"{name} {theirs.get(name)!r}" for name in self.theirs)
            raise ConfigRefused(f"{found}: transformers cannot run such a decoder")
        return {KIND: TWO_NORMS if two else "parallel" if parallel else "sequential", KV: kv, "n_head_kv": kv}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """All five fields."""
        kind, kv, heads = ours[KIND], ours[KV], ours[MIXER + "n_head"]
        if kind not in ("sequential", "parallel", TWO_NORMS) or (kind == "sequential" and kv not in (1, heads)):
            raise CannotHold(f"its {KIND} is {kind!r} with {kv} key-value heads", "a decoder of its three", KIND)
        new = kind == TWO_NORMS or kv not in (1, heads)
        norms = {TWO_NORMS: 2, "parallel": 1 if new else None}.get(kind)
        return dict(zip(self.theirs, (new, kv == 1, kind != "sequential", norms, kv), strict=True))


@dataclass(frozen=True)
class Renamed:
    """An entry that reads fields under older names too: (older, name) pairs, of which others account for the fields."""

    entry: Entry
    names: tuple[tuple[str, str], ...]
    theirs: tuple[str, ...] = ()

    @property
    def ours(self) -> tuple[str, ...]:
        """Those of the entry."""
        return self.entry.ours

    @property
    def also(self) -> tuple[str, ...]:
        """Those of the entry."""
        return self.entry.also

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """As the entry."""
        found = {name: theirs[older] for older, name in self.names if older in theirs and name not in theirs}
        return self.entry.read({**theirs, **found})

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """As the entry."""
        return self.entry.write(ours)

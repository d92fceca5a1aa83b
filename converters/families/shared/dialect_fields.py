"""Config entries of file forms other than folders of transformers: what their formats fix or do not store."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from converters.config.cannot_hold import CannotHold, uses
from converters.config.entries import Config, Entry, Field, Ours, Theirs, Written
from converters.config.kinds import BOOL, DTYPE, POSITIVE_INT
from converters.config.layout import SOURCE_VOCAB
from converters.errors import ConfigRefused
from converters.families.shared.transformers_fields import (
    GLU,
    LAYER_NORM,
    MIXER,
    MLP,
    NO_DROPOUT,
    NO_QK_NORM,
    NO_WINDOW,
    PLAIN_MLP,
    PLAIN_SCALE,
    RMS_NORM,
    SAME_SCALE,
    biases,
    block,
)

TIE = Field("tie_word_embeddings", ("tie_word_embeddings",), BOOL, False)  # the readers find it from the tensors
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Unsaid:
    """Paths of ours that the form does not store and that do not change the function."""

    also: tuple[str, ...]
    theirs: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """Nothing."""
        return {}

    def write(self, ours: Config) -> dict[str, Any]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class TrainingOnly:
    """Rates of dropout, which change training alone and which the form does not store: read as none, and told."""

    also: tuple[str, ...]
    theirs: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """No dropout."""
        return dict.fromkeys(self.also, 0.0)

    def write(self, ours: Config) -> dict[str, Any]:
        """Nothing."""
        return {}

    def lost(self, ours: Config) -> dict[str, Any]:
        """The rates that are not written."""
        return {path: ours[path] for path in self.also if ours.get(path)}


@dataclass(frozen=True)
class Implied:
    """Paths of ours that theirs has no field for, because other sizes give the value. They must agree with it.

    sizes: (theirs, ours) names of the arguments of `formula`, which gives None for sizes that do not fit. words: the
    formula, for a person.
    """

    ours: tuple[str, ...]
    sizes: tuple[tuple[str, str], ...]
    formula: Callable[..., float | None]
    words: str
    also: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """The value under each path.

        Raises:
            ConfigRefused: an argument is no size, or they do not fit.
        """
        given = {name: theirs.get(name) for name, _ in self.sizes}
        value = self.formula(*given.values()) if all(map(POSITIVE_INT.holds, given.values())) else None
        if value is None:
            listed = ", ".join(f"{name} {size!r}" for name, size in given.items())
            raise ConfigRefused(f"{listed}: expected sizes for which {self.words} is a positive integer")
        return dict.fromkeys((*self.ours, *self.also), value)

    def write(self, ours: Config) -> dict[str, Any]:
        """Nothing, if ours has the same value.

        Raises:
            CannotHold: ours has another value.
        """
        value = self.formula(*(ours[path] for _, path in self.sizes))
        for path in self.ours:
            if ours.get(path) != value:
                raise CannotHold(uses((path, ours.get(path))), f"{self.words}, here {value}", path)
        return {}


def even_heads(width: str, heads: str, *, rotating: bool) -> Implied:
    """head_dim is width / heads; `rotating`: all of a head rotates, so rotary_dim is too."""
    ours = (MIXER + "head_dim", MIXER + "rotary_dim") if rotating else (MIXER + "head_dim",)
    sizes = ((width, "n_embd"), (heads, MIXER + "n_head"))
    return Implied(ours, sizes, _quotient, f"{width} / {heads}", ("rotary_dim",) if rotating else ())


def _quotient(width: int, heads: int) -> int | None:
    return None if width % heads else width // heads


def dialect(model_type: str, vocab: str = "vocab_size") -> tuple[Entry, ...]:
    """What every form has: its name, its vocabulary, and the settings that none of them can hold."""
    return (
        Theirs("model_type", (model_type,)),
        Written("pad_vocab_size_multiple", 1),
        Ours(MIXER + "mixer_cls", ("mha",)),
        Ours(MIXER + "causal", (True,), written=False),
        Ours(MIXER + "use_alibi", (False,), written=False),
        Ours(MIXER + "softcap", (0.0,), written=False),
        Ours(MIXER + "rotary_scale_base", (None,), written=False),
        Ours(MIXER + "rope_scaling", (None,), written=False),
        Field(vocab, (SOURCE_VOCAB,), POSITIVE_INT, also=("vocab_size",), unwritten=(SOURCE_VOCAB,)),
        Field("dtype", ("dtype",), DTYPE, None),
        Unsaid(("initializer_range", "use_cache")),
    )


def llama_block() -> tuple[Entry, ...]:
    """The architecture of every LLaMA: RMS norms, a GLU with silu, no biases in it, no dropout."""
    return (
        *block("sequential"),
        *NO_DROPOUT,
        RMS_NORM,
        GLU,
        NO_WINDOW,
        PLAIN_SCALE,
        SAME_SCALE,
        NO_QK_NORM,
        Ours(MIXER + "dropout", (0.0,)),
        Ours(MLP + "act_fn", ("silu",)),
        Written("activation_function", "silu"),
    )


def gpt2_block(*, bias: bool | None) -> tuple[Entry, ...]:
    """The architecture of every GPT-2: LayerNorm, learned positions, no rotary embedding; `bias` None: a field."""
    return (
        *block("sequential", "positional"),
        *(biases(bias, bias) if bias is not None else ()),
        PLAIN_MLP,
        LAYER_NORM,
        NO_WINDOW,
        NO_QK_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        Ours(MIXER + "rotary_dim", (0, -1), also=("rotary_dim",)),
        Ours(MIXER + "rotary_base", (10000.0,), written=False),
    )


def sizes(width: str, layers: str, heads: str, positions: str, length: Any, *, kv: str = "") -> tuple[Entry, ...]:
    """Sizes under the names of a form.

    length: the default of `positions`, or a function of theirs that gives it. kv: the name of the number of heads for
    keys and values, if it is one of its own.
    """
    n_head, n_kv = MIXER + "n_head", MIXER + "n_head_kv"
    found = (
        Field(width, ("n_embd",), POSITIVE_INT),
        Field(layers, ("n_layer",), POSITIVE_INT),
        Field(positions, ("n_positions",), POSITIVE_INT, length),
    )
    if not kv:
        both = Field(heads, (n_head, n_kv), POSITIVE_INT, also=("n_head", "n_head_kv"), unwritten=(n_head,))
        return (*found, both)
    queries = Field(heads, (n_head,), POSITIVE_INT, also=("n_head",), unwritten=(n_head,))
    keys = Field(kv, (n_kv,), POSITIVE_INT, lambda theirs: theirs[heads], none=True, also=("n_head_kv",))
    return (*found, queries, keys)

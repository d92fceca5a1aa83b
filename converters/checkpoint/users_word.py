"""What a user says about sources that do not say it themselves: heads of a model, shards of its qkv_proj, first values.

Such a source is opened in many places: by a conversion, by the comparison of two checkpoints, by golden and by its
references. So it is said once, for all that is opened in a block of code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from converters.checkpoint.checkpoint import Checkpoint
from converters.errors import ConfigRefused, UsageError

N_HEAD, RECORD = "n_head", "user_said"
QKV_SHARDS = "qkv_shards"
_N_HEAD: ContextVar[int | None] = ContextVar("n_head", default=None)

_QKV_SHARDS: ContextVar[int | None] = ContextVar(QKV_SHARDS, default=None)


@contextmanager
def shards_said(qkv_shards: int | None) -> Iterator[None]:
    """The `qkv_proj` of CodeGens that are opened inside has this many shards; None: nothing is said."""
    token = _QKV_SHARDS.set(qkv_shards)
    try:
        yield
    finally:
        _QKV_SHARDS.reset(token)


def said_qkv_shards() -> int | None:
    """The number of shards that was said, None if none was."""
    return _QKV_SHARDS.get()


VALUE_RESIDUAL = "value_residual"
_VALUE_RESIDUAL: ContextVar[bool | None] = ContextVar(VALUE_RESIDUAL, default=None)


@contextmanager
def values_said(value_residual: bool | None) -> Iterator[None]:
    """Whether later layers of models that are opened inside take the values of the first; None: nothing is said."""
    token = _VALUE_RESIDUAL.set(value_residual)
    try:
        yield
    finally:
        _VALUE_RESIDUAL.reset(token)


def said_value_residual() -> bool | None:
    """What was said of the values of the first layer, None if nothing was."""
    return _VALUE_RESIDUAL.get()


def flag_of(value_residual: bool) -> str:
    """The word on the command line."""
    return "--value-residual" if value_residual else "--no-value-residual"


def with_values(source: Checkpoint, said: bool | None) -> Checkpoint:
    """The checkpoint with a user's word on the values of the first layer, where it is of a model that has the choice.

    Raises:
        UsageError: the source says itself, and something else.
    """
    own = source.config.get(VALUE_RESIDUAL)
    if said is None or (VALUE_RESIDUAL not in source.unsaid and own is None):
        return source
    if VALUE_RESIDUAL not in source.unsaid:
        if own is not said:
            raise UsageError(f"{flag_of(said)}: {source.folder} says {VALUE_RESIDUAL} {str(own).lower()}")
        return source
    note = f"{VALUE_RESIDUAL} {str(said).lower()} is your word ({flag_of(said)}): no tensor shows it, and the other is"
    note += " another function"
    record = [*source.config.get(RECORD, []), VALUE_RESIDUAL]
    unsaid = tuple(name for name in source.unsaid if name != VALUE_RESIDUAL)
    config = {**source.config, VALUE_RESIDUAL: said, RECORD: record}
    return replace(source, config=config, unsaid=unsaid, notes=(*source.notes, note))


@contextmanager
def heads_said(n_head: int | None) -> Iterator[None]:
    """Sources that are opened inside and do not say their number of heads have this one; None: nothing is said."""
    token = _N_HEAD.set(n_head)
    try:
        yield
    finally:
        _N_HEAD.reset(token)


def said_n_head() -> int | None:
    """The number of heads that was said, None if none was."""
    return _N_HEAD.get()


def check_n_head(source: Checkpoint) -> None:
    """Raises ConfigRefused if neither the source nor a user says what no tensor shows."""
    if N_HEAD in source.unsaid:
        name = source.stored[0].name
        raise ConfigRefused(f"nothing in {name} says how many heads the model has: say it with --n-head N")
    if VALUE_RESIDUAL in source.unsaid:
        name = source.stored[0].name
        raise ConfigRefused(
            f"nothing in {name} says whether later layers take the values of the first (add_value_residual of"
            f" nGPT-pytorch, on by default since 0.1.19): say it with --value-residual or --no-value-residual"
        )


def with_n_head(source: Checkpoint, n_head: int | None) -> Checkpoint:
    """The checkpoint with a user's number of heads, if it says none itself; the config keeps that it was a user's."""
    if n_head is None or N_HEAD not in source.unsaid:
        return source
    note = (
        f"n_head {n_head} is your word (--n-head): nothing in {source.stored[0].name} says it, and another number that"
        f" divides the width would give another function without any sign of it"
    )
    config = {**source.config, N_HEAD: n_head, RECORD: [N_HEAD]}
    unsaid = tuple(name for name in source.unsaid if name != N_HEAD)
    return replace(source, config=config, unsaid=unsaid, notes=(*source.notes, note))

"""What a user says about sources that do not say it themselves: heads of a model, shards of its qkv_proj, first values.

Such a source is opened in many places: by a conversion, by the comparison of two checkpoints, by golden and by its
references. So it is said once, for all that is opened in a block of code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Generic, TypeVar

from converters.checkpoint.checkpoint import Checkpoint
from converters.errors import ConfigRefused, UsageError

RECORD = "user_said"
N_HEAD, QKV_SHARDS, VALUE_RESIDUAL = "n_head", "qkv_shards", "value_residual"
T = TypeVar("T")


class Word(Generic[T]):
    """One thing that a user may say; inside `said`, `get` gives what was said, and None if nothing was."""

    def __init__(self, name: str) -> None:
        self._said: ContextVar[T | None] = ContextVar(name, default=None)

    @contextmanager
    def said(self, value: T | None) -> Iterator[None]:
        """It is said of all that is opened inside; None: nothing is said."""
        token = self._said.set(value)
        try:
            yield
        finally:
            self._said.reset(token)

    def get(self) -> T | None:
        """What was said."""
        return self._said.get()


HEADS: Word[int] = Word(N_HEAD)
"""The number of heads of a model."""
SHARDS: Word[int] = Word(QKV_SHARDS)
"""The number of shards in the `qkv_proj` of a CodeGen."""
VALUES: Word[bool] = Word(VALUE_RESIDUAL)
"""Whether later layers take the values of the first."""


def check_said(source: Checkpoint) -> None:
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
    return _with_word(source, N_HEAD, n_head, note)


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
    return _with_word(source, VALUE_RESIDUAL, said, f"{note} another function")


def _with_word(source: Checkpoint, name: str, value: int | bool, note: str) -> Checkpoint:
    record = [*source.config.get(RECORD, []), name]
    unsaid = tuple(other for other in source.unsaid if other != name)
    config = {**source.config, name: value, RECORD: record}
    return replace(source, config=config, unsaid=unsaid, notes=(*source.notes, note))


def flag_of(value_residual: bool) -> str:
    """The word on the command line."""
    return "--value-residual" if value_residual else "--no-value-residual"

"""Running a loaded model for what is compared: logits of a prompt, and rows of its embedding tables."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from golden.errors import UnverifiableError
from golden.models.failures import running
from golden.models.loading import LoadedModel, silenced
from golden.models.precision import (
    Float64Mode,
    forget_lengths,
    keep_rotary_frequencies,
    needs_priming,
    rebuild_alibi,
    rebuild_sinusoids,
    remembers_lengths,
)
from golden.models.streaming.journal import hands_on
from golden.models.streaming.lockstep import Lockstep, Run, walk
from golden.watching import Progress

TOKENS = "token embeddings"
POSITIONS = "position embeddings"
CHUNK = 8192
"""Number of rows of an embedding table that are read at a time."""


class ModelRunner:
    """Runs one model on prompts.

    A MixFormer runs as it is, because its choice of dtypes is part of what is judged. A model of transformers in
    float64 runs under `golden.models.precision.Float64Mode`. Where its forward pass computes rotary frequencies, a pass
    of the same length in the model's own precision comes before.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.model: Any = loaded.model
        if getattr(self.model, "_can_set_experts_implementation", bool)():
            self.model.set_experts_implementation("eager")  # the loop is the definition, and runs in any dtype
        self.lifts = not loaded.is_mixformer and self.model.dtype is torch.float64
        self._primes = self.lifts and needs_priming(self.model)
        self._primed_length = 0
        self.tables = _embedding_tables(self.model)
        if self.lifts:
            keep_rotary_frequencies()
            rebuild_sinusoids(self.model)
            rebuild_alibi(self.model)

    @property
    def vocab(self) -> int:
        """Number of rows of the token embedding."""
        return int(self.tables[TOKENS].num_embeddings)

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Logits (tokens, vocab) of one prompt, all positions, without a cache."""
        prepared = self.taken(tuple(ids))
        if prepared is not None:
            return prepared
        self.prime(ids)
        return self._pass(ids)

    def _pass(self, ids: Sequence[int]) -> Tensor:
        logits: Tensor = self.forward(input_ids=self.batch(ids), use_cache=False).logits[0]
        return logits

    @property
    def walks(self) -> bool:
        """Whether prompts can run together: it is read layer by layer, and remembers nothing from pass to pass."""
        return self.loaded.stream is not None and not self._primes and not remembers_lengths(self.model)

    def begin(
        self, prompts: Iterable[Sequence[int]], others: Mapping[Hashable, Run] | None = None, journal: Any = None
    ) -> Lockstep | None:
        """Begin the passes of prompts whose logits will be asked for; `walk` runs them, each layer read once for all.

        None where there is nothing to run together.

        Args:
            others: passes besides, by keys that `taken` knows.
            journal: a `golden.models.streaming.journal.FileJournal`, from which they go on where it holds something.
        """
        stream = self.loaded.stream
        if stream is None or not self.walks:
            return None
        runs: dict[Hashable, Run] = {ids: self.run_of(ids) for ids in map(tuple, prompts)}
        runs |= others or {}
        if not runs or all(key in stream.together for key in runs):
            return stream.together
        journal = None if hands_on(self.model) else journal
        kept = None if journal is None else journal.read(runs)
        with silenced():
            stream.together.begin(runs, journal, kept)
        return stream.together

    def run_of(self, ids: Sequence[int], within: Callable[[], AbstractContextManager[Any]] = nullcontext) -> Run:
        """A pass of a prompt, for `begin`."""
        return Run(partial(self._pass, ids), within)

    def taken(self, key: Hashable) -> Tensor | None:
        """The logits of a pass that was begun under that key; None where there is none.

        Raises:
            CannotRunError, NoMemoryError: the pass fails, or its last layer cannot be read.
        """
        stream = self.loaded.stream
        if stream is None or key not in stream.together:
            return None
        with silenced(), running(self.loaded.folder):  # passes silence, too, and end in any order
            prepared: Tensor = stream.together.finish(key)
        return prepared

    def close(self) -> None:
        """End the passes that were begun, and whose logits nobody has asked for."""
        if self.loaded.stream is not None:
            with silenced():
                self.loaded.stream.together.abandon()

    def prime(self, ids: Sequence[int]) -> None:
        """Forget a prompt of another length, and run the pass of this length that has to come before, if one has to."""
        if self._primed_length == len(ids):
            return
        self.forget()
        if self._primes:
            with torch.no_grad(), silenced(), running(self.loaded.folder):
                self.model(input_ids=self.batch(ids), use_cache=False)
        self._primed_length = len(ids)

    def forget(self) -> None:
        """Forget the lengths of all passes before, also for passes that this class does not make."""
        forget_lengths(self.model)
        self._primed_length = 0

    def batch(self, ids: Sequence[int]) -> Tensor:
        """One prompt as a batch (1, tokens) on the model's device."""
        return torch.tensor([list(ids)], device=self.loaded.device)

    def forward(self, **inputs: Any) -> Any:
        """The model's forward pass, under `Float64Mode` where that is needed, with any inputs it takes.

        Raises:
            CannotRunError: it fails.
            NoMemoryError: memory ran out.
            UnverifiableError: it is run layer by layer, and a module uses weights of another layer; or its output has
                no logits.
        """
        folder = self.loaded.folder
        try:
            with torch.no_grad(), silenced(), self.lifting():
                output = self.model(**inputs)
        except RuntimeError as broken:
            if self.loaded.stream is None or "meta" not in str(broken):
                raise
            raise UnverifiableError(
                f"{folder}: the model does not fit into memory, and cannot be run layer by layer: {broken}"
            ) from broken
        if not hasattr(output, "logits"):
            raise UnverifiableError(f"{folder}: the model returns a {type(output).__name__} without logits")
        return output

    def rows(self, table: str, start: int, stop: int) -> Tensor:
        """Rows (stop - start, width) of an embedding table, by calling the module as a forward pass would."""
        with torch.no_grad(), self.lifting():
            rows = _rows(self.tables[table], torch.arange(start, stop, device=self.loaded.device))
        return rows.detach()  # gradient checkpointing, which a config can ask for, makes them need gradients

    @contextmanager
    def lifting(self) -> Iterator[None]:
        """`Float64Mode` where this model's forward passes need it. What the model raises becomes an error of ours.

        Raises:
            CannotRunError, NoMemoryError: see `golden.models.failures.running`.
        """
        with running(self.loaded.folder), Float64Mode() if self.lifts else nullcontext():
            yield

    @contextmanager
    def attention(self, implementation: str) -> Iterator[None]:
        """Run with another attention backend inside the context. Raises ValueError where the model does not have it."""
        before = self.model.config._attn_implementation
        self._set_attention(implementation)
        try:
            yield
        finally:
            self._set_attention(before)

    def _set_attention(self, implementation: str) -> None:
        with silenced():
            self.model.set_attn_implementation(implementation)


def run_together(*begun: Lockstep | None, progress: Progress | None = None) -> None:
    """Run passes that were begun to the last layer, a layer of each model in turn."""
    with silenced():
        walk(begun, None if progress is None else partial(progress, "function: layer by layer"))


def used_rows(runner: ModelRunner) -> int:
    """Number of token-embedding rows without the zero rows at the end, which are padding."""
    stop = runner.vocab
    while stop:
        start = max(0, stop - CHUNK)
        filled = runner.rows(TOKENS, start, stop).any(dim=-1).nonzero()  # (rows that are not zero, 1)
        if len(filled):
            return start + int(filled[-1]) + 1
        stop = start
    return runner.vocab


def _rows(table: nn.Embedding, ids: Tensor) -> Tensor:
    """Rows of a table. OPT's own forward pass takes a mask; its rows are read by their numbers all the same."""
    if type(table).forward is nn.Embedding.forward or not hasattr(table, "offset"):
        rows: Tensor = table(ids)
        return rows
    for hook in table._forward_pre_hooks.values():  # those that bring the weights in
        hook(table, ())
    return nn.functional.embedding(ids, table.weight)


def _embedding_tables(model: Any) -> dict[str, nn.Embedding]:
    tokens = model.get_input_embeddings()
    others = [m for m in model.modules() if isinstance(m, nn.Embedding) and m is not tokens]
    return {TOKENS: tokens} | ({POSITIONS: others[0]} if len(others) == 1 else {})

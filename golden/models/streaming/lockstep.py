"""Several prompts through one model that is read layer by layer: each layer is read once for all of them.

A forward pass cannot be cut in two from outside, so each prompt has a thread of its own. Only one of them runs at a
time: where a pass comes to the next layer it waits until all others have come there. All stop before the last layer, so
that the logits of one prompt after the other are made when they are asked for, and never those of all at once.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn


class _Abandoned(BaseException):
    """Raised in a pass that nobody waits for any longer."""


@dataclass(frozen=True)
class Run:
    """A forward pass that is to be made, and the context in which each part of it runs."""

    make: Callable[[], Any]
    within: Callable[[], AbstractContextManager[Any]] = nullcontext


class Journal(Protocol):
    """What is kept of the outputs of a layer, one for each pass: see `golden.models.streaming.journal`."""

    def note(self, layer: int, outputs: Mapping[Hashable, Any]) -> None: ...

    def forget(self) -> None: ...


class Pass:
    """One forward pass in a thread, which runs from one layer to the next when it is told to.

    ``output``: what the last block gave.
    """

    def __init__(self, run: Run) -> None:
        self.waits_for: nn.Module | None = None
        self.output: Any = None
        self.result: Any = None
        self.error: BaseException | None = None
        self._within = run.within
        self._abandoned = self._ended = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(run.make,), daemon=True)
        self._thread.start()

    def _run(self, run: Callable[[], Any]) -> None:
        self._go.acquire()
        try:
            if not self._abandoned:
                self.result = run()
        except BaseException as error:  # raised again where the result is asked for
            self.error = error
        self.waits_for, self._ended = None, True
        self._stopped.release()

    @property
    def is_this_thread(self) -> bool:
        """Whether the caller runs in this pass."""
        return threading.current_thread() is self._thread

    def pause(self, unit: nn.Module) -> None:
        """Called in the pass: wait until the weights of a layer are there."""
        self.waits_for = unit
        self._stopped.release()
        self._go.acquire()
        if self._abandoned:
            raise _Abandoned

    def resume(self) -> None:
        """Called outside: let it run to the next layer, or to its end."""
        with self._within():
            self._go.release()
            self._stopped.acquire()

    def abandon(self) -> None:
        """End a pass whose result nobody wants; nothing where it has ended."""
        if not self._ended:
            self._abandoned = True
            self.resume()
        self._thread.join()


def give_back() -> None:
    """Hand freed memory back to the system: glibc keeps it for each thread apart, and there is a thread a prompt."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class Lockstep:
    """Passes of one model, by prompt. All stop before the last layer.

    Args:
        load: gives a layer its weights.
        order: all layers, first to last.
        blocks: those of them that are alike.
    """

    def __init__(self, load: Callable[[nn.Module], None], order: list[nn.Module], blocks: list[nn.Module]) -> None:
        self._load = load
        self._order = order
        self._last = order[-1] if order else None
        self._blocks = blocks
        self._passes: dict[Hashable, Pass] = {}
        self._done: list[nn.Module] = []
        self._journal: Journal | None = None

    def entered(self, unit: nn.Module) -> bool:
        """Called by a layer before it runs. True where a pass of these waited for it, and its weights are there now."""
        one = self._current()
        if one is not None and unit not in self._done:
            one.pause(unit)
        return one is not None

    def left(self, output: Any) -> None:
        """Called by a block with what it gives."""
        if (one := self._current()) is not None:
            one.output = output

    def _current(self) -> Pass | None:
        return next((one for one in self._passes.values() if one.is_this_thread), None)

    def begin(
        self,
        runs: Mapping[Hashable, Run],
        journal: Journal | None = None,
        kept: tuple[int, Mapping[Hashable, Any]] | None = None,
    ) -> None:
        """Bring passes to the first layer.

        Args:
            journal: is told what each block gave.
            kept: number of a block, and what it gave in each pass of an earlier run: it and those before do not run.
        """
        self.abandon()
        self._journal = journal
        self._passes = {key: Pass(run) for key, run in runs.items()}
        if kept is not None:
            self._skip(kept[0], {id(self._passes[key]): output for key, output in kept[1].items()})
        for one in self._passes.values():
            one.resume()

    def _skip(self, number: int, outputs: Mapping[int, Any]) -> None:
        """Blocks up to that number give what the last of them gave before, and need no weights."""
        self._done = self._blocks[: number + 1]
        for block in self._done:
            block.forward = lambda *args, **kwargs: outputs[id(self._current())]

    @property
    def reached(self) -> tuple[int, int]:
        """Number of the layer that passes wait for, and of all layers."""
        waiting = next((one.waits_for for one in self._passes.values() if one.waits_for is not None), None)
        return (len(self._order) if waiting is None else self._order.index(waiting)), len(self._order)

    def step(self) -> bool:
        """Run all passes through the next layer. False where they are at the last one."""
        unit = next((p.waits_for for p in self._passes.values() if p.waits_for not in (None, self._last)), None)
        if unit is None:
            self._unskip()
            give_back()
            return False
        self._load(unit)
        for one in self._passes.values():
            while one.waits_for is unit:
                one.resume()
        if self._journal is not None and unit in self._blocks and all(one.waits_for for one in self._passes.values()):
            self._journal.note(self._blocks.index(unit), {key: one.output for key, one in self._passes.items()})
        return True

    def finish(self, key: Hashable) -> Any:
        """The result of a pass, which runs to its end now; KeyError where there is none, or it was taken already.

        Raises:
            BaseException: what the pass raised.
        """
        one = self._passes[key]  # and stays there: `entered` has to know it while it runs
        try:
            while one.waits_for is not None:
                self._load(one.waits_for)
                one.resume()
        finally:
            one.abandon()
            del self._passes[key]
        if one.error is not None:
            raise one.error
        result, one.result = one.result, None  # the thread and its pass hold each other for a while
        give_back()
        return result

    def forget(self) -> None:
        """Remove the journal: what the passes were run for stands."""
        if self._journal is not None:
            self._journal.forget()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._passes

    def abandon(self) -> None:
        """End all passes that are left."""
        for one in self._passes.values():  # all stay there: one that still runs is ended where it comes to a layer
            one.abandon()
        self._passes = {}
        self._unskip()

    def _unskip(self) -> None:
        for block in self._done:
            del block.forward
        self._done = []


def walk(models: Iterable[Lockstep | None], told: Callable[[int, int], object] | None = None) -> None:
    """Run passes of several models to the last layer, a layer of each in turn; ``told(done, total)`` after each."""
    left = [model for model in models if model is not None]
    while left:
        if told is not None:
            told(*left[0].reached)
        left = [model for model in left if model.step()]

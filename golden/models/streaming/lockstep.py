"""Several prompts through one model that is read layer by layer: each layer is read once for all of them.

A forward pass cannot be cut in two from outside, so each prompt has a thread of its own. Only one of them runs at a
time: where a pass comes to the next layer it waits until all others have come there. All stop before the last layer, so
that the logits of one prompt after the other are made when they are asked for, and never those of all at once.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Hashable
from typing import Any

from torch import nn


class _Abandoned(BaseException):
    """Raised in a pass that nobody waits for any longer."""


class Pass:
    """One forward pass in a thread, which runs from one layer to the next when it is told to."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.waits_for: nn.Module | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self._abandoned = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(run,), daemon=True)
        self._thread.start()

    def _run(self, run: Callable[[], Any]) -> None:
        self._go.acquire()
        try:
            if not self._abandoned:
                self.result = run()
        except BaseException as error:  # raised again where the result is asked for
            self.error = error
        self.waits_for = None
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
        self._go.release()
        self._stopped.acquire()

    def abandon(self) -> None:
        """End a pass whose result nobody wants."""
        if self._thread.is_alive():
            self._abandoned = True
            self.resume()
            self._thread.join()


def give_back() -> None:
    """Hand freed memory back to the system: glibc keeps it for each thread apart, and there is a thread a prompt."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class Lockstep:
    """Passes of one model, by prompt. ``load`` gives a layer its weights, ``last`` is the layer they stop before."""

    def __init__(self, load: Callable[[nn.Module], None], last: nn.Module | None) -> None:
        self._load = load
        self._last = last
        self._passes: dict[Hashable, Pass] = {}

    def entered(self, unit: nn.Module) -> bool:
        """Called by a layer before it runs. True where a pass of these waited for it, and its weights are there now."""
        for one in self._passes.values():
            if one.is_this_thread:
                one.pause(unit)
                return True
        return False

    def start(self, runs: dict[Hashable, Callable[[], Any]]) -> None:
        """Run passes together, to the last layer."""
        self.abandon()
        self._passes = {key: Pass(run) for key, run in runs.items()}
        for one in self._passes.values():
            one.resume()
        while unit := next((p.waits_for for p in self._passes.values() if p.waits_for not in (None, self._last)), None):
            self._load(unit)
            for one in self._passes.values():
                while one.waits_for is unit:
                    one.resume()
        give_back()

    def finish(self, key: Hashable) -> Any:
        """The result of a pass, which runs to its end now; KeyError where there is none, or it was taken already.

        Raises:
            BaseException: what the pass raised.
        """
        one = self._passes.pop(key)
        self._passes[key] = one  # `entered` has to know it while it runs
        try:
            while one.waits_for is not None:
                self._load(one.waits_for)
                one.resume()
        finally:
            del self._passes[key]
        if one.error is not None:
            raise one.error
        result, one.result = one.result, None  # the thread and its pass hold each other for a while
        give_back()
        return result

    def __contains__(self, key: Hashable) -> bool:
        return key in self._passes

    def abandon(self) -> None:
        """End all passes that are left."""
        left, self._passes = self._passes, {}
        for one in left.values():
            one.abandon()

"""The hash of a file while it is written: by the thread that writes, by a thread of its own, or none."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Protocol, Self


class Hash(Protocol):
    """Is told bytes in the order of their file; sha256, say."""

    def update(self, data: memoryview, /) -> None:
        """The next bytes."""
        ...

    def hexdigest(self) -> str:
        """The hash of all of them."""
        ...


class Digest:
    """Hashes in the thread that writes; without a hash it does nothing."""

    def __init__(self, hash: Hash | None) -> None:
        self._hash = hash

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Nothing is left to be done."""

    def take(self, data: memoryview, done: Callable[[], object]) -> None:
        """The next bytes of the file; `done` is called when their memory is no longer needed, whatever happens."""
        try:
            if self._hash:
                self._hash.update(data)
        finally:
            done()

    def hexdigest(self) -> str | None:
        """The hash of all bytes taken."""
        return self._hash.hexdigest() if self._hash else None


class ThreadedDigest(Digest):
    """Hashes in a thread of its own. An error there is raised by the next call."""

    def __init__(self, hash: Hash) -> None:
        super().__init__(hash)
        self._taken: SimpleQueue[tuple[memoryview, Callable[[], object]] | None] = SimpleQueue()
        self._thread = Thread(target=self._consume, daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Waits for the thread."""
        self._finish()

    def take(self, data: memoryview, done: Callable[[], object]) -> None:
        """Hands the bytes to the thread."""
        self._taken.put((data, done))
        self._check()

    def hexdigest(self) -> str | None:
        """The hash of all bytes taken; waits for the thread."""
        self._finish()
        self._check()
        return super().hexdigest()

    def _consume(self) -> None:
        while item := self._taken.get():
            try:
                super().take(*item)
            except BaseException as error:
                self._error = error

    def _finish(self) -> None:
        self._taken.put(None)
        self._thread.join()

    def _check(self) -> None:
        if self._error:
            raise self._error

"""The hash of a file while its bytes pass: in the writing thread, in a thread of its own, or not at all.

A digest hands out the buffers that bytes are read into and takes them back when they are written, so that a hash in
another thread can finish with a buffer before it is filled again.
"""

import mmap
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Protocol, Self

from converters.engine.linux_calls import address
from converters.engine.outlet import UnderWay

CHUNK = 1 << 20  # bytes of one buffer
HUGE = 2 << 20  # bytes of a huge page
RING = 4  # buffers between writing and hashing


def windows(at: int, length: int, chunk: int = CHUNK) -> Iterator[tuple[int, int]]:
    """`length` bytes for byte `at` of a file as (start, length) of parts of up to `chunk` bytes; pages end them."""
    done = 0
    while done < length:
        size = min(chunk - (at + done) % mmap.PAGESIZE, length - done)
        yield done, size
        done += size


def paged(nbytes: int) -> memoryview:
    """Memory that begins with a page, as what goes past the page cache must; in huge pages where it fills them.

    A disk is asked for each run of memory: 1 MiB of small pages makes several requests, of a huge page one.
    """
    ahead = HUGE if nbytes >= HUGE else 0
    memory = mmap.mmap(-1, nbytes + ahead, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if not ahead or not hasattr(mmap, "MADV_HUGEPAGE"):
        return memoryview(memory)[:nbytes]
    with suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)[-address(memory) % HUGE :][:nbytes]


class Hash(Protocol):
    """Is told bytes in the order of their file; sha256, say."""

    def update(self, data: memoryview, /) -> None:
        """The next bytes."""
        ...

    def hexdigest(self) -> str:
        """The hash of all of them."""
        ...


class Digest(Protocol):
    """Buffers out, buffers in, a hash at the end."""

    def buffer(self) -> memoryview:
        """A buffer of CHUNK bytes to fill; it begins with a page."""
        ...

    def take(self, buffer: memoryview, data: memoryview, begun: UnderWay | None) -> None:
        """`data`, a part of the buffer, has been written, or will be when what has begun is done."""
        ...

    def lend(self, data: memoryview, begun: UnderWay | None, then: Callable[[], object] | None = None) -> None:
        """The same of bytes in somebody else's memory; `then` is called when they are no longer needed."""
        ...


class NoDigest:
    """Some buffers, no hash."""

    def __init__(self, count: int = 1) -> None:
        memory = paged(count * CHUNK)
        self._buffers: deque[tuple[memoryview, UnderWay | None]]
        self._buffers = deque((memory[k * CHUNK :][:CHUNK], None) for k in range(count))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._buffers.clear()

    def buffer(self) -> memoryview:
        """The buffer that was taken longest ago, once its bytes are written."""
        buffer, begun = self._buffers.popleft()
        if begun:
            begun.wait()
        return buffer

    def take(self, buffer: memoryview, data: memoryview, begun: UnderWay | None) -> None:
        """It can be handed out again."""
        self._buffers.append((buffer, begun))

    def lend(self, data: memoryview, begun: UnderWay | None, then: Callable[[], object] | None = None) -> None:
        """Waits until they are written."""
        if begun:
            begun.wait()
        if then:
            then()

    def hexdigest(self) -> str | None:
        """There is none."""
        return None


class InlineDigest(NoDigest):
    """Hashes in the thread that writes."""

    def __init__(self, hash: Hash, count: int = 1) -> None:
        super().__init__(count)
        self._hash = hash

    def take(self, buffer: memoryview, data: memoryview, begun: UnderWay | None) -> None:
        """Hashes at once."""
        self._hash.update(data)
        super().take(buffer, data, begun)

    def lend(self, data: memoryview, begun: UnderWay | None, then: Callable[[], object] | None = None) -> None:
        """Hashes at once."""
        self._hash.update(data)
        super().lend(data, begun, then)

    def hexdigest(self) -> str | None:
        """The hash of all bytes taken."""
        return self._hash.hexdigest()


class ThreadedDigest:
    """A ring of buffers, hashed by a thread of its own."""

    def __init__(self, hash: Hash) -> None:
        self._hash = hash
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._full: SimpleQueue[tuple[memoryview, Callable[[], object] | None] | None] = SimpleQueue()
        for _ in range(RING):
            self._free.put(paged(CHUNK))
        self._thread = Thread(target=self._consume, daemon=True)
        self._running = False
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._running = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._finish()

    def _consume(self) -> None:
        while (item := self._full.get()) is not None:
            data, then = item
            try:
                self._hash.update(data)
            except BaseException as error:
                self._error = error
            finally:  # whoever waits for the memory goes on, and is told of the error
                if then:
                    then()

    def _finish(self) -> None:
        if self._running:
            self._running = False
            self._full.put(None)
            self._thread.join()

    def _check(self) -> None:
        """An error of the hashing thread is raised in the writing one."""
        if self._error:
            raise self._error

    def buffer(self) -> memoryview:
        """The next free buffer of the ring."""
        return self._free.get()

    def take(self, buffer: memoryview, data: memoryview, begun: UnderWay | None) -> None:
        """Hands the buffer to the hashing thread, once it is written."""
        self.lend(data, begun, partial(self._free.put, buffer))

    def lend(self, data: memoryview, begun: UnderWay | None, then: Callable[[], object] | None = None) -> None:
        """Hands the bytes to the hashing thread, once they are written."""
        if begun:
            begun.wait()
        self._full.put((data, then))
        self._check()

    def hexdigest(self) -> str | None:
        """The hash of all bytes taken; waits for the thread."""
        self._finish()
        self._check()
        return self._hash.hexdigest()

"""Memory that bytes pass through between two files: a few buffers, which all threads share."""

import mmap
from queue import SimpleQueue

from converters.engine.tiles import BLOCK
from converters.engine.transposing import SPACE


class Buffer:
    """`block` for the bytes of one part of a step, `space` for elements that change their order on the way there.

    Pages that nobody touches take no memory: 1 MiB is used where bytes are copied.
    """

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, BLOCK + SPACE))
        self.block, self.space = memory[:BLOCK], memory[BLOCK:]


BufferPool = SimpleQueue[Buffer]  # who takes one and finds none waits until one is given back


def buffer_pool(count: int) -> BufferPool:
    """A pool of `count` buffers.

    Raises:
        OSError: there is no memory.
    """
    pool: BufferPool = SimpleQueue()
    for _ in range(count):
        pool.put(Buffer())
    return pool

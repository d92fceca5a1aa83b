"""Memory that bytes pass through between two files, a few pieces of it for all threads."""

import mmap
from queue import SimpleQueue

from converters.engine.tiles import BLOCK
from converters.engine.transposing import SPACE


class Memory:
    """`block` for the bytes of one part of a step, `space` for elements that change their order on the way there.

    Pages that nobody touches take no memory: 1 MiB is used where bytes are copied.
    """

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, BLOCK + SPACE))
        self.block, self.space = memory[:BLOCK], memory[BLOCK:]


class Memories:
    """So many memories that all threads share; who needs one more waits."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[Memory | None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)  # made when it is first needed

    def take(self) -> Memory:
        """A memory of one's own, until it is given back."""
        memory = self._free.get()
        try:
            return memory or Memory()
        except BaseException:
            self._free.put(None)  # or the others would wait for it for ever
            raise

    def give(self, memory: Memory) -> None:
        """Lets the next have it."""
        self._free.put(memory)

"""The bytes that steps stand for, made from a source's files in chunks, for whoever writes or compares them."""

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from converters.algebra.boxes import row_major
from converters.checkpoint.casts import cast
from converters.checkpoint.safetensors_header import BITS
from converters.checkpoint.source_files import SourceFiles
from converters.engine.digest import paged, windows
from converters.engine.outlet import PAGE
from converters.engine.steps import Cast, Copy, Gather, Literal, Sheet
from converters.engine.strips import strips
from converters.engine.tiles import BLOCK
from converters.engine.transposing import SPACE, fill, move, viewed
from converters.plan.rules import TargetTensor

if TYPE_CHECKING:
    from converters.engine.transposing import Elements

BLOCKS = 2  # spaces at least: one is filled while the other is hashed


class Space:
    """Memory for one tile or strip: `block` for its elements, `space` for what they pass through."""

    def __init__(self) -> None:
        self.block = paged(BLOCK + PAGE)
        self.space = memoryview(bytearray(SPACE))


class Spaces:
    """A few spaces that all threads share; who needs one more waits."""

    def __init__(self, count: int = BLOCKS) -> None:
        self._free: SimpleQueue[Space | None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def take(self) -> Space:
        """A space of one's own, until it is given back."""
        space = self._free.get()
        try:
            return space or Space()
        except BaseException:
            self._free.put(None)  # or the others would wait for it for ever
            raise

    def give(self, space: Space) -> None:
        """Lets the next have it."""
        self._free.put(space)


# Makes a part of a step in a space: its bytes in order, each chunk at the same place of a page as in the target file.
Part = Callable[[Space], Iterator[memoryview]]


@dataclass(frozen=True)
class Maker:
    """Makes bytes of target tensors; `errors` gets the largest error of each tensor that is cast."""

    files: SourceFiles
    errors: MutableMapping[str, float] = field(default_factory=dict)

    def fill(self, step: Copy | Literal | Cast, start: int, into: memoryview) -> None:
        """Fills a buffer with the bytes of a step from `start` on.

        Raises:
            UnsafeFile: a source file ended early.
            NotInvertible: a number that is cast does not fit.
        """
        if isinstance(step, Copy):
            self.files.read(step.file, step.begin + start, into)
        elif isinstance(step, Literal):
            into[:] = _repeated(step, start, len(into))
        else:
            into[:] = self._cast(step, start, len(into))

    def _cast(self, step: Cast, start: int, length: int) -> bytes:
        """The cast of as many elements as `length` bytes hold, `start` bytes behind the step's first."""
        tensor = step.tensor
        width, narrow = BITS[tensor.dtype] // 8, BITS[str(tensor.cast_from)] // 8
        data = memoryview(bytearray(length // width * narrow))
        self.files.read(step.file, step.begin + start // width * narrow, data)
        return self._converted(tensor, data)

    def _converted(self, tensor: TargetTensor, data: memoryview) -> bytes:
        done = cast(data, str(tensor.cast_from), tensor.dtype, tensor.key)
        self.errors[tensor.key] = max(self.errors.get(tensor.key, 0.0), done.error)
        return done.data

    def moved(self, step: Gather | Sheet) -> Iterator[Part]:
        """The parts of a step in order."""
        if isinstance(step, Gather):
            yield partial(self._tile, step)
            return
        at = step.at
        for elements in strips(step.piece, step.width, self.files):
            self.files.check_length(str(step.piece.source))
            yield partial(_strip, elements, at)
            at += elements.nbytes

    def _tile(self, step: Gather, space: Space) -> Iterator[memoryview]:
        tile, tensor = step.tile, step.tensor
        width = BITS[tensor.cast_from or tensor.dtype] // 8
        at = 0 if tensor.cast_from else step.at
        block = space.block[at % PAGE :][: tile.count * width]
        fill(tile.pieces, width, block, space.space, self.files)
        for start, length in windows(at, len(block)):
            data = block[start : start + length]
            yield memoryview(self._converted(tensor, data)) if tensor.cast_from else data


def _strip(elements: "Elements", at: int, space: Space) -> Iterator[memoryview]:
    block = space.block[at % PAGE :][: elements.nbytes]
    move(elements, viewed(block, elements.itemsize, 0, elements.shape, row_major(elements.shape)), space.space)
    for start, length in windows(at, len(block)):
        yield block[start : start + length]


def _repeated(step: Literal, start: int, length: int) -> bytes:
    """Bytes start..start + length of the repeated pattern."""
    size = len(step.pattern)
    skip = start % size
    return (step.pattern * (-(-(skip + length) // size)))[skip : skip + length]

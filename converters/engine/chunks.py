"""The bytes that steps stand for, made from a source's files chunk by chunk, for whoever writes or compares them."""

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from math import prod

from converters.checkpoint.casts import cast
from converters.checkpoint.source_files import SourceFiles
from converters.engine.buffers import Buffer
from converters.engine.steps import CHUNK, Cast, Copy, Literal, Step, parts, tensor_steps
from converters.engine.tiles import cut_pieces
from converters.engine.transposing import fill
from converters.plan.rules import TargetTensor


@dataclass(frozen=True)
class Maker:
    """Makes bytes of target tensors; `errors` gets the largest error of each tensor that is cast."""

    files: SourceFiles
    errors: MutableMapping[str, float] = field(default_factory=dict)

    def make(self, step: Step, buffer: Buffer) -> memoryview:
        """The bytes of a step that `parts` gave; valid until the buffer is used again.

        Raises:
            UnsafeFile: a source file ended early.
            NotInvertible: a number that is cast does not fit.
        """
        if isinstance(step, Literal):
            return memoryview(step.pattern * -(-step.length // len(step.pattern)))[: step.length]
        if isinstance(step, Copy):
            data = buffer.block[: step.length]
            self.files.read(step.file, step.begin, data)
            return data
        data = buffer.block[: step.count * step.width]
        if isinstance(step, Cast):
            self.files.read(step.file, step.begin, data)
        else:
            pieces = cut_pieces(step.pieces, prod(step.shape), step.first, step.count)
            fill(pieces, step.width, data, buffer.space, self.files)
        return self._converted(step.tensor, data) if step.tensor.cast_from else data

    def _converted(self, tensor: TargetTensor, data: memoryview) -> memoryview:
        done = cast(data, str(tensor.cast_from), tensor.dtype, tensor.key)
        self.errors[tensor.key] = max(self.errors.get(tensor.key, 0.0), done.error)
        return memoryview(done.data)


def made(maker: Maker, tensor: TargetTensor) -> Iterator[memoryview]:
    """The tensor's bytes in order, in chunks of whole elements; each is valid until the next."""
    buffer = Buffer()
    for step in tensor_steps(tensor, 0, maker.files.source):
        for part in parts(step, CHUNK):
            yield maker.make(part, buffer)

"""Writing shards: bytes go from file to file through buffers of 1 MiB, hashed on the way, never through tensors.

Larger buffers are dearer (they leave the cache), memory maps cost page faults, and whole tensors cost memory; the
measurements behind this are in docs/decisions/0002. Reading, writing and hashing all release the interpreter lock, so
threads over shards help; a single hashed file gets a second thread for its hash.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from threading import Event
from typing import TypeVar

from converters.casts import cast
from converters.checkpoint import Checkpoint, FileState
from converters.clone import Cloning
from converters.digest import CHUNK, Digest, InlineDigest, NoDigest, ThreadedDigest
from converters.errors import Interrupted, UnsafeFile
from converters.moving import TargetTensor
from converters.safetensors_header import BITS
from converters.shards import Shard
from converters.steps import Cast, Copy, Gather, Literal, Step, pieces_of_work, steps_of
from converters.strided import assemble
from converters.tensor_bytes import row_major_bytes
from converters.writeback import start_writeback

SPAN = 64 << 20  # bytes between two early write-backs, and of one piece of work when files are shared by threads


@dataclass(frozen=True)
class Writing:
    """How to write: `hash` every file, `fsync` it, with how many `threads`; `progress` is told of bytes written.

    errors: gets the largest error of each tensor that is cast.
    """

    hash: bool = True
    fsync: bool = True
    threads: int = 2
    progress: Callable[[int], None] = lambda nbytes: None
    errors: dict[str, float] = field(default_factory=dict)
    stop: Event = field(default_factory=Event)


def write_shards(shards: Sequence[Shard], source: Checkpoint, folder: Path, how: Writing) -> dict[str, str | None]:
    """Writes all shards into a folder; gives the sha256 of each file by name, None where nothing was hashed.

    Raises:
        UnsafeFile: a source file ended early or changed while it was read.
        OSError: the target cannot be written (a full disk, say).
    """
    with ExitStack() as stack:
        files = [stack.enter_context(_opened(path, os.O_RDONLY)) for path in source.files]
        _check_unchanged(source, files)
        writer = _Writer(source, files, how)
        digests = _hashed(writer, shards, folder) if how.hash else _shared(writer, shards, folder)
        _check_unchanged(source, files)
    return digests


def _check_unchanged(source: Checkpoint, files: Sequence[int]) -> None:
    for path, fd, state in zip(source.files, files, source.states, strict=True):
        if FileState.of(fd) != state:
            raise UnsafeFile(f"{path} changed while it was converted; nothing was kept")


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        if flags & os.O_CREAT:
            os.fchmod(fd, 0o644)  # whatever the umask
        yield fd
    finally:
        os.close(fd)


CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


def _hashed(writer: "_Writer", shards: Sequence[Shard], folder: Path) -> dict[str, str | None]:
    """One thread a shard; where there are more threads than shards, each shard's hash gets its own."""
    threads = max(1, min(writer.how.threads, len(shards)))
    kind = ThreadedDigest if writer.how.threads > threads else InlineDigest

    def one(shard: Shard) -> str | None:
        with _opened(folder / shard.name, CREATE) as fd, kind() as digest:
            writer.write(steps_of(shard, writer.source), fd, digest)
            if writer.how.fsync:
                os.fsync(fd)
            return digest.hexdigest()

    largest_first = sorted(shards, key=lambda shard: -shard.nbytes)  # so that the threads end at about the same time
    digests = _run(threads, one, largest_first, writer.how.stop)
    return dict(zip((shard.name for shard in largest_first), digests, strict=True))


def _shared(writer: "_Writer", shards: Sequence[Shard], folder: Path) -> dict[str, str | None]:
    """Without a hash bytes need not even be read: ranges are shared where they can be, and copied otherwise.

    One thread a shard, for two that write one file wait for each other; only a single file is cut into spans.
    """
    with ExitStack() as stack:
        fds = [stack.enter_context(_opened(folder / shard.name, CREATE)) for shard in shards]
        work = [(steps_of(shard, writer.source), fd) for shard, fd in zip(shards, fds, strict=True)]
        if len(shards) == 1:
            work = [([step], fds[0]) for step in pieces_of_work(work[0][0], SPAN)]
        work.sort(key=lambda item: -sum(step.length for step in item[0]))
        cloning = Cloning()

        def one(item: tuple[list[Step], int]) -> None:
            steps, fd = item
            with NoDigest() as digest:
                for step in steps:
                    writer.write(writer.uncloned(step, fd, cloning), fd, digest)

        _run(writer.how.threads, one, work, writer.how.stop)
        if writer.how.fsync:
            _run(writer.how.threads, os.fsync, fds, writer.how.stop)
    return {shard.name: None for shard in shards}


T = TypeVar("T")
R = TypeVar("R")


def _run(threads: int, one: Callable[[T], R], items: Sequence[T], stop: Event) -> list[R]:
    """Runs `one` over items; the first error, or an interrupt here, stops the others at their next chunk."""
    with ThreadPoolExecutor(max(1, threads)) as pool:
        futures: list[Future[R]] = [pool.submit(one, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


@dataclass(frozen=True)
class _Writer:
    """Does steps: source files by number as open descriptors."""

    source: Checkpoint
    files: Sequence[int]
    how: Writing

    def uncloned(self, step: Step, fd: int, cloning: Cloning) -> Sequence[Step]:
        """Clones what it can of a step; gives what remains to be written."""
        if not isinstance(step, Copy):
            return [step]
        rest = list(cloning.rest(step, self.files[step.file], fd))
        self.how.progress(step.length - sum(part.length for part in rest))
        return rest

    def write(self, steps: Sequence[Step], fd: int, digest: Digest) -> None:
        """Writes steps into a file in order, telling the digest every byte."""
        unsynced = 0
        for step in steps:
            for at, length in self._chunks(step, fd, digest):
                if self.how.stop.is_set():
                    raise Interrupted("stopped")
                unsynced += length
                if self.how.fsync and unsynced >= SPAN:
                    start_writeback(fd, at + length - unsynced, unsynced)
                    unsynced = 0
                self.how.progress(length)

    def _chunks(self, step: Step, fd: int, digest: Digest) -> Iterator[tuple[int, int]]:
        """Writes a step chunk by chunk; yields where and how many bytes."""
        for start in range(0, step.length, CHUNK):
            length = min(CHUNK, step.length - start)
            buffer = digest.buffer()
            if isinstance(step, Copy):
                self._read(self.files[step.file], buffer[:length], step.begin + start, step.file)
            elif isinstance(step, Literal):
                buffer[:length] = _repeated(step, start, length)
            elif isinstance(step, Cast):
                self._cast(step, start, buffer[:length])
            else:
                yield from self._gathered(step, fd, digest, buffer)
                return
            _write(fd, buffer[:length], step.at + start)
            digest.take(buffer, length)
            yield step.at + start, length

    def _cast(self, step: Cast, start: int, into: memoryview) -> None:
        """Fills a buffer with the cast of as many elements as it holds, `start` bytes behind the step's first."""
        tensor = step.tensor
        was, width = str(tensor.cast_from), BITS[tensor.dtype] // 8
        narrow = BITS[was] // 8
        data = bytearray(len(into) // width * narrow)
        self._read(self.files[step.file], memoryview(data), step.begin + start // width * narrow, step.file)
        into[:] = self._converted(tensor, data)

    def _converted(self, tensor: TargetTensor, data: bytes | bytearray | memoryview) -> bytes:
        done = cast(memoryview(data), str(tensor.cast_from), tensor.dtype, tensor.key)
        errors = self.how.errors
        errors[tensor.key] = max(errors.get(tensor.key, 0.0), done.error)
        return done.data

    def _gathered(self, step: Gather, fd: int, digest: Digest, buffer: memoryview) -> Iterator[tuple[int, int]]:
        tensor = step.tensor
        width = BITS[tensor.cast_from or tensor.dtype] // 8
        elements = assemble(prod(tensor.shape), width, tensor.pieces, self.read_tensor)
        data = elements.view("u1").data
        if tensor.cast_from:
            data = memoryview(self._converted(tensor, data))
        for start in range(0, len(data), CHUNK):
            part = data[start : start + CHUNK]
            buffer[: len(part)] = part
            _write(fd, part, step.at + start)
            digest.take(buffer, len(part))
            yield step.at + start, len(part)
            if start + CHUNK < len(data):
                buffer = digest.buffer()

    def read_tensor(self, key: str) -> bytes:
        """The bytes of a source tensor, row-major."""
        stored = self.source.tensors[key]

        def read(begin: int, length: int) -> bytes:
            data = bytearray(length)
            self._read(self.files[stored.shard], memoryview(data), begin, stored.shard)
            return bytes(data)

        return row_major_bytes(stored, read)

    def _read(self, fd: int, into: memoryview, begin: int, file: int) -> None:
        done = 0
        while done < len(into):
            got = os.preadv(fd, [into[done:]], begin + done)
            if not got:
                raise UnsafeFile(f"{self.source.files[file]} ended at byte {begin + done} while it was read")
            done += got


def _repeated(step: Literal, start: int, length: int) -> bytes:
    """Bytes start..start + length of the repeated pattern."""
    size = len(step.pattern)
    skip = start % size
    return (step.pattern * (-(-(skip + length) // size)))[skip : skip + length]


def _write(fd: int, data: memoryview, at: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], at + done)

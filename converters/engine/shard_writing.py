"""Writing shards: bytes go from file to file through buffers of 1 MiB, hashed on the way, never through tensors.

Larger buffers are dearer (they leave the cache), memory maps cost page faults, and whole tensors cost memory; the
measurements behind this are in docs/decisions/0002. Reading, writing and hashing all release the interpreter lock, so
threads over shards help; a single hashed file gets a second thread for its hash.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TypeVar

from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.source_files import opened
from converters.engine.chunks import BLOCKS, Maker, Spaces
from converters.engine.clone import Cloning
from converters.engine.digest import InlineDigest, NoDigest, ThreadedDigest
from converters.engine.nonfinite import WatchingHash, count_nonfinite
from converters.engine.outlet import DirectOutlet, Outlet
from converters.engine.shard_layout import Shard
from converters.engine.step_writing import Writer, Writing
from converters.engine.steps import Gather, Sheet, Step, pieces_of_work, steps_of
from converters.engine.writeback import SPAN
from converters.plan.rules import TargetTensor

__all__ = ["Writing", "write_shards"]

BUFFERS = 2  # where one is written while the other is filled and hashed
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)


def write_shards(shards: Sequence[Shard], source: Checkpoint, folder: Path, how: Writing) -> dict[str, str | None]:
    """Writes all shards into a folder; gives the sha256 of each file by name, None where nothing was hashed.

    Raises:
        UnsafeFile: a source file ended early or changed while it was read.
        OSError: the target cannot be written (a full disk, say).
    """
    with opened(source) as files:
        files.check_unchanged()
        writer = Writer(Maker(files, how.errors), how, Spaces(max(BLOCKS, min(how.threads, os.cpu_count() or 1))))
        digests = _hashed(writer, shards, folder) if how.hash else _shared(writer, shards, folder)
        files.check_unchanged()
    return digests


@contextmanager
def _created(path: Path) -> Iterator[int]:
    fd = os.open(path, CREATE, 0o644)
    try:
        os.fchmod(fd, 0o644)  # whatever the umask
        yield fd
    finally:
        os.close(fd)


def _hashed(writer: Writer, shards: Sequence[Shard], folder: Path) -> dict[str, str | None]:
    """One thread a shard; where there are fewer shards than threads and cores, each shard's hash gets its own."""
    threads = max(1, min(writer.how.threads, len(shards)))
    kind = ThreadedDigest if min(writer.how.threads, os.cpu_count() or 1) > threads else InlineDigest
    inline = kind is InlineDigest  # then a thread that waits for the disk leaves its core to another, if there is one
    direct = writer.how.fsync and inline and threads > 1
    source, suspects = writer.maker.files.source, dict[str, TargetTensor]()

    def one(shard: Shard) -> str | None:
        hash = WatchingHash(shard, suspects)
        with (
            _created(folder / shard.name) as fd,
            DirectOutlet(fd) if direct else Outlet(fd, durable=writer.how.fsync) as outlet,
            InlineDigest(hash, BUFFERS) if direct else kind(hash) as digest,
        ):
            writer.write(steps_of(shard, source), outlet, digest)
            outlet.finish()
            if writer.how.fsync:
                os.fsync(fd)
            return digest.hexdigest()

    largest_first = sorted(shards, key=lambda shard: -shard.nbytes)  # so that the threads end at about the same time
    digests = _run(threads, one, largest_first, writer.how.stop)
    writer.how.nonfinite.update(count_nonfinite(writer.maker.files, suspects.values()))
    return dict(zip((shard.name for shard in largest_first), digests, strict=True))


def _shared(writer: Writer, shards: Sequence[Shard], folder: Path) -> dict[str, str | None]:
    """Without a hash bytes need not even be read: ranges are shared where they can be, and copied otherwise.

    One thread a shard, for two that write one file wait for each other; only a single file is cut into spans.
    """
    with ExitStack() as stack:
        fds = [stack.enter_context(_created(folder / shard.name)) for shard in shards]
        steps = [steps_of(shard, writer.maker.files.source) for shard in shards]
        work, threads, turn = list(zip(steps, fds, strict=True)), writer.how.threads, None
        if len(shards) == 1:
            work = [([step], fds[0]) for step in pieces_of_work(steps[0], SPAN)]
            threads, turn = min(threads, os.cpu_count() or 1), Lock()  # nobody waits for anything but a core
        if any(isinstance(step, Gather | Sheet) for part, _ in work for step in part):
            Thread(target=import_module, args=("numpy",), daemon=True).start()  # while others copy
        work.sort(key=lambda item: -sum(step.length for step in item[0]))
        cloning = Cloning()

        def one(item: tuple[list[Step], int]) -> None:
            steps, fd = item
            with NoDigest() as digest:
                outlet = Outlet(fd, durable=writer.how.fsync, turn=turn)
                for step in steps:
                    writer.write(writer.uncloned(step, fd, cloning), outlet, digest)
                outlet.finish()

        _run(threads, one, work, writer.how.stop)
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

"""All shards written into a folder, by threads: bytes go from file to file through buffers, hashed on the way.

Reading, writing and hashing release the interpreter lock, so threads help. What each arrangement gains is measured in
docs/decisions/0002.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TypeVar

from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.source_files import opened
from converters.engine.buffers import buffer_pool
from converters.engine.chunks import Maker
from converters.engine.clone import Cloning
from converters.engine.digest import Digest, ThreadedDigest
from converters.engine.nonfinite import WatchingHash, count_nonfinite
from converters.engine.output_file import SPAN, OutputFile, created
from converters.engine.shard_layout import Shard
from converters.engine.step_writing import Writer, Writing
from converters.engine.steps import Copy, Step, parts, steps_of
from converters.paging import pager_of
from converters.plan.rules import TargetTensor

__all__ = ["Writing", "write_shards"]

RING = 4  # buffers for a thread that writes and the one that hashes what it wrote


def write_shards(shards: Sequence[Shard], source: Checkpoint, folder: Path, how: Writing) -> dict[str, str | None]:
    """Writes all shards into a folder; gives the sha256 of each file by name, None where nothing was hashed.

    Raises:
        UnsafeFile: a source file ended early or changed while it was read.
        OSError: the target cannot be written (a full disk, say).
    """
    cores = os.cpu_count() or 1
    with opened(source) as files:
        files.check_unchanged()
        maker = Maker(files, how.errors)
        digests = _hashed(maker, shards, folder, how, cores) if how.hash else _bare(maker, shards, folder, how, cores)
        files.check_unchanged()
    return digests


def _hashed(maker: Maker, shards: Sequence[Shard], folder: Path, how: Writing, cores: int) -> dict[str, str | None]:
    """One thread a shard; where there are fewer shards than threads and cores, each shard's hash gets its own."""
    threads = max(1, min(how.threads, len(shards)))
    kind, ring = (ThreadedDigest, RING) if min(how.threads, cores) > threads else (Digest, 1)
    writer, suspects = Writer(maker, how, buffer_pool(ring * threads)), dict[str, TargetTensor]()

    def one(shard: Shard) -> str | None:
        with created(folder / shard.name, durable=how.fsync) as file, kind(WatchingHash(shard, suspects)) as digest:
            writer.write(steps_of(shard, maker.files.source), file, digest)
            file.sync()
            return digest.hexdigest()

    # Largest first, so that the threads end at about the same time. One thread keeps to the order of the source.
    order = sorted(shards, key=lambda shard: -shard.nbytes) if threads > 1 else shards
    digests = _run(threads, one, order, how.stop)
    how.nonfinite.update(count_nonfinite(maker.files, suspects.values()))
    return dict(zip((shard.name for shard in order), digests, strict=True))


def _bare(maker: Maker, shards: Sequence[Shard], folder: Path, how: Writing, cores: int) -> dict[str, str | None]:
    """Without a hash bytes need not even be read: ranges are shared where they can be, and copied otherwise.

    One thread a shard, for two that write one file wait for each other; only a single file is cut into spans.
    """
    threads = how.threads if len(shards) > 1 else min(how.threads, cores)  # nobody waits for anything but a core
    writer, cloning = Writer(maker, how, buffer_pool(threads)), Cloning()
    with ExitStack() as stack:
        files = [stack.enter_context(created(folder / shard.name, durable=how.fsync)) for shard in shards]
        work = [(steps_of(shard, maker.files.source), file) for shard, file in zip(shards, files, strict=True)]
        if len(shards) == 1:
            work = [([part], files[0]) for step in work[0][0] for part in parts(step, SPAN)]

        def one(item: tuple[list[Step], OutputFile]) -> None:
            steps, file = item
            for step in steps:
                writer.write(_uncloned(step, file, cloning, writer), file, Digest(None))

        if how.threads > 1:
            work.sort(key=lambda item: -sum(step.length for step in item[0]))
        _run(threads, one, work, how.stop)
        _run(how.threads, OutputFile.sync, files, how.stop)
    return {shard.name: None for shard in shards}


def _uncloned(step: Step, file: OutputFile, cloning: Cloning, writer: Writer) -> Sequence[Step]:
    """Clones what it can of a step; gives what remains to be written."""
    if not isinstance(step, Copy) or pager_of(writer.maker.files.source.files[step.file]):
        return [step]
    rest = list(cloning.rest(step, writer.maker.files.descriptors[step.file], file.fd))
    writer.how.progress(step.length - sum(part.length for part in rest))
    return rest


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

"""Bytes reach their file whole and in place, through the page cache or past it."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from converters.conversion import Request, convert
from converters.engine import shard_writing as engine
from converters.engine.digest import CHUNK, InlineDigest, paged, windows
from converters.engine.outlet import DIRECT, LEAST, PAGE, DirectOutlet, Outlet, UnderWay
from converters.engine.step_writing import Writing
from converters.sample import write_sample


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.fixture
def direct_writes(file: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(place, length) of every write that went past the page cache."""
    found, write = list[tuple[int, int]](), os.pwrite

    def watched(fd: int, data: memoryview, at: int) -> int:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & DIRECT:
            found.append((at, len(data)))
        return write(fd, data, at)

    if not DIRECT:
        pytest.skip("this system has no O_DIRECT")
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, DIRECT)
    except OSError:
        pytest.skip("the filesystem of the temporary folder has no direct writes")
    fcntl.fcntl(file, fcntl.F_SETFL, 0)
    monkeypatch.setattr(os, "pwrite", watched)
    return found


def written(made: Outlet, file: int, at: int, length: int) -> bool:
    """Whether random bytes, written as a conversion would, are what the file holds then."""
    expected = os.urandom(length)
    with made as outlet:
        for start, size in windows(at, length):
            memory = paged(CHUNK + PAGE)
            data = memory[(at + start) % PAGE :][:size]
            data[:] = expected[start : start + size]
            begun = outlet.write(data, at + start)
            if begun:
                begun.wait()
        outlet.finish()
    os.fsync(file)
    return os.fstat(file).st_size == at + length and os.pread(file, length, at) == expected


def full_disk(fd: int, data: memoryview, at: int) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


SPANS = [(0, 3 * CHUNK), (1320, 2 * CHUNK), (8, LEAST + 2 * PAGE), (4095, 2), (4096, 0), (PAGE - 1, LEAST + PAGE + 2)]


@pytest.mark.parametrize(("at", "length"), [span for span in SPANS if span[1]])
def test_bytes_arrive(file: int, at: int, length: int) -> None:
    assert written(Outlet(file, durable=True), file, at, length)
    os.ftruncate(file, 0)
    assert written(DirectOutlet(file), file, at, length)


def test_whole_pages_go_past_the_page_cache(file: int, direct_writes: list[tuple[int, int]]) -> None:
    assert written(DirectOutlet(file), file, 1320, 2 * CHUNK)
    assert direct_writes and all(at % PAGE == 0 and length % PAGE == 0 for at, length in direct_writes)
    assert sum(length for _, length in direct_writes) >= 2 * CHUNK - 2 * PAGE


def test_few_bytes_and_ragged_ends_do_not(file: int, direct_writes: list[tuple[int, int]]) -> None:
    assert written(DirectOutlet(file), file, 0, LEAST - 1)
    assert not direct_writes


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_filesystem_that_cannot_is_written_through_the_cache(
    file: int, direct_writes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    write, tried = os.pwrite, list[int]()

    def refusing(fd: int, data: memoryview, at: int) -> int:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & DIRECT:
            tried.append(at)
            raise OSError(code, os.strerror(code))
        return write(fd, data, at)

    monkeypatch.setattr(os, "pwrite", refusing)
    assert written(DirectOutlet(file), file, 1320, 3 * CHUNK)
    assert tried == [PAGE]  # once, not for every chunk


def test_a_full_disk_is_not_taken_for_one_that_cannot(
    file: int, direct_writes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", full_disk)
    with pytest.raises(OSError, match="No space") as caught:
        written(DirectOutlet(file), file, 0, CHUNK)
    assert caught.value.errno == errno.ENOSPC


def test_a_write_that_ends_early_is_finished(
    file: int, direct_writes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[: max(PAGE, len(data) // 2)], at))
    assert written(DirectOutlet(file), file, 1320, CHUNK)


def test_reserved_disk_makes_no_file_longer_than_its_bytes(file: int) -> None:
    outlet = Outlet(file, durable=False)
    outlet.expect(PAGE, CHUNK)
    assert written(outlet, file, PAGE, CHUNK)


def test_windows_cover_every_byte_and_end_with_pages() -> None:
    for at, length in SPANS:
        parts = list(windows(at, length))
        assert [start for start, _ in parts] == [sum(size for _, size in parts[:k]) for k in range(len(parts))]
        assert sum(size for _, size in parts) == length
        assert all((at + start + size) % PAGE == 0 for start, size in parts[:-1])
        assert all((at + start) % PAGE + size <= CHUNK for start, size in parts)


@pytest.mark.parametrize(
    ("limit", "fsync", "past"), [(200_000, True, True), (200_000, False, False), (None, True, False)]
)
def test_only_several_durable_files_go_past_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None, fsync: bool, past: bool
) -> None:
    made = list[int]()

    class Watched(DirectOutlet):
        def __init__(self, fd: int) -> None:
            made.append(fd)
            super().__init__(fd)

    monkeypatch.setattr(engine, "DirectOutlet", Watched)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    request = Request(max_shard_size=limit, writing=Writing(fsync=fsync, threads=4))
    report = convert(write_sample(tmp_path / "source"), output=tmp_path / "out", request=request)
    assert bool(made) == past
    assert sum(name.endswith(".safetensors") for name in report.files) == len(made) or not past


def test_a_buffer_is_not_handed_out_before_its_bytes_are_written() -> None:
    digest, begun = InlineDigest(hashlib.sha256(), 2), [UnderWay(memoryview(b""), 0) for _ in range(2)]
    first, second = digest.buffer(), digest.buffer()
    digest.take(first, first[:3], begun[0])
    digest.take(second, second[:4], begun[1])
    with ThreadPoolExecutor(1) as pool:
        handed = pool.submit(digest.buffer)
        with pytest.raises(TimeoutError):
            handed.result(timeout=0.05)
        begun[1].done()
        with pytest.raises(TimeoutError):
            handed.result(timeout=0.05)
        begun[0].done()
        assert handed.result(timeout=10) is first
    assert digest.hexdigest() == hashlib.sha256(bytes(7)).hexdigest()


def test_an_error_of_a_write_that_was_under_way_is_raised_by_the_next(
    file: int, direct_writes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", full_disk)
    with DirectOutlet(file) as outlet:
        begun = outlet.write(paged(CHUNK), 0)
        assert begun
        begun.wait()
        with pytest.raises(OSError, match="No space"):
            outlet.write(paged(CHUNK), CHUNK)

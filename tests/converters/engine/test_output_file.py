"""Bytes reach their file whole and in place, however steps are cut; errors of the disk are raised."""

import errno
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from converters.engine import output_file
from converters.engine.output_file import OutputFile, created
from converters.engine.steps import Copy, Literal, parts

CHUNK = 4096
SPANS = [(0, 3 * CHUNK), (1320, 2 * CHUNK), (8, CHUNK + 20), (4095, 2), (4095, 1), (CHUNK - 1, CHUNK + 2)]


@pytest.fixture(params=[True, False], ids=["durable", "cached"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OutputFile]:
    with created(tmp_path / "file", durable=request.param) as made:
        yield made


def written(file: OutputFile, path: Path, at: int, length: int) -> bool:
    """Whether random bytes, written as a conversion would, are what the file holds then."""
    expected = os.urandom(length)
    for part in parts(Copy(0, 0, at, length), CHUNK):
        file.write(memoryview(expected)[part.begin :][: part.length], part.at)
    file.sync()
    return path.read_bytes() == bytes(at) + expected


@pytest.mark.parametrize(("at", "length"), SPANS)
def test_bytes_arrive(file: OutputFile, tmp_path: Path, at: int, length: int) -> None:
    assert written(file, tmp_path / "file", at, length)


def test_a_write_that_ends_early_is_finished(file: OutputFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[: len(data) // 2 or 1], at))
    assert written(file, tmp_path / "file", 1320, CHUNK)


def test_reserved_disk_is_there_and_gets_its_bytes(file: OutputFile, tmp_path: Path) -> None:
    file.reserve(4096, output_file.LONGEST)
    assert written(file, tmp_path / "file", 4096, output_file.LONGEST)


def test_no_write_is_longer_than_others_should_wait(
    file: OutputFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, lengths = os.pwrite, list[int]()

    def watched(fd: int, data: memoryview, at: int) -> int:
        lengths.append(len(data))
        return write(fd, data, at)

    monkeypatch.setattr(os, "pwrite", watched)
    data = os.urandom(2 * output_file.LONGEST + 3)
    file.write(memoryview(data), 0)
    assert (tmp_path / "file").read_bytes() == data
    assert lengths == [output_file.LONGEST, output_file.LONGEST, 3]


def test_a_full_disk_is_told(file: OutputFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(fd: int, data: memoryview, at: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full_disk)
    with pytest.raises(OSError, match="No space"):
        file.write(memoryview(bytes(CHUNK)), 0)


@pytest.mark.parametrize(("durable", "starts"), [(True, 2), (False, 0)])
def test_only_a_durable_file_is_sent_to_the_disk_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, starts: int
) -> None:
    begun = list[int]()
    monkeypatch.setattr(output_file, "_start_writeback", begun.append)
    monkeypatch.setattr(output_file, "SPAN", 4 * CHUNK)
    with created(tmp_path / "file", durable=durable) as file:
        assert written(file, tmp_path / "file", 0, 11 * CHUNK)
    assert len(begun) == starts


@pytest.mark.parametrize("calls", [(), ("sync_file_range", "fallocate")])
def test_calls_of_linux_are_hints_that_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: tuple[str, ...]
) -> None:
    """Where the system has no such call, or refuses it, the bytes arrive all the same."""
    library = SimpleNamespace(**dict.fromkeys(calls, lambda *words: -1))
    monkeypatch.setattr(output_file, "SPAN", CHUNK)
    monkeypatch.setattr(output_file.ctypes, "CDLL", lambda name: library)
    with created(tmp_path / "file", durable=True) as file:
        file.reserve(0, output_file.LONGEST)
        assert written(file, tmp_path / "file", 0, 3 * CHUNK)


def test_a_file_that_exists_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("theirs")
    with pytest.raises(FileExistsError), created(tmp_path / "file", durable=False):
        pass
    assert (tmp_path / "file").read_text() == "theirs"


@pytest.mark.parametrize(("at", "length"), SPANS)
def test_parts_of_a_copy_cover_it_in_order(at: int, length: int) -> None:
    found = list(parts(Copy(2, 77, at, length), CHUNK))
    assert found[0].at == at and sum(part.length for part in found) == length
    assert all(0 < part.length <= CHUNK and part.begin - 77 == part.at - at and part.file == 2 for part in found)
    assert all(part.at + part.length == after.at for part, after in pairwise(found))


@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_parts_of_a_literal_go_on_within_its_pattern(size: int) -> None:
    found = list(parts(Literal(b"abcdefg", 5, 50), size))
    assert [part.at for part in found] == list(range(5, 55, size))
    assert b"".join((part.pattern * 50)[: part.length] for part in found) == (b"abcdefg" * 8)[:50]

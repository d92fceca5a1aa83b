"""Pages of stand-ins: the right bytes within a limit, hashes of files that come in order, bytes that come otherwise."""

import hashlib
import random
from pathlib import Path

import pytest

from cli.hub.errors import HubError
from cli.hub.listing import RemoteFile
from cli.streaming import pager
from cli.streaming.pager import HubPager
from converters.paging import need, paged, pager_of, read

PAGE, SIZE, START = 1 << 12, 100_001, 5_003
DATA = random.Random(0).randbytes(SIZE)


class Server:
    """Gives ranges of DATA; `wrong` holds numbers of requests that are answered with a flipped byte."""

    def __init__(self) -> None:
        self.asked, self.wrong = list[tuple[int, int]](), set[int]()

    def fetch(self, name: str, begin: int, end: int) -> bytes:
        self.asked.append((begin, end))
        data = bytearray(DATA[begin:end])
        if len(self.asked) in self.wrong:
            data[len(data) // 2] ^= 1
        return bytes(data)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def made(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A pager of one file, whose first START bytes are there, with room for eight pages."""
    monkeypatch.setattr(pager, "PAGE", PAGE)
    monkeypatch.setattr(pager, "AT_ONCE", 1)
    with (tmp_path / "w").open("wb") as file:
        file.write(DATA[:START])
        file.truncate(SIZE)
    with HubPager("org/name", server.fetch, 8 * PAGE) as found:
        found.add(tmp_path / "w", RemoteFile("w", SIZE, hashlib.sha256(DATA).hexdigest(), ""), START)
        yield found


def bytes_at(found: HubPager, place: Path, begin: int, end: int) -> bytes:
    with paged(place, found):
        return bytes(read(place / "w", begin, end))


def test_random_reads_give_the_right_bytes_and_never_take_more_than_the_limit(made, tmp_path):
    draw = random.Random(1)
    for _ in range(300):
        begin = draw.randrange(SIZE)
        end = min(SIZE, begin + draw.randrange(1, 6 * PAGE))
        assert bytes_at(made, tmp_path, begin, end) == DATA[begin:end]
        stat = (tmp_path / "w").stat()
        assert stat.st_blocks * 512 <= 8 * PAGE + 3 * PAGE and stat.st_size == SIZE  # header, extents
    assert (tmp_path / "w").read_bytes()[:START] == DATA[:START]


def test_a_file_that_comes_in_order_is_checked_though_parts_are_asked_for_otherwise(made, server, tmp_path):
    for begin in range(0, SIZE, 4 * PAGE):
        for part in (begin + 2 * PAGE, begin, begin + PAGE, begin + 3 * PAGE):
            if part < SIZE:
                assert bytes_at(made, tmp_path, part, min(SIZE, part + PAGE)) == DATA[part : part + PAGE]
    assert made.report() == {"checked": ["w"], "not_checked": []}
    assert sum(end - begin for begin, end in server.asked) == SIZE - START


def test_a_file_of_which_a_part_is_passed_over_is_not_checked(made, tmp_path):
    assert bytes_at(made, tmp_path, 90_000, SIZE) == DATA[90_000:]
    for begin in range(0, 50_000, PAGE):
        assert bytes_at(made, tmp_path, begin, begin + PAGE) == DATA[begin : begin + PAGE]
    assert made.report() == {"checked": [], "not_checked": ["w"]}


def test_a_wrong_byte_is_told_at_the_end_of_the_file(made, server, tmp_path):
    server.wrong = {3}
    with pytest.raises(HubError, match="its hash differs"):
        for begin in range(0, SIZE, PAGE):
            bytes_at(made, tmp_path, begin, min(SIZE, begin + PAGE))
    assert made.report()["checked"] == []


def test_a_page_that_comes_otherwise_again_is_fetched_once_more_and_then_refused(made, server, tmp_path):
    for begin in range(0, SIZE, PAGE):
        bytes_at(made, tmp_path, begin, min(SIZE, begin + PAGE))
    server.wrong = {len(server.asked) + 1}
    assert bytes_at(made, tmp_path, 6_000, 7_000) == DATA[6_000:7_000]
    server.wrong = {len(server.asked) + 1, len(server.asked) + 2}
    with pytest.raises(HubError, match="not those that came before"):
        bytes_at(made, tmp_path, 40_000, 41_000)


def test_a_need_that_is_larger_than_the_limit_is_refused_by_name(made):
    with pytest.raises(HubError, match="--max-shard-size"):
        made.need("w", 20_000, 20_000 + 9 * PAGE)


def test_only_files_of_the_folder_are_filled_and_only_inside(made, tmp_path):
    (tmp_path / "other").write_bytes(b"x" * 10)
    with paged(tmp_path, made):
        need(tmp_path / "other", 0, 10)
        assert pager_of(tmp_path / "w") is made and pager_of(tmp_path) is made
        assert pager_of(tmp_path.parent / "w") is None
    assert pager_of(tmp_path / "w") is None
    assert (tmp_path / "w").read_bytes()[90_000:90_009] == bytes(9)

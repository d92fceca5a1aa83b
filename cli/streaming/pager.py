"""Stand-ins of a repo's weight files: filled by range where they are read, emptied where that was longest ago.

Bytes come in pages. All pages together never take more disk than a limit. What lies between the bytes that were hashed
last and those that are asked for is fetched too where it is near, so that a file comes in its order and its sha256 can
be compared with the Hub's. A page that comes again must have the bytes that it had before.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any, Self

from cli.hub.errors import HubError
from cli.hub.listing import RemoteFile
from cli.interrupts import pressed
from cli.streaming.holes import punch
from converters.errors import Interrupted

PAGE = 4 << 20  # bytes
AT_ONCE = 4  # pages that are fetched at a time
IN_VAIN = 8  # one part in so many of a file may come twice, for its hash
Fetch = Callable[[str, int, int], bytes]  # name, begin, end


@dataclass
class _Stand:
    """One stand-in. `start`: where its data begin, behind a header that stays. `hashed`: bytes from its beginning that
    were told to `digest`, None once bytes were passed over. `in_vain`: pages that came only to be hashed, and went
    before anybody asked for them. `seen`: a hash of each page that ever came.
    """

    file: RemoteFile
    fd: int
    start: int
    digest: "hashlib._Hash | None"
    hashed: int = 0
    checked: bool = False
    in_vain: int = 0
    seen: dict[int, bytes] = field(default_factory=dict)

    def span(self, page: int) -> tuple[int, int]:
        """First byte of a page, and the one behind it; the header belongs to none."""
        return max(page * PAGE, self.start), min((page + 1) * PAGE, self.file.nbytes)


class HubPager:
    """Fills stand-ins in a folder from a repo.

    fetch: gives the bytes of a range. limit: bytes of disk for all pages; it may grow.
    """

    def __init__(self, label: str, fetch: Fetch, limit: int) -> None:
        self._label, self._fetch, self.limit = label, fetch, limit
        self._stands: dict[str, _Stand] = {}
        self._resident: OrderedDict[tuple[str, int], bool] = OrderedDict()  # (file, page), oldest first -> asked for?
        self._lock, self._pool = RLock(), ThreadPoolExecutor(AT_ONCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for stand in self._stands.values():
            os.close(stand.fd)

    def add(self, path: Path, file: RemoteFile, start: int) -> None:
        """Takes a stand-in on: a file of the right size that holds its first `start` bytes, its header."""
        git = hashlib.sha1(b"blob %d\0" % file.nbytes)
        stand = _Stand(file, os.open(path, os.O_RDWR | os.O_CLOEXEC), start, hashlib.sha256() if file.sha256 else git)
        self._stands[path.name] = stand
        self._hash_up_to(stand, start)

    def report(self) -> Mapping[str, Any]:
        """Files whose hash was compared with the Hub's, and files of which not all bytes came in their order."""
        names = sorted(self._stands)
        checked = [name for name in names if self._stands[name].checked]
        return {"checked": checked, "not_checked": [name for name in names if name not in checked]}

    def need(self, name: str, begin: int, end: int) -> None:
        """Brings bytes of a file; others may go for them.

        Raises:
            HubError: they cannot be had, are not what the Hub lists, or are more than the limit.
        """
        with self._lock:
            stand = self._stands.get(name)
            if stand is None:
                return
            asked = range(begin // PAGE, -(-min(end, stand.file.nbytes) // PAGE))
            if not all((name, page) in self._resident for page in asked):
                wanted = self._with_neighbours(stand, asked)
                missing = [page for page in wanted if (name, page) not in self._resident]
                self._make_room(name, asked, missing)
                self._bring(stand, missing)
            for page in asked:
                self._resident[name, page] = True
                self._resident.move_to_end((name, page))

    def _with_neighbours(self, stand: _Stand, asked: range) -> range:
        """The pages from those that were not hashed yet, if they are near, up to some that will be asked for next."""
        first, last = stand.hashed // PAGE, -(-stand.file.nbytes // PAGE)
        if stand.digest is None or first > asked.start:
            return asked
        found = [range(first, min(asked.stop + AT_ONCE, last)), range(first, asked.stop), asked]
        return next((pages for pages in found if len(pages) * PAGE <= self.limit), asked)

    def _make_room(self, name: str, asked: range, missing: Iterable[int]) -> None:
        """Empties the pages that were asked for longest ago, but none of those that are asked for now."""
        need, held = len(list(missing)) * PAGE, len(self._resident) * PAGE
        for key in list(self._resident):
            if held + need <= self.limit:
                return
            if key[0] != name or key[1] not in asked:
                self._empty(key)
                held -= PAGE
        if held + need > self.limit:
            raise HubError(
                f"{self._label} {name}: {held + need:,} bytes are needed at once, --stream may take {self.limit:,} of"
                " disk; give a larger --max-shard-size, or leave --stream out"
            )

    def _empty(self, key: tuple[str, int]) -> None:
        stand = self._stands[key[0]]
        begin, end = stand.span(key[1])
        if begin < end:
            punch(stand.fd, begin, end - begin)
        if not self._resident.pop(key):
            stand.in_vain += 1
            if stand.in_vain * PAGE > stand.file.nbytes // IN_VAIN:
                stand.digest = None  # to fetch most of it twice is a high price for a hash

    def _bring(self, stand: _Stand, pages: list[int]) -> None:
        """Fetches pages and writes them, some at a time, then hashes what has come in its order."""
        for first in range(0, len(pages), AT_ONCE):
            if pressed():
                raise Interrupted("stopped")
            group = pages[first : first + AT_ONCE]
            for page, data in zip(group, self._pool.map(lambda page: self._fetched(stand, page), group), strict=True):
                begin, end = stand.span(page)
                self._resident[stand.file.path, page] = False  # before it is written: an error must not leave it
                if begin < end and os.pwrite(stand.fd, data, begin) != len(data):
                    raise OSError(f"{self._label} {stand.file.path}: the disk took a part of a page only")
                if stand.digest and stand.hashed == begin:
                    self._hash_up_to(stand, end)
        if stand.digest and pages and stand.hashed < stand.span(pages[0])[0]:
            stand.digest = None

    def _fetched(self, stand: _Stand, page: int) -> bytes:
        """The bytes of a page, which are those that it had before; once more if they are not."""
        begin, end = stand.span(page)
        for _ in range(2):
            data = self._fetch(stand.file.path, begin, end) if begin < end else b""
            found = hashlib.sha256(data).digest()
            if stand.seen.setdefault(page, found) == found:
                return data
        raise HubError(
            f"{self._label} {stand.file.path}: bytes {begin} to {end} are not those that came before; try again later,"
            " or from another network"
        )

    def _hash_up_to(self, stand: _Stand, end: int) -> None:
        """Tells the digest the bytes of the stand-in up to `end`, and compares it at the end of the file."""
        assert stand.digest is not None
        while stand.hashed < end:
            data = os.pread(stand.fd, min(1 << 20, end - stand.hashed), stand.hashed)
            stand.digest.update(data)
            stand.hashed += len(data)
        if stand.hashed < stand.file.nbytes:
            return
        if stand.digest.hexdigest() != (stand.file.sha256 or stand.file.git_oid):
            raise HubError(
                f"{self._label} {stand.file.path}: what arrives is not what the Hub lists (its hash differs); nothing"
                " was kept. Try again later, or from another network"
            )
        stand.checked, stand.digest = True, None

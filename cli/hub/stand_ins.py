"""A repo's headers as a folder: files of the right size that hold their headers and nothing else.

They are sparse, so they take no room, and all checks of a local checkpoint are made on them. A plan also looks into
tables that a formula gives, such as `inv_freq`: their bytes are fetched when they are asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cli.hub import needed
from cli.hub.downloads import fetch_one
from cli.hub.listing import Listing
from cli.hub.ranges import read_range
from converters.checkpoint.safetensors_header import LARGEST_HEADER
from converters.errors import ConversionError, UnsafeFile
from converters.paging import paged

if TYPE_CHECKING:
    from huggingface_hub import HfApi

AT_ONCE = 8  # files whose headers are read
SMALL = ("config.json", "conversion.json", "adapter_config.json")


def weight_names(api: "HfApi", listing: Listing) -> list[str]:
    """The files that hold a repo's weights; its index, if it has one, is fetched.

    Raises:
        HubError, UnsafeFile: as `needed.weights`.
    """
    index = needed.index_name(listing)
    if index is None:
        return needed.weights(listing, None)
    return needed.weights(listing, needed.weight_map(fetch_one(api, listing, index)))


def has_headers(names: Sequence[str]) -> bool:
    """Whether weights are of the form whose headers are read by range."""
    return all(name.endswith(".safetensors") for name in names)


@contextmanager
def headers_of(api: "HfApi", listing: Listing, weights: Sequence[str]) -> Iterator[Path]:
    """A folder named like the repo with its config and stand-ins of its weights, which goes again.

    Raises:
        HubError: a server does not answer with the ranges asked for.
        UnsafeFile: the weights are of another form, or a header is longer than one can be.
    """
    if not has_headers(weights):
        raise UnsafeFile(
            f"{listing.repo} holds {weights[0]}, and headers are read by range of .safetensors files alone;"
            f" fetch it first: hf download {listing.repo} --revision {listing.commit}"
        )
    with TemporaryDirectory(prefix="headers-") as place:
        folder = Path(place) / listing.repo.rpartition("/")[2]
        folder.mkdir()
        index = needed.index_name(listing)
        for name in [name for name in (*SMALL, index) if name in listing.files]:
            (folder / str(name)).write_bytes(fetch_one(api, listing, str(name)).read_bytes())
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: stand_in(api, listing, name, folder / name), weights))
        try:
            with paged(folder, _Filling(api, listing, folder)):
                yield folder
        except ConversionError as error:
            error.args = (str(error).replace(str(folder), str(listing)), *error.args[1:])
            raise


class _Filling:
    """Fetches what a plan reads of weight files into their stand-ins, each tensor once."""

    def __init__(self, api: "HfApi", listing: Listing, folder: Path) -> None:
        self._api, self._listing, self._folder = api, listing, folder
        self._there: set[tuple[str, int, int]] = set()

    def need(self, name: str, begin: int, end: int) -> None:
        """Brings the bytes `begin` to `end` of a file."""
        if name not in self._listing.files or (name, begin, end) in self._there:
            return
        data = read_range(self._api, self._listing, name, begin, end)
        with (self._folder / name).open("r+b") as file:
            file.seek(begin)
            file.write(data)
        self._there.add((name, begin, end))

    def report(self) -> Mapping[str, Any]:
        """Nothing is converted from headers."""
        return {}


def stand_in(api: "HfApi", listing: Listing, name: str, path: Path) -> int:
    """A sparse file of the size of a weight file that holds its header; gives the bytes of that.

    Raises:
        HubError: the server does not answer with the range asked for.
    """
    size = listing.files[name].nbytes
    start = read_range(api, listing, name, 0, min(8, size)) if size else b""
    length = int.from_bytes(start, "little")
    if len(start) == 8 and length <= min(LARGEST_HEADER, size - 8):  # else the reader says what is wrong with it
        start += read_range(api, listing, name, 8, 8 + length) if length else b""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
    return len(start)

"""What words of the command line name: a path, or a repo on the Hub that is fetched or whose headers are read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cli.hub.addresses import Address, address_of
from converters.checkpoint.cache_folders import is_cached_repo, note_revision, snapshot_in, snapshot_of
from converters.errors import UnsafeFile

if TYPE_CHECKING:
    from cli.hub.listing import Listing


class Sized(Protocol):
    """Something that will take room on a disk."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        ...


Check = Callable[[Path], Sized]


def folder_of(text: str | Path, check: Check | None = None, *, output: Path | None = None, quiet: bool = True) -> Path:
    """The path that a source names, with the files that a conversion needs.

    check: is given a folder with the headers of a repo before anything large is fetched. It may refuse it, or gives
    what will be made of it, at `output`.

    Raises:
        UsageError: it names nothing that there can be.
        HubError, UnsafeFile: the repo cannot be fetched, or is not what its listing says.
    """
    address = address_of(str(text))
    if address is None:
        return _on_disk(Path(text))
    from huggingface_hub import constants

    if constants.is_offline_mode():
        from cli.hub.listing import cached_folder

        return _checked(cached_folder(address))
    return _fetched(address, check, output, quiet=quiet)


def _on_disk(path: Path) -> Path:
    """A path, or the snapshot of the main branch for a repo's folder in the cache; files of the cache are hashed."""
    found = snapshot_in(path) if is_cached_repo(path) else path
    return _checked(found) if snapshot_of(found) else found


def _checked(snapshot: Path) -> Path:
    from cli.hub.downloads import check_cached

    check_cached([snapshot] if snapshot.is_file() else [snapshot / name for name in _needed_in(snapshot)])
    return snapshot


def _needed_in(snapshot: Path) -> list[str]:
    """The files of a snapshot that a conversion reads; what is wrong with them is told by those who read them."""
    from cli.hub import needed
    from cli.hub.listing import Listing, RemoteFile

    there = {str(path.relative_to(snapshot)): path for path in sorted(snapshot.rglob("*")) if path.is_file()}
    files = {name: RemoteFile(name, path.stat().st_size, None, "") for name, path in there.items()}
    listing, found = Listing(snapshot.name, snapshot.name, files), list[str]()
    with suppress(UnsafeFile):
        found += needed.beside(listing)
        index = needed.index_name(listing)
        found += [index] if index else []
        found += needed.weights(listing, needed.weight_map(snapshot / index) if index else None)
    return found


def _fetched(address: Address, check: Check | None, output: Path | None, *, quiet: bool) -> Path:
    from cli.hub import client, downloads, listing, needed, stand_ins

    api = client.connect(quiet=quiet)
    found = listing.listed(api, address)
    beside, weights = needed.beside(found), stand_ins.weight_names(api, found)
    index = needed.index_name(found)
    names = [*beside, *([index] if index else []), *weights]
    downloads.check_room(found, names)
    if check and stand_ins.has_headers(weights) and downloads.missing(found, weights):
        with stand_ins.headers_of(api, found, weights) as headers:
            downloads.check_room(found, names, output, check(headers).nbytes)
    folder = downloads.fetch(api, found, names)
    with suppress(OSError):  # a cache that cannot be written can still be read
        note_revision(folder, address.revision or "main")
    return folder / weights[0] if "config.json" not in found.files and len(weights) == 1 else folder


@contextmanager
def headers_of(text: str | Path) -> Iterator[tuple[Path, str]]:
    """A path whose headers can be read, and what the source is to be called: of a repo nothing but headers is fetched.

    Raises:
        UsageError, HubError, UnsafeFile: as `folder_of`.
    """
    address = address_of(str(text))
    if address is None:
        path = Path(text)
        found = snapshot_in(path) if is_cached_repo(path) else path
        yield found, str(found)
        return
    from huggingface_hub import constants

    from cli.hub import client, listing, stand_ins

    if constants.is_offline_mode():
        yield listing.cached_folder(address), str(address)
        return
    api = client.connect()
    found_there: Listing = listing.listed(api, address)
    with stand_ins.headers_of(api, found_there, stand_ins.weight_names(api, found_there)) as folder:
        yield folder, str(found_there)

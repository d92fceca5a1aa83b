"""Files of a repo, fetched into the client's cache and hashed, which the client does not do.

A file that differs from what the Hub lists is fetched once more and then refused.
"""

import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cli.hub.client import tried
from cli.hub.errors import HubError, errors_in_words
from cli.hub.listing import Listing
from converters.checkpoint.cache_folders import SHA256, blob_name, git_oid_of, sha256_of
from converters.engine.output_folder import existing_above
from converters.errors import UnsafeFile

if TYPE_CHECKING:
    from huggingface_hub import HfApi

AT_ONCE = 4  # files; each is hashed when it has come
MARGIN = 16 << 20  # bytes of disk to be left


def fetch(api: "HfApi", listing: Listing, names: Iterable[str]) -> Path:
    """The folder of the cache that holds these files of a repo at its commit.

    Raises:
        HubError: a file could not be fetched, or came twice with other bytes than the Hub lists.
    """
    wanted = list(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda name: fetch_one(api, listing, name), wanted))
    return _folder_of(found[0], wanted[0])


def _folder_of(file: Path, name: str) -> Path:
    return file.parents[name.count("/")]


def fetch_one(api: "HfApi", listing: Listing, name: str) -> Path:
    """One file of a repo, in the cache and hashed.

    Raises:
        HubError: as `fetch`.
    """
    with errors_in_words(str(listing)):
        for again in (False, True):
            got = tried(partial(api.hf_hub_download, listing.repo, name, revision=listing.commit, force_download=again))
            if listing.files[name].holds(Path(got)):
                return Path(got)
        _forget(Path(got))
    raise HubError(
        f"{listing} {name}: what arrives is not what the Hub lists, twice in a row (its hash or size differs);"
        f" nothing of it was kept. Try again later, or from another network"
    )


def _forget(file: Path) -> None:
    """Takes bytes that are wrong out of the cache, so that nobody else finds them there."""
    blob = file.resolve()
    file.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


def missing(listing: Listing, names: Iterable[str]) -> list[str]:
    """Those of some files that the cache does not hold yet."""
    from huggingface_hub import try_to_load_from_cache

    found = {name: try_to_load_from_cache(listing.repo, name, revision=listing.commit) for name in names}
    return [name for name, place in found.items() if not isinstance(place, str)]


def check_room(listing: Listing, names: Iterable[str], output: Path | None = None, output_nbytes: int = 0) -> None:
    """Refuses to begin a download that the disk cannot hold, together with what will be made of it on the same disk.

    Raises:
        HubError: naming both sizes.
    """
    from huggingface_hub import constants

    place = existing_above(Path(constants.HF_HUB_CACHE))
    need = sum(listing.files[name].nbytes for name in missing(listing, names))
    if not need:
        return
    if existing_above(output or Path.cwd()).stat().st_dev == place.stat().st_dev:
        need += output_nbytes
    free = shutil.disk_usage(place).free
    if free < need + MARGIN:
        raise HubError(f"{listing} takes {need:,} bytes, {free:,} are free at {place}; set HF_HUB_CACHE elsewhere")


def check_cached(files: Sequence[Path]) -> None:
    """Holds files of the cache against the hashes that they are called by there.

    Raises:
        UnsafeFile: naming the first whose bytes are others.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sound = list(pool.map(_is_sound, files))
    for file in (file for file, fits in zip(files, sound, strict=True) if not fits):
        raise UnsafeFile(
            f"{file} is not the file that was fetched: its bytes do not have the hash {blob_name(file)};"
            " delete its folder from the cache and fetch it again"
        )


def _is_sound(file: Path) -> bool:
    name = blob_name(file)
    return name is None or name == (sha256_of(file) if SHA256.fullmatch(name) else git_oid_of(file))

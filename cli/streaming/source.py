"""A repo as a folder that is never whole on disk: its small files, and stand-ins of its weights that a pager fills.

The folder has the form of the Hub's cache, so a source is known by repo, commit and the sha256 of its files as ever.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cli.hub.addresses import Address, address_of
from cli.hub.errors import HubError
from cli.hub.listing import Listing
from cli.streaming.holes import check_can_punch
from cli.streaming.pager import PAGE, HubPager
from converters.checkpoint.cache_folders import SHA256
from converters.checkpoint.safetensors_header import read_header
from converters.engine.output_folder import existing_above, scratch_beside
from converters.errors import ConversionError, TargetRefused, UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from converters.plan.plan import Plan

SLACK = 24 << 20  # bytes of disk for pages beside those of one output shard; headers and tokenizers take some more
MARGIN = 16 << 20  # bytes that stay free on the disk
AT_ONCE = 8  # headers


@contextmanager
def streamed_folder(
    source: str, plan: Callable[[Path], "Plan"], output: Path | None, to: str, max_shard_size: int | None
) -> Iterator[Path]:
    """The folder of a repo, inside of which all that reads it gets the bytes by range.

    plan: makes the plan of the conversion from a folder with headers.

    Raises:
        UsageError: the source is no repo, or not of the form that is read by range.
        TargetRefused: the disk is too small, or its filesystem cannot give disk back in the middle of a file.
        HubError, UnsafeFile: as `folder_of`.
    """
    address = _address(source)
    target = output or Path(f"{address.repo.rpartition('/')[2]}-{to}")
    check_can_punch(existing_above(target.absolute().parent))
    from cli.hub import client, listing

    api = client.connect()
    found = listing.listed(api, address)
    names = _weights(api, found)
    with scratch_beside(target) as scratch:
        folder = _cache_like(scratch, found)
        starts = _filled(api, found, folder, names)
        with _paged(api, found, folder, starts) as pager:
            try:
                pager.limit += _room(plan(folder), target, max_shard_size)
            except ConversionError as error:
                error.args = (str(error).replace(str(folder), str(found)), *error.args[1:])
                raise
            yield folder


def _address(source: str) -> Address:
    from huggingface_hub import constants

    address = address_of(source)
    if address is None:
        raise UsageError(f"--stream is for a repo on the Hub; {source} is a path, whose files are on disk already")
    if constants.is_offline_mode():
        raise HubError("HF_HUB_OFFLINE is set, and --stream fetches from the Hub; unset it, or leave --stream out")
    return address


def _weights(api: "HfApi", found: Listing) -> list[str]:
    from cli.hub import stand_ins

    names = stand_ins.weight_names(api, found)
    if not stand_ins.has_headers(names) or "config.json" not in found.files:
        raise UsageError(
            f"{found} holds {names[0]}; --stream reads .safetensors beside a config.json alone, leave it out"
        )
    return names


def _cache_like(scratch: Path, found: Listing) -> Path:
    folder = scratch / f"models--{found.repo.replace('/', '--')}" / "snapshots" / found.commit
    folder.mkdir(parents=True)
    (folder.parent.parent / "blobs").mkdir()
    return folder


def _filled(api: "HfApi", found: Listing, folder: Path, weights: list[str]) -> dict[str, int]:
    """Puts the small files there, and stand-ins for the weights; gives the bytes of each stand-in's header.

    Weights that are not in LFS are small, and have no sha256 that they could be called by: they are fetched.
    """
    from concurrent.futures import ThreadPoolExecutor

    from cli.hub import needed, stand_ins
    from cli.hub.downloads import fetch_one

    index = needed.index_name(found)
    large = [name for name in weights if found.files[name].sha256]
    for name in large:
        if not SHA256.fullmatch(str(found.files[name].sha256)):
            raise HubError(f"{found} {name}: the Hub lists {found.files[name].sha256!r} as its sha256")
    small = {*needed.beside(found), *weights, *([index] if index else [])} - {*large}
    for name in sorted(small):
        blob = fetch_one(api, found, name).resolve()
        _linked(folder, name, blob.name, partial(_hard_link, blob))

    def one(name: str) -> int:
        place = _linked(folder, name, str(found.files[name].sha256), lambda path: None)
        return stand_ins.stand_in(api, found, name, place)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(large, pool.map(one, large), strict=True))


def _linked(folder: Path, name: str, blob: str, write: Callable[[Path], object]) -> Path:
    """A link in the folder to a blob, which is written unless another name has it too; gives the blob."""
    place = folder.parent.parent / "blobs" / blob
    if not place.exists():
        write(place)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(os.path.relpath(place, (folder / name).parent))
    return place


def _hard_link(blob: Path, place: Path) -> None:
    """The file of the cache under another name, which takes no disk; a copy where that is another disk."""
    try:
        place.hardlink_to(blob)
    except OSError:
        shutil.copyfile(blob, place)


@contextmanager
def _paged(api: "HfApi", found: Listing, folder: Path, starts: dict[str, int]) -> Iterator[HubPager]:
    from cli.hub.ranges import read_range
    from converters.paging import paged

    with HubPager(str(found), partial(read_range, api, found), SLACK) as pager:
        for name in starts:
            pager.add(folder / name, found.files[name], read_header(folder / name).data_start)
        with paged(folder, pager):
            yield pager


def _room(plan: "Plan", target: Path, max_shard_size: int | None) -> int:
    """Bytes of the largest output shard, which pages of the source may take beside SLACK.

    Raises:
        TargetRefused: the disk does not hold them beside the output, or a tensor of the source is larger.
    """
    from converters.engine.shard_layout import lay_out

    room = max(shard.nbytes for shard in lay_out(plan, max_shard_size))
    place, need = existing_above(target.absolute().parent), room + SLACK
    free = shutil.disk_usage(place).free
    if free < plan.nbytes + need + MARGIN:
        told = f"{plan.nbytes:,} bytes and {need:,} for parts of the source"
        raise TargetRefused(f"{target} needs {told}; {free:,} are free at {place}")
    key, largest = _largest_gathered(plan)
    if largest > need - 2 * PAGE:
        raise TargetRefused(
            f"{key} has {largest:,} bytes, which change their order and so are needed at once, and --stream may take"
            f" {need:,} of disk; give a larger --max-shard-size, or leave --stream out"
        )
    return room


def _largest_gathered(plan: "Plan") -> tuple[str, int]:
    """The largest tensor of the source whose elements change their order, and its bytes."""
    from converters.engine.steps import in_ranges

    gathered = [tensor for tensor in plan.tensors if not in_ranges(tensor, plan.source)]
    keys = {piece.source for tensor in gathered for piece in tensor.pieces if piece.source}
    sizes = [(plan.source.tensors[key].nbytes, key) for key in sorted(keys)]
    nbytes, key = max(sizes, default=(0, ""))
    return key, nbytes

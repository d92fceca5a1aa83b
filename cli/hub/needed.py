"""Which files of a repo a conversion needs: one form of its weights, its config, and what goes along unchanged."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from cli.hub.listing import Listing
from converters.checkpoint.file_forms import named_forms
from converters.checkpoint.json_files import LARGEST_JSON
from converters.checkpoint.side_files import LARGEST, README, SOURCE_README, TEMPLATES, is_carried
from converters.checkpoint.weight_files import FORMS, is_plain_name, weight_map_of
from converters.errors import UnsafeFile
from converters.remote_code.exported import FILES as CODE

SMALL = ("config.json", "params.json", "model_config.yaml", "conversion.json", "adapter_config.json")
SHOWN = 6  # names of files in a message


def index_name(listing: Listing) -> str | None:
    """The index that says which shards a repo has; None if its weights are one file, or of another form.

    Raises:
        UnsafeFile: there are an index and a single file.
    """
    for single, _ in FORMS:
        index = f"{single}.index.json"
        if single in listing.files and index in listing.files:
            raise UnsafeFile(f"{listing.repo} holds both {single} and {index}; one of them is stale")
        if single in listing.files:
            return None
        if index in listing.files:
            return index
    return None


def weight_map(index: Path) -> dict[str, str]:
    """Key -> file name, as an index says.

    Raises:
        UnsafeFile: it is broken, or sends a key to anything but a file beside it.
    """
    return weight_map_of(index, Path(index.name.removesuffix(".index.json")).suffix)


def weights(listing: Listing, weight_map: Mapping[str, str] | None) -> list[str]:
    """The files that hold the weights; `weight_map` is that of the index, if there is one.

    Raises:
        UnsafeFile: the index names a file that the repo does not have, or the weights are of no form that is read.
    """
    if weight_map is not None:
        names = sorted(set(weight_map.values()))
        for name in names:
            if name not in listing.files:
                raise UnsafeFile(f"{listing} has no {name}, which its index names")
        return names
    single = [name for name, _ in FORMS if name in listing.files]
    return single[:1] or _other_form(listing)


def _other_form(listing: Listing) -> list[str]:
    """Weights under other names than those of transformers."""
    top = [name for name in listing.files if is_plain_name(name)]
    if "params.json" in top and (shards := sorted(name for name in top if fnmatchcase(name, "consolidated*.pth"))):
        return shards
    patterns = [pattern for pattern in named_forms() if pattern != "params.json"]
    found = sorted(name for name in top if any(fnmatchcase(name, pattern) for pattern in patterns))
    if len(found) == 1:
        return found
    if found:
        some = ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
        raise UnsafeFile(
            f"{listing.repo} holds {len(found)} models: {some}; fetch the one you mean with"
            f" `hf download {listing.repo} {found[0]}`, then give the path that this prints"
        )
    raise UnsafeFile(f"{listing.repo} holds no weights of a form that is read")


def beside(listing: Listing) -> list[str]:
    """The config and the side files.

    Raises:
        UnsafeFile: a file is larger than a file of its name can be.
    """
    names = [name for name in sorted(listing.files) if _goes_along(name)]
    for name in names:
        limit = LARGEST_JSON if name in (*SMALL, *CODE) else LARGEST
        if listing.files[name].nbytes > limit:
            raise UnsafeFile(
                f"{listing.repo} has a {name} of {listing.files[name].nbytes:,} bytes; expected a small file"
            )
    return names


def _goes_along(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    if not is_plain_name(name):
        return False
    if folder:
        return folder == TEMPLATES and name.endswith(".jinja")
    return name in (*SMALL, *CODE, README, SOURCE_README) or is_carried(name)  # code is compared, never run

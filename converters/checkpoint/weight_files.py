"""Finding the weight files of a folder, and checking that the index agrees with them."""

from collections.abc import Mapping
from pathlib import Path

from converters.checkpoint.json_files import read_json
from converters.checkpoint.regular_files import check_regular
from converters.errors import UnsafeFile

SINGLE = "model.safetensors"
HEADS = ("lm_head.weight", "linear.weight")
FORMS = ((SINGLE, ".safetensors"), ("pytorch_model.bin", ".bin"))  # the first form that exists is read


def weight_files(folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The files of a checkpoint, in the order of their names, and notes for the user.

    Raises:
        UnsafeFile: there are none, or two that contradict each other, or the index names other things than files here.
    """
    there = _forms(folder)
    if not there:
        raise UnsafeFile(f"{folder} holds neither {SINGLE} nor {SINGLE}.index.json; {_other_weights(folder)}")
    found = _of_form(folder, *there[0])
    notes = [f"{found[0].name} was read and {single} was not: the folder has both" for single, _ in there[1:]]
    return found, tuple(notes)


def holds_weights(folder: Path) -> bool:
    """Whether a folder holds weights under the names of transformers."""
    return bool(_forms(folder))


def _forms(folder: Path) -> list[tuple[str, str]]:
    return [form for form in FORMS if any((folder / name).exists() for name in (form[0], f"{form[0]}.index.json"))]


def _of_form(folder: Path, single: str, suffix: str) -> tuple[Path, ...]:
    whole, index = folder / single, folder / f"{single}.index.json"
    if whole.exists() and index.exists() and set(weight_map_of(index, suffix).values()) != {single}:
        raise UnsafeFile(f"{folder} holds both {single} and {index.name}, which names other files; remove the old one")
    if whole.exists():
        check_regular(whole)
        return (whole,)
    names = sorted(set(weight_map_of(index, suffix).values()))
    return tuple(_shard(index, name) for name in names)


def _other_weights(folder: Path) -> str:
    others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".gguf", ".safetensors"))
    return (
        f"the weights in {', '.join(others[:3])} are in a form that cannot be read"
        if others
        else "no weights were found"
    )


def weight_map_of(index: Path, suffix: str) -> dict[str, str]:
    """Key -> file name, as an index says; every name is that of a file beside it.

    Raises:
        UnsafeFile: the index is broken, or sends a key somewhere else.
    """
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnsafeFile(f"{index} has no weight_map")
    for key, name in weight_map.items():
        if not isinstance(name, str) or not _plain(name, suffix):
            raise UnsafeFile(
                f"{index} says that {key!r} is in {name!r}, expected the name of a {suffix} file in this folder"
            )
    return weight_map


def _plain(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and is_plain_name(name)


def is_plain_name(name: str) -> bool:
    """Whether a name is that of a file in one folder: no path, nothing hidden, nothing that a terminal would obey."""
    return bool(name) and len(name) < 200 and not set(name) & set("/\\") and name[0] != "." and name.isprintable()


def _shard(index: Path, name: str) -> Path:
    path = index.parent / name
    if not path.exists():
        raise UnsafeFile(f"{index} names {name}, which is not in the folder")
    check_regular(path)
    return path


def check_index(folder: Path, found: Mapping[str, str], *, tied: bool = False) -> None:
    """Checks that the index names the right file for every tensor; `found`: key -> file name.

    tied: config.json says that head and embedding are one, so that a head may be listed and not stored.

    Raises:
        UnsafeFile: naming the first key for which they differ.
    """
    names = set(found.values())
    for single, suffix in FORMS:
        index = folder / f"{single}.index.json"
        if not index.exists() or not all(name.endswith(suffix) for name in names):
            continue
        weight_map = weight_map_of(index, suffix)
        for key in sorted(weight_map.keys() | found.keys()):
            if weight_map.get(key) != found.get(key) and not (tied and key not in found and key.endswith(HEADS)):
                where = f"it is in {found[key]}" if key in found else "no shard holds it"
                raise UnsafeFile(f"{index} says that {key!r} is in {weight_map.get(key, 'no file')}, but {where}")

"""The weight files of a folder: finding them, checking the index, and what lies there where there are none."""

import re
from collections.abc import Mapping
from pathlib import Path

from converters.checkpoint.json_files import read_json
from converters.checkpoint.regular_files import check_regular
from converters.errors import UnsafeFile

SINGLE = "model.safetensors"
HEADS = ("lm_head.weight", "linear.weight")
FORMS = ((SINGLE, ".safetensors"), ("pytorch_model.bin", ".bin"))  # the first form that exists is read

SHARD = re.compile(r"(model|pytorch_model)-(\d{5})-of-(\d{5})\.(safetensors|bin)")
OTHER_PROGRAMS = (
    ("*.h5", "weights of TensorFlow; load them in transformers 4 with from_tf=True and save the model again"),
    ("*.msgpack", "weights of Flax; load them in transformers 4 with from_flax=True and save the model again"),
    ("*.onnx", "a graph for ONNX; take the weights that it was exported from"),
    ("*.mlmodel", "a model for Core ML; take the weights that it was exported from"),
    ("*.pkl", "a pickle, which may run code; load it where you trust it and save its state dict as safetensors"),
    ("*.ckpt", "a checkpoint of a trainer; save its state dict as safetensors"),
)
DISTRIBUTED = (
    "shards of torch.distributed.checkpoint; make one file of them first. OLMo-core does so with"
    " olmo_core.distributed.checkpoint.unshard_checkpoint(FOLDER, TARGET, optim=False, use_safetensors=True); then copy"
    " its config.json to that file"
)
ENDINGS = (".bin", ".pt", ".pth", ".gguf", ".safetensors")


def weight_files(folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The files of a checkpoint, in the order of their names, and notes for the user.

    Raises:
        UnsafeFile: there are none, or two that contradict each other, or the index names other things than files here.
    """
    there = _forms(folder)
    if not there:
        raise UnsafeFile(f"{folder} holds neither {SINGLE} nor {SINGLE}.index.json; {instead_of_weights(folder)}")
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
    if path.is_symlink() and not path.exists():
        raise UnsafeFile(f"{path} is a link to a file that does not exist: the download is not complete")
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


def consolidated(folder: Path) -> str:
    """The sentence on Mistral's own form, whose files have names that no config.json explains; empty if it is none."""
    found = sorted(path.name for path in folder.glob("consolidated*.safetensors"))
    if not found:
        return ""
    return (
        f"{found[0]} is in Mistral's own form, which cannot be read; take config.json and model*.safetensors, which"
        f" its repository has too"
    )


def instead_of_weights(folder: Path) -> str:
    """What a folder without readable weights holds, as a sentence that says what to do."""
    return _dangling(folder) or distributed(folder) or _shards(folder) or consolidated(folder) or _others(folder)


def distributed(folder: Path) -> str:
    """Shards of torch.distributed.checkpoint, here or where OLMo-core puts them."""
    found = sorted((*folder.glob("*.distcp"), *folder.glob("model_and_optim/*.distcp")))
    return f"{found[0].relative_to(folder)} is one of the {DISTRIBUTED}" if found else ""


def _dangling(folder: Path) -> str:
    """Links into nowhere: what a download that was stopped leaves in the cache of the Hub."""
    names = sorted(path.name for path in folder.iterdir() if path.is_symlink() and not path.exists())
    weights = [name for name in names if name.endswith((*ENDINGS, ".index.json"))]
    if not weights:
        return ""
    return f"{weights[0]} is a link to a file that does not exist: the download is not complete, so download it again"


def _shards(folder: Path) -> str:
    """Shards without the index that says which tensor is in which."""
    found = sorted(filter(None, (SHARD.fullmatch(path.name) for path in folder.iterdir())), key=lambda m: m[0])
    if not found:
        return ""
    first, count = found[0], int(found[0][3])
    missing = sorted(set(range(1, count + 1)) - {int(shard[2]) for shard in found if shard[1] == first[1]})
    lacks = f", and of {count} shards {', '.join(map(str, missing))} are missing" if missing else ""
    index = f"{first[1]}.{first[4]}.index.json"
    return f"{first[0]} is a shard, and {index} is missing, which says what is in each{lacks}; copy it there"


def _others(folder: Path) -> str:
    for pattern, words in OTHER_PROGRAMS:
        if found := sorted(path.name for path in folder.glob(pattern)):
            return f"{found[0]} is {words}"
    others = sorted(path.name for path in folder.iterdir() if path.suffix in ENDINGS)
    if others:
        return f"the weights in {', '.join(others[:3])} are in a form that cannot be read"
    return "no weights were found"

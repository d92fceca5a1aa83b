"""A checkpoint on disk: its config, and where each tensor's bytes lie. Only headers are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.errors import ConfigRefused, CoverageRefused, UnsafeFile, UsageError
from converters.safetensors_header import BITS, parse_json, read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
LARGEST_JSON = 100_000_000  # bytes


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor and where it lies: bytes begin..end of `file`, the `shard`-th file of the checkpoint."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    shard: int
    begin: int
    end: int

    @property
    def width(self) -> int:
        """Bytes of one element."""
        return BITS[self.dtype] // 8

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.end - self.begin


@dataclass(frozen=True)
class Checkpoint:
    """A model folder: `config.json` as it stands, tensors by key, and the files they lie in."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    files: tuple[Path, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def open_checkpoint(source: Path) -> Checkpoint:
    """Opens a folder that holds `config.json` and one or several safetensors files.

    Raises:
        UsageError: there is no such folder.
        ConfigRefused: config.json is missing or not a JSON object.
        UnsafeFile: a tensor file or the index is broken, or they contradict each other.
    """
    folder = _folder(source)
    config = read_config(folder)
    files = _tensor_files(folder)
    tensors: dict[str, StoredTensor] = {}
    for shard, file in enumerate(files):
        for entry in read_header(file).tensors:
            if entry.key in tensors:
                raise UnsafeFile(
                    f"{entry.key!r} lies in {tensors[entry.key].file.name} and in {file.name}; one is needed"
                )
            tensors[entry.key] = StoredTensor(entry.key, entry.dtype, entry.shape, file, shard, entry.begin, entry.end)
    if not tensors:
        raise CoverageRefused(f"{folder} holds no tensors")
    _check_index(folder, tensors)
    return Checkpoint(folder, config, tensors, files)


def _folder(source: Path) -> Path:
    if source.is_file():
        if source.name not in (SINGLE, "config.json"):
            raise UsageError(f"{source} is a file; give the folder that holds {SINGLE} and config.json")
        return source.parent
    if not source.is_dir():
        raise UsageError(f"{source} does not exist; expected a folder with config.json and {SINGLE}")
    return source


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a folder as an object.

    Raises:
        ConfigRefused: it is missing, unreadable, or not a JSON object with unique keys.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigRefused(f"{folder} has no config.json; a checkpoint needs it to know its sizes")
    try:
        return read_json(path)
    except UnsafeFile as error:
        raise ConfigRefused(str(error)) from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UnsafeFile: unreadable, larger than 100 MB, or not an object with unique keys.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise UnsafeFile(f"it is larger than {LARGEST_JSON} bytes")
        return parse_json(path.read_bytes())
    except OSError as error:
        raise UnsafeFile(f"{path} cannot be read: {error.strerror}") from None
    except UnsafeFile as error:
        raise UnsafeFile(f"{path} cannot be used: {error}") from None


def _tensor_files(folder: Path) -> tuple[Path, ...]:
    index, single = folder / INDEX, folder / SINGLE
    if single.exists() and index.exists():
        raise UnsafeFile(f"{folder} holds both {SINGLE} and {INDEX}; remove the stale one")
    if single.exists():
        return (single,)
    if not index.exists():
        raise UnsafeFile(f"{folder} holds neither {SINGLE} nor {INDEX}; {_other_weights(folder)}")
    names = sorted(set(_weight_map(index).values()))
    return tuple(_shard(folder, name) for name in names)


def _other_weights(folder: Path) -> str:
    others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".gguf", ".safetensors"))
    return f"weights in {', '.join(others[:3])} are of a form that is not read" if others else "no weights were found"


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnsafeFile(f"{index} has no weight_map")
    for key, name in weight_map.items():
        if not isinstance(name, str) or not _plain(name):
            raise UnsafeFile(f"{index} sends {key!r} to {name!r}; expected the name of a .safetensors file beside it")
    return weight_map


def _plain(name: str) -> bool:
    return name.endswith(".safetensors") and not set(name) & set("/\\\0") and not name.startswith(".")


def _shard(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise UnsafeFile(f"{folder / INDEX} names {name}, which is not in the folder")
    return path


def _check_index(folder: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Every tensor must be in the shard that the index says, and the index must say all."""
    index = folder / INDEX
    if not index.exists():
        return
    weight_map = _weight_map(index)
    for key in sorted(set(weight_map) | set(tensors)):
        named, found = weight_map.get(key), tensors[key].file.name if key in tensors else None
        if named != found:
            where = f"it lies in {found}" if found else "no shard holds it"
            raise UnsafeFile(f"{index} has {key!r} in {named or 'no file'}, but {where}")

"""A checkpoint on disk: its config, and where each tensor's bytes lie. Only headers are read."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from converters.checkpoint.json_files import read_json
from converters.checkpoint.safetensors_header import BITS, read_header
from converters.checkpoint.weight_files import SINGLE, check_index, weight_files
from converters.errors import ConfigRefused, CoverageRefused, UnsafeFile, UsageError


class FileState(NamedTuple):
    """What tells one state of a file from another without reading it."""

    nbytes: int
    modified_ns: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, file: int | Path) -> "FileState":
        """The state of an open descriptor or a path."""
        stat = os.fstat(file) if isinstance(file, int) else file.stat()
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor and where it lies: from byte `begin` of `file` on, the `shard`-th file of the checkpoint.

    key: what its family calls it. name: what it is stored as. strides: in elements, None if it is contiguous.
    """

    key: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    shard: int
    begin: int
    strides: tuple[int, ...] | None = None

    @property
    def width(self) -> int:
        """Bytes of one element."""
        return BITS[self.dtype] // 8

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return prod(self.shape) * self.width


@dataclass(frozen=True)
class Checkpoint:
    """A model: its config as it stands in `config.json` or its form's own place, and its tensors by key.

    folder: the model folder, or the one file that holds everything. stored: its weight files. files: where the tensors
    are read, the same but for legacy pickles and quantised tensors. states: of `files`, when their headers were read.
    lossy: steps that opening it takes, as conversion.json records them. unpack: makes the last of `files` in a folder
    for temporary files; until then it does not exist, and only a plan can be made. said_by: what stands for config.json
    where there is none.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    files: tuple[Path, ...]
    stored: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    states: tuple[FileState, ...] = ()
    lossy: tuple[Mapping[str, Any], ...] = ()
    unpack: Callable[[Path], Path] | None = None
    said_by: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def unpacked(self, place: Path) -> "Checkpoint":
        """The checkpoint with all its tensors readable, those that have to be made first in a file in `place`."""
        if self.unpack is None:
            return self
        file, last = self.unpack(place), len(self.files) - 1
        tensors = {key: replace(t, file=file) if t.shard == last else t for key, t in self.tensors.items()}
        states = (*self.states[:last], FileState.of(file))
        return replace(self, tensors=tensors, files=(*self.files[:last], file), states=states, unpack=None)


def open_checkpoint(source: Path, *, dequantize: bool = False) -> Checkpoint:
    """Opens a model, whatever form it comes in: see `converters.forms`.

    dequantize: quantised tensors may be turned into float32, which is a lossy step.

    Raises:
        UsageError: there is no such folder or file.
        ConfigRefused: its config is missing or not a JSON object.
        UnsafeFile: a weight file or the index is broken, or they contradict each other.
    """
    from converters.forms import find_form

    found = find_form(source)
    return found.form.read(found.path, dequantize) if found else open_folder(source)


def open_folder(source: Path) -> Checkpoint:
    """Opens a folder that holds `config.json` and weights as safetensors, or else as pytorch_model.bin.

    Raises:
        UsageError, ConfigRefused, UnsafeFile: as `open_checkpoint`.
    """
    folder = _folder(source)
    _refuse_adapter(folder)
    config = read_config(folder)
    stored, notes = weight_files(folder)
    files = tuple(readable(file) for file in stored)
    states = tuple(FileState.of(file) for file in files)
    tensors: dict[str, StoredTensor] = {}
    for shard, file in enumerate(files):
        for tensor in tensors_of(file, shard):
            if tensor.key in tensors:
                was = tensors[tensor.key].file.name
                raise UnsafeFile(f"{tensor.key!r} lies in {was} and in {file.name}; one is needed")
            tensors[tensor.key] = tensor
    if not tensors:
        raise CoverageRefused(f"{folder} holds no tensors")
    check_index(folder, {key: stored[tensor.shard].name for key, tensor in tensors.items()})
    return Checkpoint(folder, config, tensors, files, stored, notes, states)


def tensors_of(file: Path, shard: int) -> Iterator[StoredTensor]:
    """The tensors of a `readable` file, which is the `shard`-th of its checkpoint.

    Raises:
        UnsafeFile: the file is broken.
    """
    if file.suffix == ".safetensors" or not _is_zip(file):
        for entry in read_header(file).tensors:
            yield StoredTensor(entry.key, entry.key, entry.dtype, entry.shape, file, shard, entry.begin)
        return
    from converters.checkpoint.torch_zip import read_zip

    for found in read_zip(file):
        yield StoredTensor(found.key, found.key, found.dtype, found.shape, file, shard, found.begin, found.strides)


def readable(file: Path) -> Path:
    """The file itself, or for a legacy pickle a temporary safetensors file with the same tensors."""
    if file.suffix == ".safetensors" or _is_zip(file):
        return file
    from converters.checkpoint.torch_legacy import as_safetensors

    return as_safetensors(file)


def _is_zip(file: Path) -> bool:
    from converters.checkpoint.torch_zip import is_zip

    return is_zip(file)


def _refuse_adapter(folder: Path) -> None:
    if (folder / "adapter_config.json").is_file():
        raise ConfigRefused(
            f"{folder} is an adapter (LoRA), not a model; merge it first: in peft, `model.merge_and_unload()` and"
            f" `save_pretrained`"
        )


def _folder(source: Path) -> Path:
    if source.is_file():
        if source.name not in (SINGLE, "config.json"):
            from converters.forms import titles

            raise UsageError(
                f"{source} is a file of no form that is read; give a folder with config.json and {SINGLE}, or one of:"
                f" {'; '.join(titles())}"
            )
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

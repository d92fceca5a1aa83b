"""A checkpoint on disk as a value: its config, and where the bytes of each tensor lie."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from converters.checkpoint.safetensors_header import BITS


class FileState(NamedTuple):
    """The state of a file without reading it: it differs after the file has changed."""

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
    """A model: its config, from `config.json` or from the file form, and its tensors by key.

    folder: the model folder, or the one file that holds everything. stored: its weight files. files: where the tensors
    are read, the same but for legacy pickles and quantised tensors. states: of `files`, when their headers were read.
    lossy: steps that opening it takes, as conversion.json records them. unpack: makes the last of `files` in a folder
    for temporary files; until then it does not exist, and only a plan can be made. said_by: what stands for config.json
    where there is none. unsaid: fields that belong into the config, that nothing in the source says and a user may.
    generation: of a MixFormer, which has the config and the keys of today: the one that its files are of.
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
    unsaid: tuple[str, ...] = ()
    generation: str = ""

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

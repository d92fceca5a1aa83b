"""`pytorch_model.bin` and `.pt` without torch: where each tensor's bytes lie in the file, read from its pickle by a
reader that knows five names and nothing else.

Since torch 1.6 `torch.save` writes a zip of uncompressed entries: `<root>/data.pkl` describes the tensors, and
`<root>/data/<n>` are their storages. The pickle is read with an `Unpickler` whose `find_class` gives harmless stand-ins
for the names that a state dict needs and refuses every other by name, so no code of the file can run.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from converters.algebra.boxes import row_major
from converters.checkpoint.safetensors_header import MOST_TENSORS
from converters.errors import UnsafeFile

DTYPES = {
    "DoubleStorage": ("F64", 8),
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
LARGEST_PICKLE = 100_000_000  # bytes
LOCAL_HEADER = 30  # bytes of a zip entry's local header before its name (APPNOTE 4.3.7)


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `count` elements of one dtype, by the number of its zip entry."""

    name: str
    dtype: str
    width: int
    count: int


@dataclass(frozen=True)
class ZippedTensor:
    """A tensor of a zip: `begin` in bytes of the file, `strides` in elements, None if it is contiguous."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    begin: int


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor somewhere inside a pickle: what `_rebuild_tensor_v2` was called with."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Saved:
    """What `torch.save` put into a file: plain containers with `LazyTensor` for tensors; `starts`: see `_starts`."""

    path: Path
    content: Any
    starts: Mapping[str, tuple[int, int]]

    def tensors(self, named: Any) -> tuple[ZippedTensor, ...]:
        """A part of the content, which must be tensors by name, in the order of their bytes.

        Raises:
            UnsafeFile: it is something else, or a tensor does not lie inside its storage.
        """
        if not isinstance(named, Mapping) or len(named) > MOST_TENSORS:
            raise UnsafeFile(f"{self.path} holds no state dict but {type(named).__name__}")
        found = []
        for key, value in named.items():
            if not isinstance(key, str) or not isinstance(value, LazyTensor):
                raise UnsafeFile(f"{self.path} has {key!r}: {type(value).__name__}, expected tensors by name")
            found.append(_placed(self.path, key, value, self.starts))
        return tuple(sorted(found, key=lambda tensor: (tensor.begin, tensor.key)))


def is_zip(path: Path) -> bool:
    """Whether a .bin is of the zip form (else it is a legacy pickle)."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def read_zip(path: Path) -> tuple[ZippedTensor, ...]:
    """The tensors of a state dict saved by torch, in the order of their bytes.

    Raises:
        UnsafeFile: the file is broken, or its pickle asks for a name that a state dict does not need.
    """
    saved = read_saved(path)
    return saved.tensors(_state_dict(path, saved.content))


def pickle_bytes(path: Path) -> bytes | None:
    """The pickle of a zip written by `torch.save`, not unpickled; None where there is none that could be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if len(found) != 1 or found[0].file_size > LARGEST_PICKLE:
                return None
            return archive.read(found[0])
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError):
        return None


def read_saved(path: Path, unneeded: Collection[tuple[str, str]] = ()) -> Saved:
    """All that a zip written by `torch.save` holds; no element of a tensor is read.

    unneeded: names (module, name) that the pickle may ask for although nothing of them is wanted: a `Nothing` stands
    for what they make.

    Raises:
        UnsafeFile: the file is broken, or its pickle asks for a name that tensors in containers do not need.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root, content = _pickle(archive, unneeded)
            return Saved(path, content, _starts(path, archive, root))
    except pickle.UnpicklingError as error:
        raise UnsafeFile(f"{path} cannot be unpickled safely: {error}") from None
    except Exception as error:  # broken zips and pickles raise almost anything; no code of theirs can have run
        raise UnsafeFile(f"{path} is not a sound torch file, or cannot be read safely: {error}") from None


def _pickle(archive: zipfile.ZipFile, unneeded: Collection[tuple[str, str]]) -> tuple[str, Any]:
    if len(set(archive.namelist())) != len(archive.namelist()):
        raise ValueError("an entry of the zip stands twice")
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError(f"it holds {len(names)} data.pkl, expected one")
    root = names[0].removesuffix("data.pkl")
    if root + "byteorder" in archive.namelist() and archive.read(root + "byteorder") != b"little":
        raise ValueError("it was written on a big-endian machine")
    if archive.getinfo(names[0]).file_size > LARGEST_PICKLE:
        raise ValueError(f"data.pkl is larger than {LARGEST_PICKLE} bytes")
    with archive.open(names[0]) as file:
        return root, _Reader(file, unneeded).load()


def _starts(path: Path, archive: zipfile.ZipFile, root: str) -> dict[str, tuple[int, int]]:
    """Storage number -> (first byte in the file, bytes), from the local headers."""
    starts = {}
    size = path.stat().st_size
    with path.open("rb") as file:
        for info in archive.infolist():
            if not info.filename.startswith(root + "data/"):
                continue
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{info.filename} is compressed")
            file.seek(info.header_offset)
            header = file.read(LOCAL_HEADER)
            if header[:4] != b"PK\x03\x04":
                raise ValueError(f"{info.filename} is not where the directory says")
            extra = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            name = info.filename.removeprefix(root + "data/")
            begin = info.header_offset + LOCAL_HEADER + extra
            if begin + info.file_size > size:
                raise ValueError(f"{info.filename} reaches beyond the end of the file")
            starts[name] = (begin, info.file_size)
    return starts


def _state_dict(path: Path, content: Any) -> Any:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        others = [
            key for key, value in content.items() if key != "state_dict" and isinstance(value, LazyTensor | Mapping)
        ]
        if others:
            raise UnsafeFile(f"{path} holds {others[0]!r} beside its state_dict; save the state dict alone")
        return content["state_dict"]
    return content


def _placed(path: Path, key: str, lazy: LazyTensor, starts: Mapping[str, tuple[int, int]]) -> ZippedTensor:
    storage = lazy.storage
    if storage.name not in starts:
        raise UnsafeFile(f"{path}: the storage of {key!r} is missing")
    begin, size = starts[storage.name]
    sizes = (*lazy.shape, *lazy.strides, lazy.offset)
    if any(type(n) is not int or n < 0 for n in sizes) or len(lazy.shape) != len(lazy.strides):
        raise UnsafeFile(f"{path}: {key!r} has shape {lazy.shape} and strides {lazy.strides}")
    last = lazy.offset + sum((n - 1) * stride for n, stride in zip(lazy.shape, lazy.strides, strict=True))
    if all(lazy.shape) and (last + 1) * storage.width > size:
        raise UnsafeFile(f"{path}: {key!r} reaches beyond its storage of {size} bytes")
    pairs = zip(lazy.shape, lazy.strides, row_major(lazy.shape), strict=True)
    strides = None if not all(lazy.shape) or all(n == 1 or a == b for n, a, b in pairs) else lazy.strides
    return ZippedTensor(key, storage.dtype, lazy.shape, strides, begin + lazy.offset * storage.width)


@dataclass(frozen=True, slots=True)
class _StorageKind:
    """Stands for a class such as torch.FloatStorage."""

    dtype: str
    width: int


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> LazyTensor:
    """rest: requires_grad, backward hooks, and since torch 1.12 metadata such as a sign bit."""
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    if any(rest[2:]):
        raise pickle.UnpicklingError(f"a tensor with metadata {rest[2:]}, such as a sign kept aside")
    return LazyTensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


class Nothing:
    """Stands for an object that nobody needs: it takes any arguments and any state, and keeps nothing."""

    __slots__ = ()

    def __new__(cls, *_: Any) -> "Nothing":
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _Reader(pickle.Unpickler):
    """Builds dicts of `LazyTensor`, with `Nothing` for what is made by `unneeded` names, and nothing else."""

    def __init__(self, file: IO[bytes], unneeded: Collection[tuple[str, str]]) -> None:
        super().__init__(file)
        self._unneeded = unneeded

    def find_class(self, module: str, name: str) -> Any:
        """Stand-ins for the names of a state dict.

        Raises:
            UnpicklingError: any other name, which may be code.
        """
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in DTYPES:
            return _StorageKind(*DTYPES[name])
        if (module, name) in self._unneeded:
            return Nothing
        self._refuse(module, name)

    def _refuse(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"its pickle asks for {module}.{name}, which a state dict does not need")

    def persistent_load(self, pid: Any) -> Storage:
        """A storage by the reference that torch writes: ("storage", kind, number, device, count)."""
        kind, name, count = pid[1], pid[2], pid[4]
        if pid[0] != "storage" or not isinstance(kind, _StorageKind) or not isinstance(name, str):
            raise pickle.UnpicklingError(f"unknown reference {pid!r}")
        return Storage(name, kind.dtype, kind.width, count)

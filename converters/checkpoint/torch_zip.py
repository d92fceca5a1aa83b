"""`pytorch_model.bin` without torch: where each tensor's bytes lie in the file.

Since torch 1.6 `torch.save` writes a zip of uncompressed entries: `<root>/data.pkl` describes the tensors, and
`<root>/data/<n>` are their storages. `torch_pickle` reads the pickle; no code of the file can run. An entry that is
compressed is refused, for a few bytes of it can stand for gigabytes.
"""

import io
import os
import pickle
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.algebra.boxes import row_major
from converters.checkpoint.regular_files import open_regular
from converters.checkpoint.safetensors_header import MOST_TENSORS
from converters.checkpoint.torch_pickle import LARGEST_PICKLE, LazyTensor, unpickled
from converters.errors import UnsafeFile, shown

LONGEST_WORD = 16  # bytes of the entry that says little or big
LOCAL_HEADER = 30  # bytes of a zip entry's local header before its name (APPNOTE 4.3.7)


@dataclass(frozen=True)
class ZippedTensor:
    """A tensor of a zip: `begin` in bytes of the file, `strides` in elements, None if it is contiguous."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    begin: int


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
            raise UnsafeFile(f"{self.path} holds a {type(named).__name__}, expected a state dict")
        found = []
        for key, value in named.items():
            if isinstance(value, Mapping) and any(isinstance(inner, LazyTensor) for inner in value.values()):
                raise UnsafeFile(wrapped(self.path, key))
            if not isinstance(key, str) or not isinstance(value, LazyTensor):
                raise UnsafeFile(f"{self.path} has {shown(key)}: {type(value).__name__}, expected tensors by name")
            found.append(_placed(self.path, key, value, self.starts))
        return tuple(sorted(found, key=lambda tensor: (tensor.begin, tensor.key)))


def wrapped(path: Path, name: object) -> str:
    """The sentence on a file that holds its tensors one level down."""
    inner = f"torch.load({path.name!r})[{shown(name)}]"
    return f"{path} holds tensors under {shown(name)}; save these alone: torch.save({inner}, {path.name!r})"


def is_zip(path: Path) -> bool:
    """Whether a .bin is of the zip form (else it is a legacy pickle)."""
    with open_regular(path) as file:
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
        with opened(path) as archive:
            return pickle_of(archive)[1]
    except Exception:  # broken zips raise almost anything
        return None


def read_saved(path: Path, unneeded: Collection[tuple[str, str]] = (), part: tuple[int, int] | None = None) -> Saved:
    """All that a zip written by `torch.save` holds; no element of a tensor is read.

    unneeded: names (module, name) that the pickle may ask for although nothing of them is wanted: `NOTHING` stands for
    what they make. part: the first byte and the number of bytes of the zip, where a file holds several.

    Raises:
        UnsafeFile: the file is broken, or its pickle asks for a name that tensors in containers do not need.
    """
    try:
        with opened(path, part) as archive:
            root, data = pickle_of(archive)
            content, _ = unpickled(data, unneeded=unneeded)
            return Saved(path, content, _starts(path, archive, root, part))
    except pickle.UnpicklingError as error:
        raise UnsafeFile(f"{path} cannot be unpickled safely: {error}") from None
    except Exception as error:  # broken zips and pickles raise many errors; no code in them has run
        raise UnsafeFile(f"{path} is not a valid torch file, or cannot be read safely: {error}") from None


class _Part(io.RawIOBase):
    """Some bytes of a file, as a file."""

    def __init__(self, file: io.RawIOBase, begin: int, length: int) -> None:
        self.file, self.begin, self.length, self.at = file, begin, length, 0
        if not 0 <= begin <= begin + length <= os.fstat(file.fileno()).st_size:
            raise ValueError(f"its bytes {begin}..{begin + length} are not in the file")

    def readinto(self, into: Any) -> int:
        """Fills a buffer as far as there are bytes."""
        wanted = max(0, min(len(into), self.length - self.at))
        data = os.pread(self.file.fileno(), wanted, self.begin + self.at)
        into[: len(data)] = data
        self.at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves within these bytes."""
        self.at = max(0, (0, self.at, self.length)[whence] + offset)
        return self.at

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """The file is closed too."""
        super().close()
        self.file.close()


def _size(file: io.BufferedReader) -> int:
    return file.raw.length if isinstance(file.raw, _Part) else os.fstat(file.fileno()).st_size


class _Bounded(io.BufferedReader):
    """A file of which nobody reads much at once: the directory of a zip can be said to have gigabytes."""

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes, all that are left without a size.

        Raises:
            ValueError: these are more than the directory of an honest file.
        """
        left = _size(self) - self.tell()
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > LARGEST_PICKLE:
            raise ValueError(f"its directory or pickle has {wanted} bytes, at most {LARGEST_PICKLE} are allowed")
        return super().read(wanted)


@contextmanager
def opened(path: Path, part: tuple[int, int] | None = None) -> Iterator[zipfile.ZipFile]:
    """A zip as torch writes it: every entry lies uncompressed in the file, apart from the others.

    part: the first byte and the number of bytes of the zip, where a file holds several.

    Raises:
        UnsafeFile, ValueError, zipfile.BadZipFile, RuntimeError, OSError: it is something else.
    """
    raw: io.RawIOBase = open_regular(path).detach()
    with raw, _Bounded(_Part(raw, *part) if part else raw) as file, zipfile.ZipFile(file) as archive:
        size = _size(file)
        infos = archive.infolist()
        if len({info.filename for info in infos}) != len(infos):
            raise ValueError("an entry of the zip appears twice")
        for info in infos:
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise ValueError(f"{info.filename} is compressed")
        if archive.comment or sum(info.file_size for info in infos) > size:
            raise ValueError("its entries are larger than the file, or something follows them")
        yield archive


def pickle_of(archive: zipfile.ZipFile) -> tuple[str, bytes]:
    """The folder of a torch file's entries in the zip, and its pickle.

    Raises:
        ValueError: it holds none or several, or was written on a big-endian machine.
    """
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError(f"it holds {len(names)} data.pkl, expected one")
    root = names[0].removesuffix("data.pkl")
    for name, most in ((root + "byteorder", LONGEST_WORD), (names[0], LARGEST_PICKLE)):
        if name in archive.namelist() and archive.getinfo(name).file_size > most:
            raise ValueError(f"{name} is larger than {most} bytes")
    if root + "byteorder" in archive.namelist() and archive.read(root + "byteorder") != b"little":
        raise ValueError("it was written on a big-endian machine")
    return root, archive.read(names[0])


def _starts(
    path: Path, archive: zipfile.ZipFile, root: str, part: tuple[int, int] | None = None
) -> dict[str, tuple[int, int]]:
    """Storage number -> (first byte in the file, bytes), from the local headers."""
    starts = {}
    with open_regular(path) as file:
        first, size = part or (0, os.fstat(file.fileno()).st_size)
        for info in archive.infolist():
            if not info.filename.startswith(root + "data/"):
                continue
            file.seek(first + info.header_offset)
            header = file.read(LOCAL_HEADER)
            if header[:4] != b"PK\x03\x04":
                raise ValueError(f"{info.filename} is not where the directory says")
            extra = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            name = info.filename.removeprefix(root + "data/")
            begin = info.header_offset + LOCAL_HEADER + extra
            if begin + info.file_size > size:
                raise ValueError(f"{info.filename} reaches beyond the end of the file")
            starts[name] = (first + begin, info.file_size)
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
    if any(not 0 <= n < 2**63 for n in sizes) or len(lazy.shape) != len(lazy.strides):
        raise UnsafeFile(
            f"{path}: {key!r} has shape {shown(lazy.shape)} and strides {shown(lazy.strides)}, expected as many"
            " non-negative integers"
        )
    last = lazy.offset + sum((n - 1) * stride for n, stride in zip(lazy.shape, lazy.strides, strict=True))
    if all(lazy.shape) and (last + 1) * storage.width > size:
        raise UnsafeFile(f"{path}: {key!r} reaches beyond its storage of {size} bytes")
    pairs = zip(lazy.shape, lazy.strides, row_major(lazy.shape), strict=True)
    strides = None if not all(lazy.shape) or all(n == 1 or a == b for n, a, b in pairs) else lazy.strides
    return ZippedTensor(key, storage.dtype, lazy.shape, strides, begin + lazy.offset * storage.width)

"""The `.metadata` of a folder that `torch.distributed.checkpoint` wrote: which tensors there are, and in what pieces.

It is a pickle of torch's own classes. The machine that reads it knows their names as records, and nothing else: no name
is imported, no code is run. Source: `metadata.py` and `filesystem.py` of `torch.distributed.checkpoint`, torch 2.13;
those of 2.2 and later have the same names.
"""

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.checkpoint.regular_files import read_regular
from converters.checkpoint.torch_pickle import NOTHING, Function, Machine
from converters.errors import UnsafeFile, shown

LARGEST = 64 << 20  # bytes; a piece of a tensor takes about 200
HERE = "torch.distributed.checkpoint."
RECORDS = {
    *((f"{HERE}metadata", name) for name in ("Metadata", "TensorStorageMetadata", "BytesStorageMetadata")),
    *((f"{HERE}metadata", name) for name in ("TensorProperties", "ChunkStorageMetadata", "MetadataIndex")),
    (f"{HERE}metadata", "StorageMeta"),
    (f"{HERE}filesystem", "_StorageInfo"),
}
UNNEEDED = {
    (f"{HERE}metadata", "_MEM_FORMAT_ENCODING"),
    ("torch.serialization", "_get_layout"),
    *(
        (module, name)
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath")
    ),
}
DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """A box of a tensor, from `offsets` on, and where its zip lies: `length` bytes of a file from byte `begin` on."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor of the folder: `path` are its keys from the outermost state dict on; dtype as in safetensors."""

    path: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


class _Record:
    """Stands for an object of one of torch's classes: its name and what it holds."""

    __slots__ = ("fields", "kind")

    def __init__(self, kind: str) -> None:
        self.kind, self.fields = kind, dict[str, Any]()


@dataclass(frozen=True, slots=True)
class _Class:
    kind: str


class _Machine(Machine):
    """Makes records besides plain values."""

    most_steps = 10_000_000  # a piece of a tensor takes about 100

    def named(self, module: str, name: str) -> None:
        """A class of torch as a record, a dtype as its name, `NOTHING` for what is not needed."""
        if (module, name) in RECORDS:
            self.push(_Class(name))
        elif module == "torch" and name in DTYPES:
            self.push(DTYPES[name])
        elif (module, name) == ("torch", "Size"):
            self.push(Function(tuple))
        elif (module, name) in UNNEEDED:
            self.push(Function(lambda *_: NOTHING))
        else:
            super().named(module, name)

    def new(self) -> None:
        """An object without its fields."""
        self.stack.pop()
        made = self.stack.pop()
        if not isinstance(made, _Class):
            raise pickle.UnpicklingError("its pickle makes an object that is none of torch's records")
        self.push(_Record(made.kind))

    def build(self) -> None:
        """The fields of an object. Those of TensorProperties are a tuple, which begins with the dtype."""
        fields, record = self.stack.pop(), self.stack[-1]
        if isinstance(record, _Record):
            record.fields = {"dtype": fields[0]} if isinstance(fields, tuple) else dict(fields)

    def key(self, key: Any) -> Any:
        """A key of a dict; of a MetadataIndex its name and its offset, by which torch tells them apart."""
        if isinstance(key, _Record):
            return key.fields["fqn"], key.fields.get("offset")
        return super().key(key)


def read_metadata(path: Path) -> dict[str, Described]:
    """The tensors that a `.metadata` describes, by their full names; what is no tensor is left out.

    Raises:
        UnsafeFile: it is no such file, asks for a name that it does not need, or contradicts itself.
    """
    try:
        content = _Machine(read_regular(path, LARGEST), 0, frozenset()).run()
        return dict(_described(content))
    except pickle.UnpicklingError as error:
        raise UnsafeFile(f"{path} cannot be read safely: {error}") from None
    except Exception as error:  # broken pickles raise almost anything; no code in them has run
        raise UnsafeFile(f"{path} is not what torch.distributed.checkpoint writes: {error}") from None


def _described(content: Any) -> Iterator[tuple[str, Described]]:
    if not isinstance(content, _Record) or content.kind != "Metadata":
        raise ValueError("it holds no Metadata")
    paths, stored = content.fields.get("planner_data") or {}, content.fields["storage_data"]
    for name, record in content.fields["state_dict_metadata"].items():
        if record.kind == "TensorStorageMetadata":
            path = tuple(map(str, paths[name])) if isinstance(paths.get(name), tuple) else (name,)
            dtype, shape = record.fields["properties"].fields["dtype"], _sizes(record.fields["size"])
            chunks = tuple(_chunk(name, one, stored) for one in record.fields["chunks"] if all(one.fields["sizes"]))
            yield name, Described(path, _dtype(name, dtype), shape, chunks)


def _dtype(name: str, dtype: Any) -> str:
    if dtype not in DTYPES.values():
        raise ValueError(f"{shown(name)} has an unknown dtype")
    return str(dtype)


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > 8 or any(type(n) is not int or not 0 <= n < 2**48 for n in value):
        raise ValueError("a size that is not a few non-negative integers")
    return value


def _chunk(name: str, chunk: _Record, stored: Mapping[Any, _Record]) -> Chunk:
    offsets, sizes = _sizes(chunk.fields["offsets"]), _sizes(chunk.fields["sizes"])
    info = stored[name, offsets].fields
    if info.get("transform_descriptors"):
        raise ValueError(f"{shown(name)} is compressed ({shown(info['transform_descriptors'])})")
    file, begin, length = info["relative_path"], info["offset"], info["length"]
    if not isinstance(file, str) or type(begin) is not int or type(length) is not int:
        raise ValueError(f"{shown(name)} lies nowhere")
    return Chunk(offsets, sizes, file, begin, length)

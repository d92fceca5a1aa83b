"""Broken and hostile files, each made from a sound one by a function: what no reader may hang on, crash on or run."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

Break = Callable[[Path], object]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
DEEP = 100_000


def pipe(name: str) -> Break:
    """A named pipe in place of a file: opening it waits for a writer that never comes."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def device(name: str) -> Break:
    """A link to a device that has no end."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/zero")

    return change


def text(name: str, content: str | bytes) -> Break:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def folder_named(name: str) -> Break:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def sparse(name: str, start: bytes, size: int) -> Break:
    """A file of a few bytes and a hole."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        with (folder / name).open("wb") as file:
            file.write(start)
            file.truncate(size)

    return change


def config(**fields: object) -> Break:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def header(content: bytes) -> Break:
    """The weights' file with another header, and none of their data."""
    return text(WEIGHTS, len(content).to_bytes(8, "little") + content)


def without_shapes(folder: Path) -> None:
    path = folder / WEIGHTS
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + length])
    for entry in entries.values():
        entry.pop("shape", None)
    content = json.dumps(entries).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + data[8 + length :])


def in_shards(*then: Break) -> Break:
    """The weights under an index, and something done to it or to its one shard."""

    def change(folder: Path) -> None:
        path, shard = folder / WEIGHTS, "model-00001-of-00001.safetensors"
        data = path.read_bytes()
        keys = [key for key in json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]) if key != "__metadata__"]
        path.rename(folder / shard)
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(keys, shard)}))
        for one in then:
            one(folder)

    return change


def as_torch(*entries: tuple[str, bytes, int], compressed: tuple[str, ...] = ()) -> bytes:
    """A zip with entries (name, content, how often it is repeated), as torch.save makes one."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content, times in entries:
            kind = zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED
            with archive.open(zipfile.ZipInfo(f"x/{name}") if kind == 0 else _deflated(f"x/{name}"), "w") as file:
                for _ in range(times):
                    file.write(content)
    return held.getvalue()


def _deflated(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


EMPTY = b"\x80\x02}."


def bomb(megabytes: int, name: str = "byteorder") -> bytes:
    """A few kilobytes that one entry of a torch file is inflated from."""
    rest = [("data.pkl", EMPTY, 1)] if name != "data.pkl" else []
    return as_torch((name, bytes(1 << 20), megabytes), *rest, compressed=(name,))


def tuples(depth: int) -> bytes:
    """A tuple of a tuple twice, and so on: 2^depth leaves to whoever follows them, as a key of a dict."""
    doubled = b"".join(b"q%ch%c\x86" % (k, k) for k in range(depth))
    return b"\x80\x02})" + doubled + b"K\x01s."


def copies(times: int) -> bytes:
    """One dict of many keys, copied by each of many calls of OrderedDict."""
    pairs = b"".join(b"K%cK%c\x86a" % (k, k) for k in range(200)) * 5
    return b"\x80\x02ccollections\nOrderedDict\nq\x01]q\x00" + pairs + b"h\x01h\x00\x85R" * times + b"."


PICKLES = {
    "a memo of 4 GiB": b"\x80\x02}r\xff\xff\xff\x0f.",
    "a string of 4 GiB": b"\x80\x02X\xff\xff\xff\xff.",
    "bytes of 2^60": b"\x80\x04\x96" + struct.pack("<Q", 2**60) + b".",
    "a number of 2^31 digits": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "tuples of tuples": tuples(60),
    "copies of a dict": copies(2000),
    "a million values": b"\x80\x02" + b"N" * 1_000_000 + b".",
    "code": b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
    "code by its class": pickle.dumps(print),
    "an endless frame": b"\x80\x04\x95" + b"\xff" * 8 + b"}.",
    "nothing": b"",
}


def gguf(entries: int, body: bytes, tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, entries) + body


def named(name: str) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode()


GGUFS = {
    "2^60 strings": gguf(1, named("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2**60)),
    "a string of 2^60 bytes": gguf(1, named("general.name") + struct.pack("<IQ", 8, 2**60)),
    "2^60 tensors": gguf(0, b"", 2**60),
    "many long strings": gguf(
        400, b"".join(named(f"a.{k}") + struct.pack("<IQ", 8, 60_000) + bytes(60_000) for k in range(400))
    ),
}

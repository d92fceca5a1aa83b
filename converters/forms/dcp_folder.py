"""A folder that `torch.distributed.checkpoint` wrote (DCP, FSDP2): `.metadata`, and a `.distcp` file for each process.

A tensor lies there whole, or in boxes that processes held; each box is a zip of `torch.save` inside a `.distcp` file.
Whole tensors are read where they lie. If any is in boxes, all are put together first, in one temporary file on the
target's disk, a few megabytes at a time. config.json lies in the folder or above it. Nothing of the files is run.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import BinaryIO

from converters.algebra.boxes import row_major
from converters.algebra.proof import Box, fault
from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.file_forms import Form
from converters.checkpoint.opening import read_config
from converters.checkpoint.regular_files import check_regular
from converters.checkpoint.safetensors_header import BITS
from converters.checkpoint.scratch import scratch_file
from converters.checkpoint.torch_zip import read_saved
from converters.checkpoint.weight_files import is_plain_name
from converters.counts import counted
from converters.errors import CoverageRefused, UnsafeFile
from converters.forms.dcp_metadata import Chunk, Described, read_metadata

METADATA, ENDING = ".metadata", ".distcp"
MODELS = ("model", "state_dict", "module")  # keys that trainers keep a model under
TRAINING = ("optim", "optimizer", "optimizers", "lr_scheduler", "train_state", "dataloader", "rng_state")
AT_ONCE = 4 << 20  # bytes


def recognises(path: Path) -> bool:
    """Whether a file is the `.metadata` beside `.distcp` files."""
    return path.name == METADATA and any(path.parent.glob(f"*{ENDING}"))


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens the folder of a `.metadata`.

    Raises:
        ConfigRefused: there is no config.json in the folder or above it.
        CoverageRefused: it holds no tensors of a model.
        UnsafeFile: a file is broken, missing, or asks for code.
    """
    folder = path.parent
    home = folder if (folder / "config.json").exists() else folder.parent
    config = read_config(home if (home / "config.json").exists() else folder)
    described = read_metadata(path)
    own, notes = _of_the_model(folder, described)
    for key, tensor in own.items():
        _check_boxes(path, key, tensor)
    names = sorted({chunk.file for tensor in own.values() for chunk in tensor.chunks})
    files = tuple(_file(folder, name) for name in names)
    if all(len(tensor.chunks) == 1 for tensor in own.values()):
        tensors = {key: _placed(folder, key, t, t.chunks[0], names.index(t.chunks[0].file)) for key, t in own.items()}
        return Checkpoint(folder, config, tensors, files, files, notes, tuple(map(FileState.of, files)))
    tensors = {tensor.key: tensor for tensor in _laid_out(files[0], own)}
    states, unpack = (FileState.of(files[0]),), partial(_put_together, folder, own)
    return Checkpoint(folder, config, tensors, files[:1], files, notes, states, unpack=unpack)


def _of_the_model(folder: Path, described: Mapping[str, Described]) -> tuple[dict[str, Described], tuple[str, ...]]:
    """The model's tensors by their own keys, and a note on what is left out."""
    firsts = {tensor.path[0] for tensor in described.values() if len(tensor.path) > 1}
    under = next((name for name in MODELS if name in firsts), None)
    if under:
        own = {".".join(t.path[1:]): t for t in described.values() if t.path[0] == under and len(t.path) > 1}
    else:
        own = {".".join(t.path): t for t in described.values() if t.path[0].split(".")[0] not in TRAINING}
    if not own:
        raise CoverageRefused(f"{folder} was written by torch.distributed.checkpoint, but holds no tensors of a model")
    count = len(described) - len(own)
    return own, (f"not carried: {counted(count, 'tensor')} of the trainer's state",) if count else ()


def _file(folder: Path, name: str) -> Path:
    """A file of the folder.

    Raises:
        UnsafeFile: the name leads elsewhere, or there is no such file.
    """
    path = folder / name
    if not is_plain_name(name) or not name.endswith(ENDING):
        raise UnsafeFile(f"{folder / METADATA} names {name!r}, expected the name of a {ENDING} file beside it")
    if not path.exists():
        raise UnsafeFile(f"{path} is missing, and {METADATA} says that it holds weights; copy all files of the folder")
    check_regular(path)
    return path


def _check_boxes(path: Path, key: str, tensor: Described) -> None:
    """The boxes of a tensor must fill it exactly.

    Raises:
        UnsafeFile: some elements are in no box, or in two.
    """
    if any(len(c.offsets) != len(tensor.shape) or len(c.sizes) != len(tensor.shape) for c in tensor.chunks):
        raise UnsafeFile(f"{path}: the pieces of {key} have other axes than {list(tensor.shape)}")
    strides = row_major(tensor.shape)
    boxes = [
        Box(sum(o * s for o, s in zip(c.offsets, strides, strict=True)), c.sizes, strides, f"in {c.file}")
        for c in tensor.chunks
    ]
    inside = all(
        o + n <= size for c in tensor.chunks for o, n, size in zip(c.offsets, c.sizes, tensor.shape, strict=True)
    )
    why = fault(tensor.shape, boxes) if inside else "one reaches beyond it"
    if why:
        raise UnsafeFile(f"{path}: the pieces of {key} do not fill it: {why}")


def _placed(folder: Path, key: str, tensor: Described, chunk: Chunk, shard: int) -> StoredTensor:
    """Where the elements of a box lie.

    Raises:
        UnsafeFile: its zip is broken, or holds something else than the box.
    """
    path = folder / chunk.file
    saved = read_saved(path, part=(chunk.begin, chunk.length))
    (found,) = saved.tensors({key: saved.content})
    if (found.shape, found.dtype) != (chunk.sizes, tensor.dtype):
        raise UnsafeFile(
            f"{path} holds {key} as {found.dtype} {list(found.shape)}, {METADATA} says {tensor.dtype}"
            f" {list(chunk.sizes)}"
        )
    return StoredTensor(key, key, found.dtype, found.shape, path, shard, found.begin, found.strides)


def _laid_out(file: Path, own: Mapping[str, Described]) -> Iterator[StoredTensor]:
    """Where each tensor will lie when all are put together, one after the other."""
    at = 0
    for key, tensor in own.items():
        yield StoredTensor(key, key, tensor.dtype, tensor.shape, file, 0, at)
        at += prod(tensor.shape) * BITS[tensor.dtype] // 8


def _put_together(folder: Path, own: Mapping[str, Described], place: Path) -> Path:
    """A file in `place` with all tensors.

    Raises:
        UnsafeFile: a box is broken.
    """
    target = scratch_file(folder.name, place)
    with target.open("wb") as out:
        for tensor in _laid_out(target, own):
            for chunk in own[tensor.key].chunks:
                _write(folder, own[tensor.key], chunk, tensor, out)
    return target


def _write(folder: Path, tensor: Described, chunk: Chunk, whole: StoredTensor, out: BinaryIO) -> None:
    """The elements of a box to their places, in runs as long as they lie together on both sides."""
    box = _placed(folder, whole.key, tensor, chunk, 0)
    if box.strides is not None:
        raise UnsafeFile(f"{box.file} holds {whole.key} with gaps between its elements, expected one run")
    strides, at = row_major(tensor.shape), box.begin
    axis = _first_whole_axis(tensor.shape, chunk.sizes)
    length = prod(chunk.sizes[axis:]) * whole.width
    with box.file.open("rb") as source:
        for index in product(*(range(n) for n in chunk.sizes[:axis])):
            place = [o + k for o, k in zip(chunk.offsets, (*index, *[0] * len(chunk.sizes)), strict=False)]
            out.seek(whole.begin + sum(o * s for o, s in zip(place, strides, strict=True)) * whole.width)
            source.seek(at)
            _copy(source, out, length)
            at += length


def _first_whole_axis(shape: Sequence[int], sizes: Sequence[int]) -> int:
    """The axis from which on what a box holds is one run in the tensor: behind it the box has all that there is."""
    axis = max(0, len(shape) - 1)
    while axis and sizes[axis] == shape[axis]:
        axis -= 1
    return axis


def _copy(source: BinaryIO, out: BinaryIO, length: int) -> None:
    while length:
        data = source.read(min(length, AT_ONCE))
        if not data:
            raise UnsafeFile(f"{source.name} ended while it was read")
        out.write(data)
        length -= len(data)


FORM = Form(
    "dcp",
    "a folder that torch.distributed.checkpoint wrote (.metadata and *.distcp)",
    (METADATA,),
    recognises,
    read,
)

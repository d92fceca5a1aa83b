"""Legacy `pytorch_model.bin`, as torch saved it before 1.6: the only source that needs torch.

Its pickle is loaded with `weights_only=True`, which allows tensors and plain containers and no code; this is passed
explicitly, because an environment variable can change the default. The tensors then lie in a safetensors file without a
name, which the rest of a conversion reads like any other and which goes with the process.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.checkpoint.regular_files import open_regular
from converters.checkpoint.safetensors_header import build_header
from converters.checkpoint.scratch import scratch_file
from converters.checkpoint.torch_pickle import LARGEST_PICKLE, unpickled
from converters.checkpoint.torch_zip import wrapped
from converters.errors import UnsafeFile

PICKLES = 4


def as_safetensors(path: Path) -> Path:
    """A safetensors file with the tensors of a legacy pickle; it is gone when the process ends.

    Raises:
        UnsafeFile: the file is broken, asks for code, or holds something else than tensors by name.
    """
    content = _loaded(path)
    target = scratch_file(path.stem)
    try:
        tensors = {key: tensor.detach().resolve_conj().resolve_neg().contiguous() for key, tensor in content.items()}
        header = build_header((key, _dtype(path, key, t.dtype), tuple(t.shape)) for key, t in tensors.items())
        with target.open("wb") as file:
            file.write(header)
            for tensor in tensors.values():
                file.write(_bytes(tensor))
    except (RuntimeError, TypeError, OSError) as error:
        raise UnsafeFile(f"{path} cannot be converted to safetensors: {error}") from None
    return target


def _bytes(tensor: Any) -> bytes:
    import torch

    return bytes(tensor.reshape(-1).view(torch.uint8).numpy().tobytes()) if tensor.numel() else b""


def _dtype(path: Path, key: str, dtype: Any) -> str:
    names = {
        "torch.float64": "F64",
        "torch.float32": "F32",
        "torch.float16": "F16",
        "torch.bfloat16": "BF16",
        "torch.int64": "I64",
        "torch.int32": "I32",
        "torch.int16": "I16",
        "torch.int8": "I8",
        "torch.uint8": "U8",
        "torch.bool": "BOOL",
    }
    if str(dtype) not in names:
        raise UnsafeFile(f"{path}: {key!r} has dtype {dtype}, which cannot be read")
    return names[str(dtype)]


def _check_pickles(path: Path) -> None:
    """Reads what torch would, without torch, so that a hostile file costs no more than its bytes.

    Such a file begins with four pickles: a magic number, a version, facts about the machine, and the state dict.

    Raises:
        UnsafeFile: one of them is broken, asks for code, or is larger than that of any honest file.
    """
    at = 0
    try:
        with open_regular(path) as file:
            data = file.read(LARGEST_PICKLE)
        for _ in range(PICKLES):
            _, at = unpickled(data, at)
    except Exception as error:  # broken pickles raise almost anything; no code of theirs can have run
        raise UnsafeFile(f"{path} cannot be loaded safely: {error}") from None


def _loaded(path: Path) -> Mapping[str, Any]:
    _check_pickles(path)
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken or hostile file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsafeFile(f"{path} cannot be loaded safely: {reason}") from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        rest = {key: value for key, value in content.items() if key != "state_dict"}
        others = [key for key, value in rest.items() if isinstance(value, Mapping | torch.Tensor)]
        if others:
            raise UnsafeFile(f"{path} holds {others[0]!r} beside its state_dict; save the state dict alone")
        content = content["state_dict"]
    for name, inner in content.items() if isinstance(content, Mapping) else ():
        if isinstance(inner, Mapping) and any(isinstance(value, torch.Tensor) for value in inner.values()):
            raise UnsafeFile(wrapped(path, name))
    if not isinstance(content, Mapping) or not all(isinstance(t, torch.Tensor) for t in content.values()):
        raise UnsafeFile(f"{path} holds no state dict of tensors by name")
    return content

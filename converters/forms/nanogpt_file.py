"""Reading nanoGPT's `ckpt.pt`: of what its train.py saves, `model` and `model_args` are the model.

The file is a zip written by torch.save; its tensors are read in place and nothing of it is run. The optimizer's state
is left out. Source: nanoGPT at 3adf61e, `train.py` and `model.py`.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.file_forms import Form
from converters.checkpoint.torch_pickle import LazyTensor
from converters.checkpoint.torch_zip import Saved, is_zip, opened, pickle_of, read_saved
from converters.errors import ConfigRefused, CoverageRefused

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
KEPT = ("iter_num", "best_val_loss", "config")  # of the training run, where they are plain values
NUMBERS = {"F32": "<f", "F64": "<d", "F16": "<e"}
PLAIN = (str, int, float, bool, type(None))


def recognises(path: Path) -> bool:
    """Whether a file is a zip of torch whose pickle speaks of `model_args`."""
    if not is_zip(path):
        return False
    try:
        with opened(path) as archive:
            return b"model_args" in pickle_of(archive)[1]
    except Exception:  # broken zips raise almost anything
        return False


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens a checkpoint of nanoGPT.

    Raises:
        UnsafeFile: the file is broken, or asks for code.
        ConfigRefused, CoverageRefused: it lacks the model or its sizes.
    """
    saved = read_saved(path)
    tensors = _tensors(saved)
    config = {**_arguments(saved), **_training(saved), "dtype": _dtype(tensors)}
    notes = ("the state of the optimizer was not converted",) if "optimizer" in saved.content else ()
    states, said_by = (FileState.of(path),), f"model_args of {path.name}"
    return Checkpoint(path, config, tensors, (path,), (path,), notes, states, said_by=said_by)


def _tensors(saved: Saved) -> dict[str, StoredTensor]:
    if not isinstance(saved.content, Mapping) or "model" not in saved.content:
        raise CoverageRefused(
            f"{saved.path} holds no `model`; expected it beside `model_args`, as nanoGPT's train.py saves it"
        )
    found = saved.tensors(saved.content["model"])
    if not found:
        raise CoverageRefused(f"{saved.path} holds a model without tensors")
    return {t.key: StoredTensor(t.key, t.key, t.dtype, t.shape, saved.path, 0, t.begin, t.strides) for t in found}


def _arguments(saved: Saved) -> dict[str, Any]:
    """`model_args`, which are the config."""
    given = saved.content.get("model_args")
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ConfigRefused(f"{saved.path} holds no `model_args`, which say the sizes of the model")
    for name, value in given.items():
        if not isinstance(value, PLAIN):
            raise ConfigRefused(f"{saved.path} has model_args.{name} of type {type(value).__name__}, expected a number")
    return {**given, "model_type": "nanogpt"}


def _training(saved: Saved) -> dict[str, Any]:
    """What is known of the training run, as far as JSON can hold it."""
    found = {}
    for name in KEPT:
        value = saved.content.get(name)
        if isinstance(value, LazyTensor):
            value = _number(saved, name, value)
        if isinstance(value, Mapping):
            value = {key: one for key, one in value.items() if isinstance(key, str) and _is_json(one)}
        if value is not None and (_is_json(value) or isinstance(value, dict)):
            found[name] = value
    return found


def _number(saved: Saved, name: str, lazy: LazyTensor) -> float | None:
    """The one number of a tensor without axes, as train.py saves its loss."""
    (tensor,) = saved.tensors({name: lazy})
    if tensor.shape or tensor.dtype not in NUMBERS:
        return None
    with saved.path.open("rb") as file:
        file.seek(tensor.begin)
        form = NUMBERS[tensor.dtype]
        (number,) = struct.unpack(form, file.read(struct.calcsize(form)))
    return float(number)


def _is_json(value: Any) -> bool:
    return isinstance(value, PLAIN) and not (isinstance(value, float) and not abs(value) < 1e300)


def _dtype(tensors: Mapping[str, StoredTensor]) -> str | None:
    """The dtype of the weights by its config name; None where they have several."""
    kinds = {tensor.dtype for tensor in tensors.values() if len(tensor.shape) < 4}  # a causal mask has four axes
    return DTYPES.get(next(iter(kinds))) if len(kinds) == 1 else None


FORM = Form("nanogpt", "nanoGPT's ckpt.pt", ("ckpt.pt", "*.pt"), recognises, read)

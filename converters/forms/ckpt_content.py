"""What the ckpt.pt of a train.py holds beside its tensors: `model_args`, which are the config, and the training run."""

import struct
from collections.abc import Mapping
from typing import Any

from converters.checkpoint.checkpoint import StoredTensor
from converters.checkpoint.torch_pickle import LazyTensor
from converters.checkpoint.torch_zip import Saved
from converters.errors import ConfigRefused, CoverageRefused

DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}  # the narrowest first
NUMBERS = {"F32": "<f", "F64": "<d", "F16": "<e"}
PLAIN = (str, int, float, bool, type(None))


def model_of(saved: Saved) -> dict[str, StoredTensor]:
    """The tensors under `model`.

    Raises:
        CoverageRefused: there are none.
        UnsafeFile: they are no tensors by name.
    """
    if not isinstance(saved.content, Mapping) or "model" not in saved.content:
        raise CoverageRefused(f"{saved.path} holds no `model`; expected it beside `model_args`, as train.py saves it")
    found = saved.tensors(saved.content["model"])
    if not found:
        raise CoverageRefused(f"{saved.path} holds a model without tensors")
    return {t.key: StoredTensor(t.key, t.key, t.dtype, t.shape, saved.path, 0, t.begin, t.strides) for t in found}


def arguments_of(saved: Saved) -> dict[str, Any]:
    """`model_args`, which are the config.

    Raises:
        ConfigRefused: they are missing, or hold something else than plain values.
    """
    given = saved.content.get("model_args")
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ConfigRefused(f"{saved.path} holds no `model_args`, which say the sizes of the model")
    for name, value in given.items():
        if not isinstance(value, PLAIN):
            raise ConfigRefused(f"{saved.path} has model_args.{name} of type {type(value).__name__}, expected a number")
    return dict(given)


def training_of(saved: Saved, names: tuple[str, ...]) -> dict[str, Any]:
    """What is known of the training run under some names, as far as JSON can hold it."""
    found = {}
    for name in names:
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


def widest_dtype(tensors: Mapping[str, StoredTensor]) -> str | None:
    """The widest floating dtype of the tensors by its config name: what all of them are exact in."""
    kinds = {tensor.dtype for tensor in tensors.values()}
    return next((name for kind, name in reversed(DTYPES.items()) if kind in kinds), None)

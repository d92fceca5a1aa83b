"""A bare state dict saved by torch, `.pt` or `.pth`: tensors by name and nothing else.

A config.json beside the file says what it is. Without one the families are asked: some know their own keys, and what
sizes follow from them. What no tensor says (the number of heads) a user has to say.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.file_forms import Form
from converters.checkpoint.opening import read_config, readable, tensors_of
from converters.checkpoint.users_word import N_HEAD, VALUE_RESIDUAL
from converters.errors import ConfigRefused, CoverageRefused
from converters.family import list_families
from converters.forms.ckpt_content import widest_dtype
from converters.forms.torch_kinds import STATE_DICT, kind_of
from converters.plan.naming import find_naming


def recognises(path: Path) -> bool:
    """Whether torch saved a file, and it is no checkpoint of a train.py."""
    return kind_of(path) == STATE_DICT


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens a state dict.

    Raises:
        UnsafeFile: the file is broken, asks for code, or holds something else than tensors by name.
        ConfigRefused: config.json is unsound, or there is none and the keys do not tell one family.
        CoverageRefused: there are no tensors.
    """
    file = readable(path)
    tensors = {tensor.key: tensor for tensor in tensors_of(file, 0)}
    if not tensors:
        raise CoverageRefused(f"{path} holds no tensors")
    states = (FileState.of(file),)
    if (path.parent / "config.json").is_file():
        return Checkpoint(path.parent, read_config(path.parent), tensors, (file,), (path,), states=states)
    config = {**_told(path, tensors), "dtype": widest_dtype(tensors)}
    unsaid = () if N_HEAD in config else (N_HEAD,)
    if config.get(VALUE_RESIDUAL, False) is None:
        del config[VALUE_RESIDUAL]
        unsaid = (*unsaid, VALUE_RESIDUAL)
    said_by = f"the shapes in {path.name}"
    return Checkpoint(path, config, tensors, (file,), (path,), states=states, said_by=said_by, unsaid=unsaid)


def _told(path: Path, tensors: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """The config by the one family that knows the keys as its own."""
    naming = find_naming(tensors, "", ())
    shapes = {naming.own(key, ()): tensor.shape for key, tensor in tensors.items()}
    found = {family.name: config for family in list_families() if family.told and (config := family.told(shapes))}
    if len(found) == 1:
        return dict(*found.values())
    advice = "put a config.json beside it that says what it is"
    if found:
        raise ConfigRefused(f"{path} holds tensors of {' and of '.join(found)}; save one model in a file, or {advice}")
    known = ", ".join(family.name for family in list_families() if family.told)
    raise ConfigRefused(
        f"{path} is a state dict (first key: {next(iter(tensors))}) and its keys are those of none of {known}; {advice}"
    )


FORM = Form("state_dict", "a state dict saved by torch (.pt, .pth)", ("*.pt", "*.pth"), recognises, read, anything=True)

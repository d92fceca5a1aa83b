"""A folder that DeepSpeed wrote: config.json, `latest`, and the step that `latest` names.

A step holds the whole model in `mp_rank_00_model_states.pt`, under `module`, or a file `layer_NN-model_states.pt` for
each layer of a pipeline, whose keys have no `layers.NN.`. The folder may also be the step itself, with the config in it
or above it. Nothing of the files is run; what the trainer kept beside the weights is left out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.file_forms import Form
from converters.checkpoint.opening import read_config, readable, tensors_of
from converters.checkpoint.regular_files import open_regular
from converters.checkpoint.torch_zip import is_zip, read_saved
from converters.checkpoint.weight_files import is_plain_name
from converters.errors import CoverageRefused, UnsafeFile, shown

LATEST, WHOLE, STATES = "latest", "mp_rank_00_model_states.pt", "model_states.pt"
LAYER = re.compile(r"layer_(\d{1,4})-model_states\.pt")
LONGEST_NAME = 200  # bytes of a step's name
UNNEEDED = frozenset(
    {
        ("argparse", "Namespace"),
        ("torch", "Size"),
        ("torch", "device"),
        ("builtins", "set"),
        ("__builtin__", "set"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),  # numpy 1
        ("numpy._core.multiarray", "_reconstruct"),  # numpy 2
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("_codecs", "encode"),  # bytes in pickles of protocol 2
    }
)


def recognises(path: Path) -> bool:
    """Whether a file is `latest` beside the step that it names, or the first weight file of a step."""
    if path.name == LATEST:
        return _step(path) is not None
    return path.name == min((file.name for file in _states(path.parent)), default=None)


def _states(step: Path) -> list[Path]:
    return sorted(step.glob(f"*{STATES}"))


def _step(latest: Path) -> Path | None:
    """The folder that `latest` names, if it is one of DeepSpeed's."""
    with open_regular(latest) as file:
        name = file.read(LONGEST_NAME + 1).decode(errors="replace").strip()
    if not is_plain_name(name):
        return None
    step = latest.parent / name
    return step if step.is_dir() and _states(step) else None


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens the weights of a step.

    Raises:
        ConfigRefused: there is no config.json.
        CoverageRefused: the weights are sharded over processes, or are not there.
        UnsafeFile: a file is broken, or asks for code.
    """
    step = _step(path) if path.name == LATEST else path.parent
    if step is None:
        raise UnsafeFile(f"{path} names no folder beside it that DeepSpeed wrote")
    home = step if (step / "config.json").exists() else step.parent
    config = read_config(path.parent if (path.parent / "config.json").exists() else home)
    _refuse_sharded(step)
    layers = [file for file in _states(step) if file.name.startswith("layer_")]
    stored = tuple(layers or [step / WHOLE])
    if not stored[0].is_file():
        raise CoverageRefused(f"{step} was written by DeepSpeed, but has no {WHOLE}")
    files = tuple(readable(file) for file in stored) if layers else stored
    found = [t for k, file in enumerate(files) for t in _layer(file, stored[k], k)] if layers else _whole(stored[0])
    tensors = {tensor.key: tensor for tensor in found}
    states = tuple(FileState.of(file) for file in files)
    folder = path.parent if (path.parent / "config.json").exists() else home
    return Checkpoint(folder, config, tensors, files, stored, states=states)


def _refuse_sharded(step: Path) -> None:
    names = [file.name for file in _states(step)]
    sharded = [name for name in names if "zero_pp_rank_" in name]
    sharded += [name for name in names if re.fullmatch(r"mp_rank_\d+_model_states\.pt", name) and name != WHOLE]
    sharded += [name for name in names if name.startswith("layer_") and not LAYER.fullmatch(name)]
    if sharded:
        raise CoverageRefused(
            f"{step} holds weights that are sharded over processes ({sharded[0]}); gather them first: DeepSpeed wrote"
            f" zero_to_fp32.py into the same folder, which makes a pytorch_model.bin"
        )


def _whole(file: Path) -> Iterable[StoredTensor]:
    """The tensors under `module`."""
    if not is_zip(file):
        raise UnsafeFile(f"{file} is no zip written by torch.save; save it again with torch 1.6 or later")
    saved = read_saved(file, UNNEEDED)
    if not isinstance(saved.content, Mapping) or "module" not in saved.content:
        raise CoverageRefused(f'{file} has no weights under "module", {_holds(saved.content)}')
    found = saved.tensors(saved.content["module"])
    if not found:
        raise CoverageRefused(f'{file} holds no tensors under "module"')
    return [StoredTensor(t.key, t.key, t.dtype, t.shape, file, 0, t.begin, t.strides) for t in found]


def _holds(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"it holds a {type(content).__name__}"
    return f"only {', '.join(shown(name) for name in list(content)[:5])}"


def _layer(file: Path, stored: Path, shard: int) -> Iterable[StoredTensor]:
    """The tensors of one layer of a pipeline, under the names that they have in the model."""
    number = LAYER.fullmatch(stored.name)
    prefix = f"layers.{int(number[1])}." if number else ""
    for tensor in tensors_of(file, shard):
        yield replace(tensor, key=prefix + tensor.key, name=prefix + tensor.name)


FORM = Form(
    "deepspeed",
    "a folder that DeepSpeed wrote (latest, mp_rank_00_model_states.pt or layer_NN-model_states.pt)",
    (LATEST, f"*{STATES}"),
    recognises,
    read,
)

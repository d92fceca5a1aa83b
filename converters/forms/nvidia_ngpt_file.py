"""The `ckpt.pt` of NVIDIA's nGPT: what its train.py saves, of which `model` and `model_args` are a model.

Beside them the file holds a `config` object of the class `model.GPTConfig` and the states of two random generators, one
of them numpy's. Stand-ins that keep nothing take their place, so neither that class nor numpy is needed, and nothing of
the file is run. Source: NVIDIA/ngpt at ed19eb2, `train.py` and `model.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint, FileState
from converters.checkpoint.file_forms import Form
from converters.checkpoint.torch_zip import read_saved
from converters.forms.ckpt_content import arguments_of, model_of, training_of, widest_dtype
from converters.forms.torch_kinds import CKPT, NVIDIA, kind_of

KEPT = ("iter_num",)
UNNEEDED = frozenset(
    {
        ("model", "GPTConfig"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),  # numpy 1
        ("numpy._core.multiarray", "_reconstruct"),  # numpy 2
        ("_codecs", "encode"),  # bytes in pickles of protocol 2
    }
)
LEFT_OUT = {
    "optimizer": "the state of the optimizer",
    "config": "the config object (model_args say the same)",
    "rng_state_pytorch_bytes": "the state of torch's random generator",
    "rng_state_numpy": "the state of numpy's random generator",
}


def recognises(path: Path) -> bool:
    """Whether a file is a zip of torch whose pickle speaks of NVIDIA's nGPT."""
    return kind_of(path) == NVIDIA


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens a checkpoint of NVIDIA's train.py; its dtype is the widest of its tensors', as scales are float32.

    Raises:
        UnsafeFile: the file is broken, or asks for code.
        ConfigRefused, CoverageRefused: it lacks the model or its sizes.
    """
    saved = read_saved(path, UNNEEDED)
    tensors = model_of(saved)
    training, dtype = training_of(saved, KEPT), widest_dtype(tensors)
    config = {**arguments_of(saved), "model_type": "ngpt-nvidia", **training, "dtype": dtype}
    states, said_by = (FileState.of(path),), f"model_args of {path.name}"
    return Checkpoint(path, config, tensors, (path,), (path,), _notes(saved.content), states, said_by=said_by)


def _notes(content: Mapping[str, Any]) -> tuple[str, ...]:
    left = [words for name, words in LEFT_OUT.items() if name in content]
    return (f"not carried: {', '.join(left)}",) if left else ()


FORM = Form("nvidia", "the ckpt.pt of NVIDIA's nGPT", (CKPT, "*.pt"), recognises, read)

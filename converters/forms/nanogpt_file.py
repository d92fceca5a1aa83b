"""Reading nanoGPT's `ckpt.pt`: of what its train.py saves, `model` and `model_args` are the model.

The file is a zip written by torch.save; its tensors are read in place and nothing of it is run. The optimizer's state
is left out. Source: nanoGPT at 3adf61e, `train.py` and `model.py`.
"""

from collections.abc import Mapping
from pathlib import Path

from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.file_forms import Form
from converters.checkpoint.torch_zip import read_saved
from converters.forms.ckpt_content import DTYPES, arguments_of, model_of, training_of
from converters.forms.torch_kinds import CKPT, NANOGPT, kind_of

KEPT = ("iter_num", "best_val_loss", "config")  # of the training run, where they are plain values


def recognises(path: Path) -> bool:
    """Whether a file is a zip of torch whose pickle speaks of `model_args`, and not NVIDIA's."""
    return kind_of(path) == NANOGPT


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens a checkpoint of nanoGPT.

    Raises:
        UnsafeFile: the file is broken, or asks for code.
        ConfigRefused, CoverageRefused: it lacks the model or its sizes.
    """
    saved = read_saved(path)
    tensors = model_of(saved)
    config = {**arguments_of(saved), "model_type": "nanogpt", **training_of(saved, KEPT), "dtype": _dtype(tensors)}
    notes = ("the state of the optimizer was not converted",) if "optimizer" in saved.content else ()
    states, said_by = (FileState.of(path),), f"model_args of {path.name}"
    return Checkpoint(path, config, tensors, (path,), (path,), notes, states, said_by=said_by)


def _dtype(tensors: Mapping[str, StoredTensor]) -> str | None:
    """The dtype of the weights by its config name; None where they have several."""
    kinds = {tensor.dtype for tensor in tensors.values() if len(tensor.shape) < 4}  # a causal mask has four axes
    return DTYPES.get(next(iter(kinds))) if len(kinds) == 1 else None


FORM = Form("nanogpt", "nanoGPT's ckpt.pt", (CKPT, "*.pt"), recognises, read)

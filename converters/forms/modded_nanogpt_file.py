"""The `state_step*.pt` of alxndrTL/modded-nanogpt: `step`, `code` and `optimizer` beside the tensors of `model`.

No sizes are saved; the shapes say them. Source: `train_ngpt2.py` of that repository.
"""

from pathlib import Path

from converters.checkpoint.checkpoint import Checkpoint, FileState
from converters.checkpoint.file_forms import Form
from converters.checkpoint.torch_zip import read_saved
from converters.errors import ConfigRefused
from converters.family import get_family
from converters.forms.ckpt_content import model_of, training_of, widest_dtype
from converters.forms.torch_kinds import MODDED, kind_of
from converters.plan.naming import find_naming

FAMILY, KEPT = "ngpt-modded-nanogpt", ("step",)
LEFT_OUT = {"code": "the text of the training script", "optimizer": "the state of the optimizer"}


def recognises(path: Path) -> bool:
    """Whether a file is a zip of torch with such a model and its optimizer."""
    return kind_of(path) == MODDED


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens a checkpoint of that script.

    Raises:
        UnsafeFile: the file is broken, or asks for code.
        ConfigRefused, CoverageRefused: it lacks the model, or its tensors say no sizes.
    """
    saved = read_saved(path)
    tensors = model_of(saved)
    naming, family = find_naming(tensors, "", ()), get_family(FAMILY)
    assert family.told is not None
    told = family.told({naming.own(key, ()): tensor.shape for key, tensor in tensors.items()})
    if told is None:
        raise ConfigRefused(f"{path} holds no tensors of the layers of an nGPT under `model`")
    config = {**told, **training_of(saved, KEPT), "dtype": widest_dtype(tensors)}
    left = [words for name, words in LEFT_OUT.items() if name in saved.content]
    notes = (f"not carried: {', '.join(left)}",) if left else ()
    states, said_by = (FileState.of(path),), f"the shapes in {path.name}"
    return Checkpoint(path, config, tensors, (path,), (path,), notes, states, said_by=said_by)


FORM = Form("modded-nanogpt", "the state_step*.pt of alxndrTL's nGPT", ("state_step*.pt",), recognises, read)

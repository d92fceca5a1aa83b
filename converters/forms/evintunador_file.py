"""The model.pth of evintunador's nGPT, a state dict, with the sizes in model_config.json beside it."""

from pathlib import Path

from converters.checkpoint.checkpoint import Checkpoint, FileState
from converters.checkpoint.file_forms import Form
from converters.checkpoint.json_files import read_json
from converters.checkpoint.opening import readable, tensors_of
from converters.errors import ConfigRefused, CoverageRefused, UnsafeFile
from converters.forms.ckpt_content import widest_dtype
from converters.forms.torch_kinds import STATE_DICT, kind_of

CONFIG = "model_config.json"


def recognises(path: Path) -> bool:
    """Whether a file is a state dict beside such a config, and no config.json says what it is."""
    beside = path.parent
    return (beside / CONFIG).is_file() and not (beside / "config.json").exists() and kind_of(path) == STATE_DICT


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens such a model.

    Raises:
        UnsafeFile: the file is broken, or asks for code.
        ConfigRefused: model_config.json is no JSON object.
        CoverageRefused: there are no tensors.
    """
    file = readable(path)
    tensors = {tensor.key: tensor for tensor in tensors_of(file, 0)}
    if not tensors:
        raise CoverageRefused(f"{path} holds no tensors")
    try:
        said = read_json(path.parent / CONFIG)
    except UnsafeFile as error:
        raise ConfigRefused(str(error)) from None
    config = {**said, "model_type": "ngpt-evintunador", "dtype": widest_dtype(tensors)}
    states = (FileState.of(file),)
    return Checkpoint(path, config, tensors, (file,), (path,), states=states, said_by=f"{CONFIG} beside it")


FORM = Form("evintunador", "the model.pth of evintunador's nGPT", ("model.pth", "*.pth"), recognises, read)

"""The file that torchtune's FullModelTorchTuneCheckpointer writes: tensors by torchtune's names, in one file of torch.

Its recipes copy the config.json that the weights came with beside it. Which dialect that means is told when the
checkpoint is opened, as for such tensors in any other form.
"""

from pathlib import Path

from converters.checkpoint.checkpoint import Checkpoint, FileState
from converters.checkpoint.file_forms import Form
from converters.checkpoint.opening import read_config, readable, tensors_of
from converters.forms.torch_kinds import TORCHTUNE, kind_of

NAMES = ("model-00001-of-00001.bin", "*.pt", "*.pth")


def recognises(path: Path) -> bool:
    """Whether a file is a state dict with a norm under torchtune's name."""
    return kind_of(path) == TORCHTUNE


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens such a file with the config.json beside it.

    Raises:
        ConfigRefused: there is none, or it is unsound.
        UnsafeFile: the file is broken, asks for code, or holds something else than tensors by name.
    """
    config, file = read_config(path.parent), readable(path)
    tensors = {tensor.key: tensor for tensor in tensors_of(file, 0)}
    return Checkpoint(path.parent, config, tensors, (file,), (path,), states=(FileState.of(file),))


FORM = Form("torchtune", "a state dict of torchtune with a config.json beside it", NAMES, recognises, read)

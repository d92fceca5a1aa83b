"""How far a model's matrices are from normalised ones: lengths of their rows along the width of the model.

A matrix that makes activations of the width (an output of attention or of an MLP) has that width in its rows, so its
columns are measured. Nothing is changed. Weights are read a megabyte at a time; numpy is imported for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converters.checkpoint.casts import FLOATS, as_float
from converters.checkpoint.checkpoint import Checkpoint, StoredTensor
from converters.checkpoint.source_files import opened
from converters.engine.chunks import Maker, made
from converters.errors import ConfigRefused
from converters.family import OURS, get_family
from converters.family_of import family_of
from converters.plan.rules import unmoved

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, np.dtype[np.float64]]

WIDTHS = ("n_embd", "hidden_size", "dim", "llama.embedding_length", "gpt2.embedding_length")
OUTPUTS = (".out_proj.weight", ".fc2.weight")  # of ours


@dataclass(frozen=True)
class Lengths:
    """Euclidean lengths of the `count` rows or columns (`axis`) of a matrix; `off`: the largest | length - 1 |.

    nonfinite: how many lengths are NaN or infinite; the other numbers are None where all are.
    """

    key: str
    axis: str
    count: int
    least: float | None
    most: float | None
    off: float | None
    nonfinite: int


def measure(source: Checkpoint) -> tuple[Lengths, ...]:
    """The lengths in every floating-point matrix that has an axis of the model's width.

    Raises:
        ConfigRefused: the config does not say the width, or is of no known family.
        UnsafeFile: a file is shorter than its header says.
    """
    width = next((source.config[name] for name in WIDTHS if type(source.config.get(name)) is int), None)
    if width is None:
        raise ConfigRefused(f"the config of {source.folder} says no width; expected one of {', '.join(WIDTHS)}")
    name = family_of(source.config)
    outputs = OUTPUTS if name == OURS else get_family(name).outputs
    found = []
    for key, tensor in source.tensors.items():
        axis = _axis(tensor, width, outputs)
        if axis is not None:
            found.append(_measured(source, key, axis))
    return tuple(found)


def _axis(tensor: StoredTensor, width: int, outputs: tuple[str, ...]) -> int | None:
    """The axis of a matrix that lies along the width; None if it has none."""
    if len(tensor.shape) != 2 or tensor.dtype not in FLOATS or 0 in tensor.shape:
        return None
    first = (0, 1) if tensor.key.endswith(outputs) else (1, 0)
    return next((axis for axis in first if tensor.shape[axis] == width), None)


def _measured(source: Checkpoint, key: str, axis: int) -> Lengths:
    import numpy as np

    squares = list(_squares(source, key, along_rows=axis == 1))
    lengths = np.sqrt(np.concatenate(squares) if axis == 1 else np.sum(squares, axis=0))
    sound = lengths[np.isfinite(lengths)]
    off = float(np.abs(sound - 1).max()) if sound.size else None
    least, most = (float(sound.min()), float(sound.max())) if sound.size else (None, None)
    return Lengths(key, ("columns", "rows")[axis], len(lengths), least, most, off, len(lengths) - sound.size)


def _squares(source: Checkpoint, key: str, *, along_rows: bool) -> Iterator["Numbers"]:
    """Sums of squares of a few rows at a time: one for each row, or one for each column."""
    import numpy as np

    columns, dtype = source.tensors[key].shape[1], source.tensors[key].dtype
    rest = np.empty(0)
    with opened(source) as files, np.errstate(over="ignore"):
        for chunk in made(Maker(files), unmoved(source)[key]):
            numbers = np.concatenate((rest, as_float(chunk, dtype).astype(np.float64)))
            rows = numbers[: len(numbers) // columns * columns].reshape(-1, columns)
            rest = numbers[rows.size :]
            if len(rows):
                yield np.square(rows).sum(axis=1 if along_rows else 0)

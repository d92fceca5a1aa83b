"""Baking: parametrised matrices of lucidrains' nGPT, divided by their lengths and stored so. A lossy step, asked for.

Such a matrix is stored with vectors of any length, and divided by these lengths whenever it is used. Baked, it is the
matrix that is used, rounded once to the dtype that it is stored in; lengths are taken in float64.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from converters.checkpoint.casts import as_float, from_float
from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.scratch import scratch_file
from converters.checkpoint.users_word import Word
from converters.plan.known_buffers import stored_bytes

STEP, FIELD = "bake", "parametrized"
ORIGINAL, BAKED = ".parametrizations.weight.original", ".weight"
BY_COLUMNS = ".to_out."  # in keys of matrices whose columns are divided; of all others rows are
LEAST = 1e-12  # what a shorter length counts as
BAKE: Word[bool] = Word(STEP)
"""Whether references that are run are baked."""


def with_bake(source: Checkpoint) -> Checkpoint:
    """The checkpoint with baked matrices, which are made in a temporary file; the same where none is parametrised."""
    parametrised = [tensor for tensor in source.tensors.values() if tensor.key.endswith(ORIGINAL)]
    if not parametrised:
        return source
    path, last, at = source.stored[0], len(source.files), 0
    made = {}
    for tensor in parametrised:
        key = tensor.key.replace(ORIGINAL, BAKED)
        made[tensor.key] = StoredTensor(key, key, tensor.dtype, tensor.shape, path, last, at)
        at += tensor.nbytes
    tensors = [made.get(tensor.key, tensor) for tensor in source.tensors.values()]
    return replace(
        source,
        config={**source.config, FIELD: False},
        tensors={tensor.key: tensor for tensor in tensors},
        files=(*source.files, path),
        states=(*source.states, FileState.of(path)),
        lossy=(*source.lossy, {"step": STEP, "tensors": len(parametrised)}),
        unpack=partial(_baked, parametrised),
    )


def _baked(parametrised: list[StoredTensor], place: Path) -> Path:
    """A file in `place` with the matrices as they are used, one after the other."""
    target = scratch_file("baked", place)
    with target.open("wb") as out:
        for tensor in parametrised:
            out.write(_divided(tensor, stored_bytes(tensor)))
    return target


def _divided(tensor: StoredTensor, data: bytes) -> bytes:
    import numpy as np

    numbers = as_float(data, tensor.dtype).astype(np.float64).reshape(tensor.shape)
    axis = 0 if BY_COLUMNS in tensor.key else -1
    lengths = np.sqrt(np.square(numbers).sum(axis=axis, keepdims=True))
    return from_float(numbers / np.maximum(lengths, LEAST), tensor.dtype)

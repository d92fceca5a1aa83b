"""Two sides of a comparison as checkpoints whose tensors can all be read: dequantised, baked, unpacked."""

import os
import tempfile
from pathlib import Path

from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.opening import open_checkpoint
from converters.plan.baking import with_bake
from converters.provenance import recorded_baking, recorded_dequantisation


def open_reference(path: Path, candidate: Checkpoint) -> Checkpoint:
    """The reference, dequantised or baked where the candidate's record says that it was."""
    baked = recorded_baking(candidate.folder)
    found = open_checkpoint(path, dequantize=recorded_dequantisation(candidate.folder) or baked)
    return readable(with_bake(found) if baked else found, candidate.folder)


def readable(checkpoint: Checkpoint, beside: Path) -> Checkpoint:
    """The checkpoint with its tensors in files, those that have to be made first in one on the disk of a folder."""
    if checkpoint.unpack is None:
        return checkpoint
    place = beside.absolute().parent
    return checkpoint.unpacked(place if os.access(place, os.W_OK) else Path(tempfile.gettempdir()))

"""Folders of torch.distributed.checkpoint through torch's own reader, which puts the pieces of tensors together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golden.references.state_dicts import of_transformers

MODELS = ("model", "state_dict", "module")  # keys that trainers keep a model under


def load(path: Path, dtype: torch.dtype, attn: str | None) -> Any:
    """The model of a folder, whose `.metadata` has been read without running code before; it is not run here either."""
    config = path if (path.parent / "config.json").is_file() else path.parent
    return of_transformers(config, weights_of(path.parent), dtype, attn)


def weights_of(folder: Path) -> dict[str, Tensor]:
    """The tensors of the model, by the keys that they have in its own state dict.

    Only tensors are asked for: torch reads those with weights_only, and whatever else there is without.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    said = FileSystemReader(folder).read_metadata()
    listed = said.state_dict_metadata.items()
    sizes = {name: one for name, one in listed if isinstance(one, TensorStorageMetadata)}
    paths = said.planner_data or {}
    keys = {name: paths.get(name, (name,)) for name in sizes}
    under = next((name for name in MODELS if any(len(p) > 1 and p[0] == name for p in keys.values())), None)
    if under:
        keys = {name: path[1:] for name, path in keys.items() if path[0] == under and len(path) > 1}
    found = {name: torch.empty(sizes[name].size, dtype=sizes[name].properties.dtype) for name in keys}
    _load_state_dict(found, FileSystemReader(folder), no_dist=True)
    return {".".join(map(str, keys[name])): tensor for name, tensor in found.items()}

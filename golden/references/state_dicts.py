"""Bare state dicts of torch: a model of nGPT by its own names, or of the config.json beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golden.errors import FolderError
from golden.references import by_transformers, dialect_folders, ngpt_lucidrains, ngpt_tutorial
from golden.references.form_names import form_of


def load(path: Path, dtype: torch.dtype, attn: str | None) -> Any:
    """The model of a file; the number of heads of the tutorial's nGPT is that of config.json, or what a user says.

    Raises:
        FolderError: nobody says the number of heads, or the keys are not those of the model that is said.
    """
    stored = torch.load(path, map_location="cpu", weights_only=True)
    beside = path.parent / "config.json"
    config = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    if ngpt_tutorial.is_state_dict(stored):
        return ngpt_tutorial.built(_heads(path, config), stored, dtype)
    if ngpt_lucidrains.is_state_dict(stored):
        return ngpt_lucidrains.built({"value_residual": _values(path, config)}, stored, dtype)
    if (form := form_of(config)) in dialect_folders.BUILDERS:
        return dialect_folders.BUILDERS[form](config, stored, dtype)
    return of_transformers(path, stored, dtype, attn)


def _heads(path: Path, config: Mapping[str, Any]) -> int:
    from converters.checkpoint.users_word import HEADS

    found = config.get("n_head") or HEADS.get()
    if found is None:
        raise FolderError(f"{path}: nothing says how many heads the model has: say it with --n-head N")
    return int(found)


def _values(path: Path, config: Mapping[str, Any]) -> bool:
    from converters.checkpoint.users_word import VALUES

    found = config.get("value_residual", VALUES.get())
    if found is None:
        raise FolderError(
            f"{path}: nothing says whether later layers take the values of the first: say --value-residual"
        )
    return bool(found)


def of_transformers(path: Path, stored: Mapping[str, Tensor], dtype: torch.dtype, attn: str | None) -> Any:
    """The model of the config.json beside a file, with weights by the keys of its own state dict.

    Raises:
        FolderError: the keys are not those of that model.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path.parent, local_files_only=True, trust_remote_code=False)
    return by_transformers.of_config(config, path, stored, dtype, attn)

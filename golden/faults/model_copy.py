"""A model folder read into memory, to be changed and written to another folder."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from golden.models.anatomy import Anatomy, lookup, read_anatomy
from golden.models.folders import read_config, weight_files

TRACES = ("conversion.json",)
"""Files that say what a model was made from. A planted fault must be found without them."""


@dataclass
class Patient:
    """A copy of one model that faults are planted into: weights, config, and where its parts are."""

    weights: dict[str, Tensor]
    config: dict[str, Any]
    anatomy: Anatomy

    def part(self, role: str) -> Tensor:
        """A view of the part of that role; writing to it changes the weights."""
        return self.anatomy.parts[role].view(self.weights)

    def read(self, dial: str) -> Any:
        """The value of a config field, by its name in the anatomy."""
        return lookup(self.config, self.anatomy.dials[dial][0])

    def turn(self, dial: str, value: Any) -> None:
        """Set a config field, in every place of the config that holds it."""
        for path in self.anatomy.dials[dial]:
            place: Any = self.config
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = value

    def swap(self, one: str, other: str) -> None:
        """Exchange two parts of equal shape."""
        first, second = self.part(one), self.part(other)
        kept = first.clone()
        first.copy_(second)
        second.copy_(kept)

    def clone(self) -> Patient:
        """A copy that can be changed on its own."""
        weights = {key: tensor.clone() for key, tensor in self.weights.items()}
        return Patient(weights, copy.deepcopy(self.config), self.anatomy)


def admit(folder: Path) -> Patient:
    """Read a folder into memory. Raises FolderError where that fails."""
    config = read_config(folder)
    weights = {key: tensor for path in weight_files(folder) for key, tensor in load_file(path).items()}
    return Patient(weights, config, read_anatomy(config, weights))


def discharge(patient: Patient, source: Path, folder: Path) -> Path:
    """Write a copy into ``folder`` with the side files of ``source``, but without conversion.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and not path.name.endswith(".index.json"):
            shutil.copyfile(path, folder / path.name)
    for name in TRACES:
        (folder / name).unlink(missing_ok=True)
    (folder / "config.json").write_text(json.dumps(patient.config, indent=2), encoding="utf-8")
    weights = {key: tensor.contiguous() for key, tensor in patient.weights.items()}
    with torch.no_grad():
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def relink(source: Path, folder: Path, config: dict[str, Any]) -> Path:
    """A folder with another config and links to the weights of ``source``."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    index = source / "model.safetensors.index.json"
    for path in (*weight_files(source), *([index] if index.exists() else [])):
        (folder / path.name).symlink_to(path.resolve())
    return folder

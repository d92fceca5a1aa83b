"""How large the model is that a config describes, whatever the files hold: 10^9 heads need more memory than exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from golden.errors import CannotBuildError
from golden.models.folders import stored_elements
from golden.models.memory import available_bytes

SMALL = 2**28
"""Elements of a tensor whose sides are the three largest numbers of a config, up to which no model is large."""


def check_described_size(folder: Path, config: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Builds the model without memory, and compares it with what the files hold and with the memory of this machine.

    A tensor of another shape than the files have is allocated before anybody can say that it is wrong.

    Raises:
        CannotBuildError: it is larger than the files say, and than memory.
    """
    sizes = sorted((size for size in _integers(config) if size > 0), reverse=True)
    if prod(sizes[:3]) <= SMALL:
        return
    elements, stored = _described_elements(folder), stored_elements(folder)
    need, have = elements * dtype.itemsize, available_bytes()
    if elements > 2 * stored + SMALL and need > have:
        raise CannotBuildError(
            f"{folder}: config.json describes a model of {elements} weights and buffers, the files hold {stored}; it "
            f"needs {need / 2**30:.1f} GiB of memory, {have / 2**30:.1f} GiB are available"
        )


def _integers(value: Any) -> Iterator[int]:
    if type(value) is int:
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _integers(inner)


def _described_elements(folder: Path) -> int:
    """Elements of all tensors of the model that config.json describes, each counted once."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(settings, trust_remote_code=False)
    tensors = {id(tensor): tensor.numel() for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        tensors |= {id(value): value.numel() for value in vars(module).values() if isinstance(value, torch.Tensor)}
    return sum(tensors.values())

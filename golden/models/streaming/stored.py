"""Where the values of parameters lie in the files of a model, and how transformers makes the parameters of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from converters.checkpoint.safetensors_header import TensorEntry
from converters.paging import pager_of, read
from golden.errors import FolderError, UnverifiableError
from golden.models.folders import tensor_headers

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Those of models that can be judged, as safetensors names them."""

Headers = Mapping[str, tuple[Path, TensorEntry]]
"""Key -> its safetensors file, and what the header says of it."""


@dataclass(frozen=True, eq=False)
class Stored:
    """The values of a parameter: one tensor of a file, or several that transformers joins while it loads them."""

    places: tuple[tuple[Path, str], ...]
    shape: tuple[int, ...]
    join: Callable[[Sequence[Tensor]], Tensor] | None = None

    @property
    def on_disk(self) -> bool:
        """Whether no part of it is a stand-in (see `converters.paging`)."""
        return all(pager_of(path) is None for path, _ in self.places)

    def read(self) -> Tensor:
        """All values, in the dtype of the files."""
        parts = [read_tensor(path, key) for path, key in self.places]
        return parts[0] if self.join is None else self.join(parts)

    def rows(self, count: int) -> Iterator[Tensor]:
        """The same, ``count`` rows at a time where it lies in one file on disk."""
        if self.join is not None or not self.on_disk:
            yield self.read()
            return
        ((path, key),) = self.places
        with _opened(path) as file:
            stored = file.get_slice(key)
            for start in range(0, self.shape[0], count):
                with torch._C.DisableTorchFunction():  # a model in float64 runs under `Float64Mode`
                    block = stored[start : start + count]
                yield block


Found = Mapping[str, Stored]
"""Parameter name -> where its values lie."""


def read_tensor(path: Path, key: str) -> Tensor:
    """A tensor of a safetensors file; of a stand-in its bytes are asked for, and copied before others take their place.

    Raises:
        FolderError: the file cannot be read, or not any longer.
    """
    if pager_of(path) is None:
        with _opened(path) as file:
            stored: Tensor = file.get_tensor(key)
        return stored
    entry = tensor_headers(path)[key]
    data = read(path, entry.begin, entry.end)
    return torch.frombuffer(data, dtype=DTYPES[entry.dtype]).reshape(entry.shape) if data else torch.empty(entry.shape)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file that was read before: hours may have passed since then."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as broken:
        raise FolderError(
            f"{path}: it can no longer be read; leave it until the verdict is there: {broken}"
        ) from broken


def stored_parameters(model: Any, headers: Headers) -> Found:
    """Where each parameter of a model of transformers lies; keys that the model does not know keep their names.

    Raises:
        UnverifiableError: transformers splits a tensor of these while it loads it.
    """
    loading = _Loading(model)
    for key in sorted(headers, key=loading.order):
        loading.add(key, headers)
    return loading.found(headers)


def stored_by_mixformer(model: Any, headers: Headers) -> Found:
    """The same of a MixFormer, whose earlier forms have other names."""
    from transformers.core_model_loading import dot_natural_key

    found: dict[str, Stored] = {}
    for key in sorted(headers, key=dot_natural_key):
        found.setdefault(_renamed(model, key), _whole(headers, key))
    return found


def _whole(headers: Headers, key: str) -> Stored:
    path, entry = headers[key]
    return Stored(((path, key),), tuple(entry.shape))


def _renamed(model: Any, key: str) -> str:
    """The parameter of a key of an earlier MixFormer."""
    from mixformer.checkpoints import legacy_names

    for pattern, replacement in legacy_names(len(model.blocks)).items():
        key = re.sub(pattern, replacement, key)
    return key


@dataclass
class _Loading:
    """What transformers.core_model_loading does to keys in `convert_and_load_state_dict_in_model`, without values."""

    model: Any
    single: dict[str, str] = field(default_factory=dict)
    several: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from transformers import core_model_loading as core
        from transformers.conversion_mapping import get_model_conversion_mapping

        transforms = get_model_conversion_mapping(self.model)
        self._rename, self.order = core.rename_source_key, core.dot_natural_key
        self._renamings = [one for one in transforms if isinstance(one, core.WeightRenaming)]
        self._converters = [one for one in transforms if isinstance(one, core.WeightConverter)]
        self._expected = self.model.state_dict()

    def add(self, key: str, headers: Headers) -> None:
        """Note which parameter a key belongs to, and by which pattern of a converter; the first of two keys counts."""
        prefix = self.model.base_model_prefix
        name, pattern = self._rename(key, self._renamings, self._converters, prefix, self._expected)
        if name not in self._expected and key in self._expected:
            name, pattern = self._rename(key, [], [], prefix, self._expected)
        if pattern is not None and name in self._expected:
            self.several.setdefault(name, []).append((pattern, key))
        else:
            self.single.setdefault(name, key)

    def found(self, headers: Headers) -> Found:
        """Where each parameter lies."""
        joined = {name: self._joined(name, parts, headers) for name, parts in self.several.items()}
        return {name: _whole(headers, key) for name, key in self.single.items()} | joined

    def _joined(self, name: str, parts: list[tuple[str, str]], headers: Headers) -> Stored:
        converter = next(one for one in self._converters if parts[0][0] in one.source_patterns)
        if len(converter.target_patterns) > 1:
            raise UnverifiableError(
                f"{self.model.config.model_type}: transformers splits {parts[0][1]} while loading it, so the model "
                "cannot be run layer by layer, and it does not fit into memory"
            )

        def join(tensors: Sequence[Tensor]) -> Tensor:
            fresh = deepcopy(converter)
            for (pattern, key), tensor in zip(parts, tensors, strict=True):
                fresh.add_tensor(name, key, pattern, tensor)
            made: Tensor = fresh.convert(name, model=self.model, config=self.model.config)[name]
            return made

        shapes = [torch.empty(tuple(headers[key][1].shape), device="meta") for _, key in parts]
        places = tuple((headers[key][0], key) for _, key in parts)
        return Stored(places, tuple(join(shapes).shape), join)

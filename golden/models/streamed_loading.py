"""Opening a model folder to run it a layer at a time, without loading all its weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from converters.paging import pager_of
from golden.models.failures import building
from golden.models.folders import check_config, read_config, tensor_headers, weight_files
from golden.models.loading import (
    MIXFORMER,
    LoadedModel,
    attention_options,
    load_model,
    loading_problems,
    silenced,
    wrong_kinds,
)
from golden.models.streaming.layer_stream import LayerStream, names_sharing_weights
from golden.models.streaming.stored import Found, Stored, stored_by_mixformer, stored_parameters
from golden.references import is_native, native_elements
from golden.references.codegen_shards import set_shards
from golden.references.own_references import check_known, register_reference


def largest_layer(folder: Path) -> int:
    """Number of weights of the largest layer, from headers only. Tensors with one number in their keys are a layer.

    A native file counts as one layer, because it is loaded as a whole.
    """
    if is_native(folder):
        return native_elements(folder)
    sizes: Counter[str] = Counter()
    for path in weight_files(folder):
        for key, entry in tensor_headers(path).items():
            numbered = re.match(r"(.*?\.\d+)\.", key)
            sizes[numbered[1] if numbered else key] += prod(entry.shape)
    return max(sizes.values(), default=0)


def open_streamed(folder: Path, dtype: torch.dtype, attn: str | None = None) -> LoadedModel:
    """Open a folder as :func:`golden.models.loading.load_model` does, but leave its weights on disk until needed.

    A native file is loaded as a whole.

    Raises:
        FolderError, CannotBuildError: as `load_model`.
        UnverifiableError: transformers would not load these weights as they are stored.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    import mixformer  # noqa: F401  registers the Auto classes

    if is_native(folder):
        return load_model(folder, dtype, attn)
    check_config(folder)
    register_reference(read_config(folder).get("model_type"))
    check_known(folder, read_config(folder).get("model_type"))
    stored = {key: (path, entry) for path in weight_files(folder) for key, entry in tensor_headers(path).items()}
    options = attention_options(read_config(folder), attn)
    with building(folder, attn), silenced():
        _check_complete(stored.values())
        settings = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(settings, dtype=dtype, trust_remote_code=False, **options)
        _fill_buffers(model)
        set_shards(model, read_config(folder))
        found = (stored_by_mixformer if settings.model_type == MIXFORMER else stored_parameters)(model, stored)
    problems = (*loading_problems(_differences(model, found), model.config.model_type), *wrong_kinds(folder, model))
    sources = {} if problems else dict(_sources(model, found))
    if not problems:
        _load_buffers(model, found)
    return LoadedModel(folder, model.eval(), problems, LayerStream(model, sources))


def open_whole(folder: Path, dtype: torch.dtype, attn: str | None = None) -> LoadedModel:
    """Open a folder with all its weights in memory: :func:`golden.models.loading.load_model`, also of stand-ins.

    Of stand-ins (see `converters.paging`) a tensor after the other is read, so that few of them are on disk at a time.

    Raises:
        FolderError, CannotBuildError: as `load_model`.
        UnverifiableError: of stand-ins, as `open_streamed`.
    """
    if pager_of(folder) is None:
        return load_model(folder, dtype, attn)
    loaded = open_streamed(folder, dtype, attn)
    if loaded.stream is not None and not loaded.problems:
        loaded.stream.load_all()
    return replace(loaded, stream=None)


def _fill_buffers(model: Any) -> None:
    """Move buffers off the meta device and compute them, as transformers does when it loads a model."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = torch.empty_like(buffer, device="cpu")
    for parameter in model.parameters():
        parameter._is_hf_initialized = True
    model.initialize_weights()


def _check_complete(stored: Iterable[tuple[Path, object]]) -> None:
    """Raises SafetensorError where a file is shorter than its header says, before a forward pass reads it."""
    for path in sorted({path for path, _ in stored}):
        with safe_open(path, framework="pt"):
            pass


def _differences(model: Any, found: Found) -> dict[str, Any]:
    """Missing, unexpected and mismatched keys, in the form and with the exceptions of transformers."""
    expected = model.state_dict()
    shared = names_sharing_weights(model)
    missing = {key for key in expected if not any(name in found for name in shared.get(key, [key]))}
    info = SimpleNamespace(missing_keys=missing, unexpected_keys=set(found) - set(expected))
    model._adjust_missing_and_unexpected_keys(info)
    sizes = ((key, found[key].shape, tensor.shape) for key, tensor in expected.items() if key in found)
    mismatched = [(key, tuple(have), tuple(want)) for key, have, want in sizes if tuple(have) != tuple(want)]
    return {**vars(info), "mismatched_keys": mismatched, "error_msgs": []}


def _sources(model: nn.Module, found: Found) -> Iterator[tuple[str, Stored]]:
    """Where the weights of each parameter lie: under its own name, or under a name that it is tied to."""
    for name, names in names_sharing_weights(model).items():
        held = name if name in found else next(other for other in names if other in found)
        yield name, found[held]


def _load_buffers(model: Any, found: Found) -> None:
    for name, buffer in model.named_buffers():
        if name in found and name in model.state_dict():
            buffer.copy_(found[name].read())

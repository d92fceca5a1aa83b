"""Model folders: reading config and headers, and loading models strictly and without output."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from golden.errors import MissingDeviceError
from golden.models.described_size import check_described_size
from golden.models.failures import building, nonfinite_words
from golden.models.folders import check_config, read_config, tensor_headers, weight_files
from golden.references import is_native, load_native
from golden.references.codegen_shards import set_shards
from golden.references.own_references import check_known, register_reference

if TYPE_CHECKING:
    from golden.models.streaming.layer_stream import LayerStream

MIXFORMER = "mixformer-sequential"
FLASH = "flash_attention_2"


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode. ``problems``: a sentence for each mismatch of files and architecture.

    ``stream`` reads its weights a layer at a time where the model does not fit into memory.
    """

    folder: Path
    model: Any
    problems: tuple[str, ...]
    stream: LayerStream | None = None

    @property
    def is_mixformer(self) -> bool:
        """Whether this is a MixFormer, whose choice of dtypes is part of what is judged."""
        return bool(self.model.config.model_type == MIXFORMER)

    @property
    def device(self) -> torch.device:
        """The device of its inputs."""
        return torch.device("cpu") if self.stream is not None else torch.device(self.model.device)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and persistent buffers by name; a streamed model reads each when it is asked for."""
        yield from self.model.state_dict().items() if self.stream is None else self.stream.weights()

    def round_through(self, dtype: torch.dtype) -> None:
        """Round all parameters through ``dtype``, in place or from the next reading on."""
        if self.stream is not None:
            self.stream.round_through(dtype)
            return
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(parameter.to(dtype))

    def name_nonfinite(self) -> str | None:
        """The first weight or buffer that holds NaN or infinity, as a sentence, or None."""
        if self.stream is not None:
            return self.stream.name_nonfinite()
        return next(filter(None, (nonfinite_words(name, [tensor]) for name, tensor in self.weights())), None)


def says_mixformer(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a MixFormer, of any generation."""
    from converters.generations.configs import MODEL_TYPES

    return config.get("model_type") in MODEL_TYPES


def load_model(folder: Path, dtype: torch.dtype, attn: str | None = None, device: str = "cpu") -> LoadedModel:
    """Load a folder for judging: no remote code, no network, no pickle, weights as stored and then cast to ``dtype``.

    Args:
        attn: ``eager``, ``sdpa``, ``flash_attention_2``, or None for the model's own default.

    Raises:
        FolderError: the folder cannot be read.
        CannotBuildError, NoMemoryError: it can be read, and its model cannot be built.
        MissingClassError: transformers has no class for its model_type.
        MissingDeviceError: the attention backend or the device is not on this machine.
    """
    from transformers import AutoModelForCausalLM

    import mixformer  # noqa: F401  registers the Auto classes

    if is_native(folder):
        with building(folder, attn), silenced():
            return LoadedModel(folder, load_native(folder, dtype, attn), ())
    config = read_config(folder)
    own_flash = attn == FLASH and says_mixformer(config)
    if own_flash:
        check_flash(folder, device)
    check_config(folder)
    register_reference(config.get("model_type"))
    check_known(folder, config.get("model_type"))
    options = {} if own_flash else attention_options(config, attn)
    with building(folder, attn), silenced():
        check_described_size(folder, config, dtype)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
        model = model.to(device).eval()
        set_shards(model, config)
    if own_flash:
        model.config._attn_implementation = FLASH
    return LoadedModel(folder, model, (*loading_problems(info, config.get("model_type")), *wrong_kinds(folder, model)))


def attention_options(config: Mapping[str, Any], attn: str | None) -> dict[str, Any]:
    """What asks transformers for an attention backend; nothing where its default is meant.

    The default of Gemma 2 is sdpa before transformers 5.22, which drops the soft cap of scores without a word.
    """
    if attn is None and config.get("model_type") == "gemma2":
        attn = "eager"
    return {} if attn is None else {"attn_implementation": attn}


def check_flash(folder: Path, device: str) -> None:
    """Check that flash attention can run a MixFormer. The model calls the kernels itself, so that transformers' own
    check does not matter.

    Raises:
        MissingDeviceError: it cannot run on this machine.
    """
    from mixformer.attention import flash_obstacle

    if obstacle := flash_obstacle(device):
        raise MissingDeviceError(f"{folder}: flash attention cannot run on this machine: {obstacle}")


def loading_problems(info: Mapping[str, Any], model_type: object) -> Iterator[str]:
    """A sentence for each mismatch of files and architecture, from transformers' ``loading_info``.

    Buffers that the family of ``model_type`` computes, and that old exporters stored, are none.
    """
    for key in sorted(info["missing_keys"]):
        yield f"{key}: the model needs it, the files do not have it"
    suffixes = known_buffers(model_type) if info["unexpected_keys"] else ()
    for key in sorted(key for key in info["unexpected_keys"] if not key.endswith(suffixes)):
        yield f"{key}: the files have it, the model does not know it"
    for key, found, expected in sorted(info["mismatched_keys"]):
        yield f"{key}: the files have shape {tuple(found)}, the model expects {tuple(expected)}"
    yield from info["error_msgs"]


def known_buffers(model_type: object) -> tuple[str, ...]:
    """The ends of the keys of stored buffers that a formula gives, in a family of theirs."""
    from converters.family import list_families

    return tuple(rule.suffix for f in list_families() if model_type in f.model_types for rule in f.buffers)


def wrong_kinds(folder: Path, model: Any) -> Iterator[str]:
    """A sentence for each weight that is not stored as floating-point numbers; a cast would invent values."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for path in weight_files(folder):
        for key, entry in tensor_headers(path).items():
            if key in weights and not entry.dtype.startswith(("F", "BF")):
                yield f"{key}: the files hold {entry.dtype}, expected floating-point numbers"


@contextmanager
def silenced() -> Iterator[None]:
    """Silences transformers' progress bars, notices and warnings."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    _set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _set_verbosity(verbosity: int) -> None:
    """Set it only where it is another: each setting empties what all loggers of the process remember."""
    from transformers.utils import logging as transformers_logging

    if transformers_logging.get_verbosity() != verbosity:
        transformers_logging.set_verbosity(verbosity)

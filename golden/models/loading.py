"""Model folders: reading config and headers, and loading models strictly and without output."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from golden.errors import FolderError, MissingDeviceError
from golden.models.own_references import register_reference
from golden.references import is_native, load_native, native_config, native_elements

if TYPE_CHECKING:
    from golden.models.layer_stream import LayerStream

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
            self.stream.rounded_to = dtype
            self.stream.release()
            return
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(parameter.to(dtype))

    def name_nonfinite(self) -> str | None:
        """The first weight or buffer that holds NaN or infinity, as a sentence, or None."""
        for key, tensor in self.weights():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                bad = int((~torch.isfinite(tensor)).sum())
                return f"{key}: {bad} of {tensor.numel()} values are NaN or infinite"
        return None


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a folder, or what a native file says. Raises FolderError where it cannot be read."""
    if is_native(folder):
        return native_config(folder)
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise FolderError(f"{path}: not found; expected a model folder with config.json and safetensors") from missing
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as broken:
        raise FolderError(f"{path}: cannot be read as JSON ({broken}); copy the file again") from broken
    if not isinstance(config, dict):
        raise FolderError(f"{path}: expected a JSON object, found {type(config).__name__}")
    return config


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that transformers would load from the folder, in order of name."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return (single,)
    if not index.exists():
        raise FolderError(f"{folder}: no model.safetensors and no {index.name}; only safetensors folders can be judged")
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        outside = [name for name in names if Path(name).name != name]
    except (ValueError, KeyError, AttributeError, TypeError) as broken:
        raise FolderError(f"{index}: no usable weight_map ({broken}); write the index again") from broken
    if outside:
        raise FolderError(f"{index}: weight_map names {outside[0]!r}, which is no file of this folder")
    return tuple(folder / name for name in sorted(names))


def tensor_headers(path: Path) -> dict[str, dict[str, Any]]:
    """Header of one safetensors file: key -> {dtype, shape, data_offsets}. Raises FolderError where it is broken."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise FolderError(
                    f"{path}: the header says it has {length} bytes, but the file is shorter: it is truncated or no "
                    "safetensors file; copy it again"
                )
            header = json.loads(file.read(length))
        return {key: entry for key, entry in header.items() if key != "__metadata__"}
    except (OSError, ValueError, AttributeError) as broken:
        raise FolderError(f"{path}: the header cannot be read ({broken}); copy or convert the file again") from broken


def stored_elements(folder: Path) -> int:
    """Number of weights in the folder, read from headers only."""
    if is_native(folder):
        return native_elements(folder)
    total = 0
    for path in weight_files(folder):
        for entry in tensor_headers(path).values():
            count = 1
            for size in entry["shape"]:
                count *= size
            total += count
    return total


_WIDTHS = ("hidden_size", "n_embd")
_COUNTS = ("vocab_size", "num_hidden_layers", "n_layer", "intermediate_size", "n_inner")


def check_config(folder: Path) -> None:
    """Check that config and files have about the same size, before memory is used.

    Raises:
        FolderError: config.json describes a larger model than the files hold, or quantised weights.
    """
    config, stored = read_config(folder), stored_elements(folder)
    if config.get("quantization_config"):
        raise FolderError(
            f"{folder}: config.json has a quantization_config; quantised weights cannot be judged, dequantise them"
        )
    width = next((config[name] for name in _WIDTHS if type(config.get(name)) is int), 1)
    for name in _COUNTS:
        count = config.get(name)
        if type(count) is int and count * width > stored:
            raise FolderError(
                f"{folder}: config.json says {name} {count} and width {width}, but the files have {stored} weights in "
                "all: config and weights are of different models"
            )


def load_model(folder: Path, dtype: torch.dtype, attn: str | None = None, device: str = "cpu") -> LoadedModel:
    """Load a folder for judging: no remote code, no network, no pickle, weights as stored and then cast to ``dtype``.

    Args:
        attn: ``eager``, ``sdpa``, ``flash_attention_2``, or None for the model's own default.

    Raises:
        FolderError: the folder cannot be read or its config describes no model that can be built.
        MissingDeviceError: the attention backend or the device is not on this machine.
    """
    from transformers import AutoModelForCausalLM

    import mixformer  # noqa: F401  registers the Auto classes

    if is_native(folder):
        with silenced():
            return LoadedModel(folder, load_native(folder, dtype, attn), ())
    config = read_config(folder)
    own_flash = attn == FLASH and config.get("model_type") == MIXFORMER
    if own_flash:
        check_flash(folder, device)
    check_config(folder)
    register_reference(config.get("model_type"))
    options: dict[str, Any] = {} if attn is None or own_flash else {"attn_implementation": attn}
    with building(folder, attn), silenced():
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
    if own_flash:
        model.config._attn_implementation = FLASH
    return LoadedModel(folder, model, (*loading_problems(info), *wrong_kinds(folder, model)))


def check_flash(folder: Path, device: str) -> None:
    """Check that flash attention can run a MixFormer. The model calls the kernels itself, so that transformers' own
    check does not matter.

    Raises:
        MissingDeviceError: it cannot run on this machine.
    """
    from mixformer.attention import flash_obstacle

    if obstacle := flash_obstacle(device):
        raise MissingDeviceError(f"{folder}: flash attention cannot run on this machine: {obstacle}")


@contextmanager
def building(folder: Path, attn: str | None) -> Iterator[None]:
    """Turns errors while a model is built into errors of this package; see :func:`load_model`."""
    from safetensors import SafetensorError

    try:
        yield
    except ImportError as missing:
        what = "the model" if attn is None else f"attention {attn!r}"
        raise MissingDeviceError(f"{folder}: {what} cannot run on this machine: {missing}") from missing
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as broken:
        if attn is not None and attn.startswith("flash"):
            raise MissingDeviceError(f"{folder}: attention {attn!r} cannot run on this machine: {broken}") from broken
        raise FolderError(f"{folder}: the model cannot be built: {type(broken).__name__}: {broken}") from broken


def loading_problems(info: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each mismatch of files and architecture, from transformers' ``loading_info``."""
    for key in sorted(info["missing_keys"]):
        yield f"{key}: the model needs it, the files do not have it"
    for key in sorted(info["unexpected_keys"]):
        yield f"{key}: the files have it, the model does not know it"
    for key, found, expected in sorted(info["mismatched_keys"]):
        yield f"{key}: the files have shape {tuple(found)}, the model expects {tuple(expected)}"
    yield from info["error_msgs"]


def wrong_kinds(folder: Path, model: Any) -> Iterator[str]:
    """A sentence for each weight that is not stored as floating-point numbers; a cast would invent values."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for path in weight_files(folder):
        for key, entry in tensor_headers(path).items():
            if key in weights and not str(entry["dtype"]).startswith(("F", "BF")):
                yield f"{key}: the files hold {entry['dtype']}, expected floating-point numbers"


@contextmanager
def silenced() -> Iterator[None]:
    """Silences transformers' progress bars, notices and warnings."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()

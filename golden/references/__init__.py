"""Native files, which transformers does not load, run by code that follows the published code of each form.

Each reads its file by itself (torch.load without code, numpy, or transformers' own GGUF support). It shares neither
names nor layouts with converters, so that a verdict can find a wrong reader. It behaves like a model of transformers as
far as golden needs: logits, a cache, hidden states, eager attention.

| form | read by | run as |
| --- | --- | --- |
| Meta's params.json and *.pth | torch.load | `interleaved_llama`, rotary embeddings as complex numbers |
| llama2.c's .bin | numpy, in the order of run.c's memory map | `interleaved_llama` |
| nanoGPT's ckpt.pt | torch.load | `nanogpt` |
| NVIDIA's ckpt.pt of nGPT | torch.load, stand-ins for what is no tensor | `ngpt_nvidia` |
| a bare state dict | torch.load | `ngpt_tutorial`, `ngpt_nvidia`, else transformers by the config.json beside it |
| torchtune's and litgpt's | torch.load | transformers, names and rows put back |
| GGUF | transformers' `gguf_file` | transformers |
| a folder of torch.distributed.checkpoint | torch's reader | MixFormer or transformers, by its config.json |
| these but GGUF, written as safetensors | safetensors | the same code |
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golden.errors import FolderError
from golden.references.form_names import OWN_CLASSES, form_of

if TYPE_CHECKING:
    import torch

    from converters.checkpoint.checkpoint import Checkpoint

EAGER = "eager"
# model types of forms that were written as safetensors
WRITTEN_OUT = (
    "llama2c",
    "llama-litgpt",
    "llama-meta",
    "llama-torchtune",
    "mistral-torchtune",
    "qwen2-torchtune",
    "nanogpt",
    "ngpt-nvidia",
    "ngpt-olmo",
    "ngpt-tutorial",
    "ngpt-modded-nanogpt",
    "ngpt-evintunador",
    "ngpt-lucidrains",
)
TUNED = ("llama", "mistral", "qwen2")  # model types that may have torchtune's names


def is_native(path: Path) -> bool:
    """Whether a reference is of one of these forms."""
    return _found(path) is not None


def _found(path: Path) -> tuple[str, Path] | None:
    """The form and the file, or the folder, that holds the model."""
    from converters.checkpoint.file_forms import find_form
    from converters.errors import ConversionError

    if _is_dialect_folder(path):
        return "folder", path
    try:
        found = find_form(path)
    except ConversionError as error:
        raise FolderError(str(error)) from error
    return (found.form.name, found.path) if found else None


def _is_dialect_folder(path: Path) -> bool:
    """Whether a folder's config.json names one of these forms."""
    from converters.checkpoint.json_files import read_json
    from converters.errors import ConversionError

    try:
        said = form_of(read_json(path / "config.json"))
    except ConversionError:
        return False
    if not any(path.glob("*.safetensors")):
        return False
    return said in (*WRITTEN_OUT, *OWN_CLASSES.values()) or (said in TUNED and _has_torchtunes_names(path))


def _has_torchtunes_names(path: Path) -> bool:
    """Whether a folder with a config.json of transformers holds tensors under torchtune's names."""
    return str(_checkpoint(path).config["model_type"]).endswith("-torchtune")


def native_config(path: Path) -> dict[str, Any]:
    """The config fields that golden needs: at least `model_type` and `vocab_size`."""
    checkpoint = _checkpoint(path)
    tables = [t.shape[0] for key, t in checkpoint.tensors.items() if key.endswith(EMBEDDINGS) and t.shape]
    said = checkpoint.config.get("vocab_size")
    rows = max(tables, default=said if type(said) is int else 0)
    return {**checkpoint.config, "vocab_size": rows}


def native_elements(path: Path) -> int:
    """Number of weights."""
    return sum(tensor.nbytes // tensor.width for tensor in _checkpoint(path).tensors.values())


def native_files(path: Path) -> tuple[Path, ...]:
    """The files that hold its weights."""
    return _checkpoint(path).stored


def _checkpoint(path: Path) -> Checkpoint:
    """Config and headers; no weights are loaded."""
    from converters.checkpoint.opening import open_checkpoint
    from converters.errors import ConversionError

    try:
        return open_checkpoint(path, dequantize=True)
    except ConversionError as error:
        raise FolderError("; ".join([str(error), *getattr(error, "__notes__", [])])) from error


EMBEDDINGS = (
    "tok_embeddings.weight",
    "token_embd.weight",
    "wte.weight",
    "embedding_layer.weight",
    "embed_tokens.weight",
    "embeddings.weight",
    "token_embedder.weight",
    "token_embed.linear.weight",
    "token_embed.linear.parametrizations.weight.original",
)


def load_native(path: Path, dtype: torch.dtype, attn: str | None) -> Any:
    """The model of a native file in eval mode, its weights cast to `dtype`.

    Raises:
        FolderError: the file cannot be read.
        Exception: it can be read, and no model can be built of it; see `golden.models.failures`.
    """
    _checkpoint(path)  # the readers below have no limits of their own
    found = _found(path)
    assert found is not None
    return _loader(found[0])(found[1], dtype, attn)


def _loader(kind: str) -> Callable[[Path, torch.dtype, str | None], Any]:
    from golden.references import (
        by_transformers,
        dcp_folders,
        dialect_folders,
        gguf_reference,
        llama_files,
        nanogpt,
        ngpt_evintunador,
        ngpt_modded_nanogpt,
        ngpt_nvidia,
        state_dicts,
    )

    return {
        "dcp": dcp_folders.load,
        "folder": dialect_folders.load,
        "evintunador": ngpt_evintunador.load,
        "gguf": gguf_reference.load,
        "litgpt": by_transformers.load_litgpt,
        "llama2c": llama_files.load_llama2c,
        "meta": llama_files.load_meta,
        "modded-nanogpt": ngpt_modded_nanogpt.load,
        "nanogpt": nanogpt.load,
        "nvidia": ngpt_nvidia.load,
        "state_dict": state_dicts.load,
        "torchtune": state_dicts.load,
    }[kind]

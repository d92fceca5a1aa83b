"""Native files, which transformers does not load, run by code that follows the published code of each form.

Each reads its file by itself (torch.load without code, numpy, or transformers' own GGUF support). It shares neither
names nor layouts with converters, so that a verdict can find a wrong reader. It behaves like a model of transformers as
far as golden needs: logits, a cache, hidden states, eager attention.

| form | read by | run as |
| --- | --- | --- |
| Meta's params.json and *.pth | torch.load | `interleaved_llama`, rotary embeddings as complex numbers |
| llama2.c's .bin | numpy, in the order of run.c's memory map | `interleaved_llama` |
| nanoGPT's ckpt.pt | torch.load | `nanogpt` |
| GGUF | transformers' `gguf_file` | transformers |
| these but GGUF, written as safetensors | safetensors | the same code |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golden.errors import FolderError

if TYPE_CHECKING:
    import torch

EAGER = "eager"
WRITTEN_OUT = ("llama2c", "llama-meta", "nanogpt")  # model types of forms that were written as safetensors


def is_native(path: Path) -> bool:
    """Whether a reference is of one of these forms."""
    return _kind(path) is not None


def _kind(path: Path) -> str | None:
    from converters.checkpoint.file_forms import find_form
    from converters.errors import ConversionError

    if _is_dialect_folder(path):
        return "folder"
    try:
        found = find_form(path)
    except ConversionError as error:
        raise FolderError(str(error)) from error
    return found.form.name if found else None


def _is_dialect_folder(path: Path) -> bool:
    """Whether a folder's config.json names one of these forms."""
    from converters.checkpoint.json_files import read_json
    from converters.errors import ConversionError

    try:
        return read_json(path / "config.json").get("model_type") in WRITTEN_OUT
    except ConversionError:
        return False


def native_config(path: Path) -> dict[str, Any]:
    """The config fields that golden needs: at least `model_type` and `vocab_size`."""
    return dict(_config(path))


def native_elements(path: Path) -> int:
    """Number of weights."""
    return int(_config(path)["elements"])


def _config(path: Path) -> Mapping[str, Any]:
    """The config, from the file alone; no weights are loaded."""
    from converters.checkpoint.opening import open_checkpoint
    from converters.errors import ConversionError

    try:
        checkpoint = open_checkpoint(path, dequantize=True)
    except ConversionError as error:
        raise FolderError("; ".join([str(error), *getattr(error, "__notes__", [])])) from error
    tables = [t.shape[0] for key, t in checkpoint.tensors.items() if key.endswith(EMBEDDINGS) and t.shape]
    elements = sum(tensor.nbytes // tensor.width for tensor in checkpoint.tensors.values())
    return {**checkpoint.config, "vocab_size": max(tables, default=0), "elements": elements}


EMBEDDINGS = ("tok_embeddings.weight", "token_embd.weight", "wte.weight")


def load_native(path: Path, dtype: torch.dtype, attn: str | None) -> Any:
    """The model of a native file in eval mode, its weights cast to `dtype`.

    Raises:
        FolderError: the file cannot be read.
        Exception: it can be read, and no model can be built of it; see `golden.models.failures`.
    """
    _config(path)  # the readers below have no limits of their own
    return _loader(str(_kind(path)))(path, dtype, attn)


def _loader(kind: str) -> Callable[[Path, torch.dtype, str | None], Any]:
    from golden.references import dialect_folders, gguf_reference, llama_files, nanogpt

    return {
        "folder": dialect_folders.load,
        "gguf": gguf_reference.load,
        "llama2c": llama_files.load_llama2c,
        "meta": llama_files.load_meta,
        "nanogpt": nanogpt.load,
    }[kind]

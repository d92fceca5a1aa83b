"""GGUF files through transformers' own support for them, dequantised.

transformers 5.23 overlooks scaled rotary embeddings and biases in them, and the rows of a file without vocabulary. Those
are read here by the `gguf` package: the factors of `rope_freqs.weight` divide the frequencies, as in llama.cpp.
"""

from __future__ import annotations

import struct
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from golden.errors import FolderError


def load(path: Path, dtype: torch.dtype, attn: str | None) -> Any:
    """The model of a GGUF file, its floats as the shortest numbers that they can be.

    Metadata hold 1e-5 as a float32, which is 9.99999974738e-06. Candidate and reference must read the same number.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig

    file = path if path.is_file() else next(iter(sorted(path.glob("*.gguf"))), None)
    if file is None:
        raise FolderError(f"{path}: there is no GGUF file in it")
    reader = _reader(file)
    config = _completed(_spelled(AutoConfig.from_pretrained(file.parent, gguf_file=file.name)), reader)
    options: dict[str, Any] = {} if attn is None else {"attn_implementation": attn}
    with redirect_stderr(StringIO()):  # it draws a progress bar whatever its options say
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            config=config,
            quantization_config=GgufConfig(dequantize=True),
            dtype=dtype,
            **options,
        )
    return _turning(model, reader).eval()


def _reader(file: Path) -> Any:
    from gguf import GGUFReader

    return GGUFReader(file)


def _completed(config: Any, reader: Any) -> Any:
    """The config with what transformers does not read."""
    said = {field.name: field.contents() for field in reader.fields.values() if field.name.startswith("llama.rope.")}
    shapes = {tensor.name: tuple(int(n) for n in tensor.shape) for tensor in reader.tensors}
    config.vocab_size = shapes["token_embd.weight"][1]
    if "blk.0.attn_q.bias" in shapes:
        config.attention_bias = True
    factor = said.get("llama.rope.scaling.factor", said.get("llama.rope.scale_linear"))
    kind = said.get("llama.rope.scaling.type", "none" if factor is None else "linear")
    if kind != "none":
        scaled = {"rope_type": kind, "factor": shortest(factor)}
        if kind == "yarn":
            scaled["original_max_position_embeddings"] = said["llama.rope.scaling.original_context_length"]
        config.rope_parameters = {**config.rope_parameters, **scaled}
    return config


def _turning(model: Any, reader: Any) -> Any:
    """The model with its frequencies divided by the factors in the file, if there are any."""
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":
            rotary = model.model.rotary_emb
            rotary.inv_freq = rotary.inv_freq / torch.tensor(tensor.data, dtype=rotary.inv_freq.dtype)
            rotary.original_inv_freq = rotary.inv_freq
    return model


def _spelled(config: Any) -> Any:
    """The config with short floats, and with two sizes that transformers 5.23 reads under names GPT-2 does not have."""
    for name, value in list(vars(config).items()):
        if isinstance(value, float):
            setattr(config, name, shortest(value))
    if config.model_type == "gpt2":
        config.n_positions, config.n_inner = config.n_ctx, config.feed_forward_length
    return config


def shortest(value: float) -> float:
    """The number of the fewest digits that rounds to the same float32."""
    single = struct.pack("<f", value)
    return next(n for n in (float(f"{value:.{d}g}") for d in range(1, 18)) if struct.pack("<f", n) == single)

"""GGUF files through transformers' own support for them, dequantised.

transformers 5.23 overlooks scaled rotary embeddings and biases in them, and the rows of a file without vocabulary.
Those are read here by the `gguf` package. `rope_freqs.weight`, by which llama.cpp divides the frequencies, is held
against the rotary embedding that transformers builds for its largest number.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from golden.errors import FolderError

LLAMA3 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def load(path: Path, dtype: torch.dtype, attn: str | None) -> Any:
    """The model of a GGUF file, its floats as the shortest numbers that they can be.

    Metadata hold 1e-5 as a float32, which is 9.99999974738e-06. Candidate and reference must read the same number.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

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
            dtype=dtype,
            **_dequantised(),
            **options,
        )
    _check_factors(model, reader, file)
    return model.eval()


def _dequantised() -> dict[str, Any]:
    """What asks transformers for plain weights. Before 5.18 it makes no others."""
    import transformers

    found = getattr(transformers, "GgufConfig", None)
    return {} if found is None else {"quantization_config": found(dequantize=True)}


def _reader(file: Path) -> Any:
    from gguf import GGUFReader

    return GGUFReader(file)


def _completed(config: Any, reader: Any) -> Any:
    """The config with what transformers does not read."""
    said = {field.name: field.contents() for field in reader.fields.values() if field.name.startswith("llama.rope.")}
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config.vocab_size = int(tensors["token_embd.weight"].shape[1])
    if "blk.0.attn_q.bias" in tensors:
        config.attention_bias = True
    scaled = _scaling(said)
    if "rope_freqs.weight" in tensors:
        scaled = {**LLAMA3, "factor": shortest(float(tensors["rope_freqs.weight"].data.max()))}
    if scaled:
        config.rope_parameters = {**config.rope_parameters, **scaled}
    return config


def _scaling(said: Mapping[str, Any]) -> dict[str, Any]:
    """The scaling that metadata name, empty where they name none."""
    factor = said.get("llama.rope.scaling.factor", said.get("llama.rope.scale_linear"))
    kind = said.get("llama.rope.scaling.type", "none" if factor is None else "linear")
    if kind == "none":
        return {}
    original = said.get("llama.rope.scaling.original_context_length")
    more = {} if original is None or kind != "yarn" else {"original_max_position_embeddings": original}
    return {"rope_type": kind, "factor": shortest(factor), **more}


def _check_factors(model: Any, reader: Any, path: Path) -> None:
    """Raises FolderError where the divisors in the file are not those of the rotary embedding that was built."""
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":
            found = model.model.rotary_emb.inv_freq.double()
            theta = model.config.rope_parameters["rope_theta"]
            plain = theta ** -(torch.arange(0, 2 * len(found), 2).double() / (2 * len(found)))
            wanted = plain / torch.tensor(tensor.data).double()
            if wanted.shape != found.shape or not torch.allclose(found, wanted, rtol=1e-5, atol=0):
                raise FolderError(f"{path}: rope_freqs.weight is not that of LLaMA 3.1 with theta {theta}")


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

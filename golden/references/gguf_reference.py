"""GGUF files through transformers' own support for them, dequantised."""

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
    config = _spelled(AutoConfig.from_pretrained(file.parent, gguf_file=file.name))
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
    return model.eval()


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

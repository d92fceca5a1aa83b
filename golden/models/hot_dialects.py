"""Hot models of nGPT's dialects, which transformers does not have: folders with config.json and the dialect's own keys.

Learned scales are drawn by their effective values: 1 +- 0.3, and for the rates 0.4 +- 0.12 with either sign. Left at
their initial values they would hide that they were lost or exchanged.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from golden.references import (
    ngpt_evintunador,
    ngpt_joeli,
    ngpt_lucidrains,
    ngpt_modded_nanogpt,
    ngpt_nvidia,
    ngpt_olmo,
    ngpt_tutorial,
)
from golden.references.sphere import reciprocal

Shapes = Mapping[str, tuple[int, ...]]
REACH, RATE = 0.3, 0.4
QUERIES_OR_KEYS = ("query", "key", "w_q", "w_k", "c_q", "c_k", "Wq", "Wk", "to_q", "to_k")


class DialectConfig(ABC):
    """A config.json of a dialect: its fields are the attributes."""

    model_type: ClassVar[str]

    def __init__(self, **fields: Any) -> None:
        vars(self).update(model_type=self.model_type, **fields)

    def to_json_string(self) -> str:
        """The content of config.json."""
        return json.dumps(vars(self), indent=2)

    @abstractmethod
    def shapes(self) -> Shapes:
        """Keys and shapes of the dialect's tensors."""

    @abstractmethod
    def unit(self, name: str) -> float | None:
        """What a scale of that name, the last part of its key, is divided by before it is used; None for no scale."""

    def rates(self) -> tuple[str, ...]:
        """Last parts of the keys of learned rates, of which the absolute values are used."""
        return ()

    def stored_in(self, key: str) -> torch.dtype:
        """The dtype of a tensor in the dialect's files."""
        return torch.float32

    def computed(self) -> Mapping[str, Tensor]:
        """Tensors that a formula gives."""
        return {}

    def copies(self) -> Mapping[str, str]:
        """Keys of copies -> keys of what they are copies of."""
        return {}


class TutorialConfig(DialectConfig):
    """nGPT of the tutorial."""

    model_type = "ngpt-tutorial"

    def shapes(self) -> Shapes:
        own = vars(self)
        return ngpt_tutorial.shapes(own["n_embd"], own["vocab_size"], own["n_layer"], own["learned_rates"])

    def unit(self, name: str) -> float | None:
        return 1.0 if name in ("S_qk", "S_uv", *self.rates()) else None

    def rates(self) -> tuple[str, ...]:
        return "lr_atten", "lr_mlp"


class NvidiaConfig(DialectConfig):
    """nGPT of NVIDIA, with use_nGPT 1 or 0."""

    model_type = "ngpt-nvidia"

    def shapes(self) -> Shapes:
        return ngpt_nvidia.shapes(vars(self))

    def unit(self, name: str) -> float | None:
        b = float(vars(self)["base_scale"])
        return {"sqk": b, "sz": b, "suv": 1.0, "attn_alpha": b / 0.05, "mlp_alpha": b / 0.05}.get(name)

    def rates(self) -> tuple[str, ...]:
        return "attn_alpha", "mlp_alpha"

    def stored_in(self, key: str) -> torch.dtype:
        return torch.bfloat16 if set(key.split(".")) & set(ngpt_nvidia.MATRICES) else torch.float32


class JoeLiConfig(DialectConfig):
    """nGPT in the style of Hugging Face."""

    model_type = "ngpt"

    def __init__(self, **fields: Any) -> None:
        super().__init__(architectures=[ngpt_joeli.CLASS], **fields)

    def shapes(self) -> Shapes:
        copy = {"lm_head.weight": (vars(self)["vocab_size"], vars(self)["n_embd"])}
        return ngpt_joeli.shapes(vars(self)) | (copy if vars(self)["tie_word_embeddings"] else {})

    def unit(self, name: str) -> float | None:
        b = float(vars(self)["base_scale"])
        return {"sqk": 4.0 * b, "sz": b, "su": 1.0, "sv": 1.0, "attn_alpha": b / 0.05, "mlp_alpha": b / 0.05}.get(name)

    def rates(self) -> tuple[str, ...]:
        return "attn_alpha", "mlp_alpha"

    def copies(self) -> Mapping[str, str]:
        return {"lm_head.weight": "transformer.wte.weight"}


class OlmoConfig(DialectConfig):
    """nGPT of OLMo-core; its fields are those of `ngpt_like`, and the file says them as its training does."""

    model_type = "ngpt-olmo"

    def to_json_string(self) -> str:
        return json.dumps({"run_name": "hot", "model": ngpt_olmo.model_config(vars(self))}, indent=2)

    def shapes(self) -> Shapes:
        return ngpt_olmo.shapes(vars(self))

    def unit(self, name: str) -> float | None:
        b = float(vars(self)["d_model"]) ** -0.5
        units = {"sq": b, "sk": b, "sz": b, "sw1": 1.0, "sw3": 1.0}
        return units.get(name, b / 0.05 if name in self.rates() else None)

    def rates(self) -> tuple[str, ...]:
        return "attn_alpha", "mlp_alpha"


class ModdedConfig(DialectConfig):
    """nGPT of modded-nanogpt."""

    model_type = "ngpt-modded-nanogpt"

    def shapes(self) -> Shapes:
        return ngpt_modded_nanogpt.shapes(vars(self))

    def unit(self, name: str) -> float | None:
        own = vars(self)
        b = float(own["n_embd"]) ** -0.5
        units = {"qk_scaler": b, "logits_scaler": b, "u_scaler": 1.0, "v_scaler": 1.0}
        return units.get(name, b * own["n_layer"] if name in self.rates() else None)

    def rates(self) -> tuple[str, ...]:
        return "attn_scaler", "mlp_scaler"


class EvintunadorConfig(DialectConfig):
    """nGPT of evintunador, with the frequencies that its file holds."""

    model_type = "ngpt-evintunador"

    def shapes(self) -> Shapes:
        return ngpt_evintunador.shapes(vars(self))

    def unit(self, name: str) -> float | None:
        b = float(vars(self)["dim"]) ** -0.5
        units = {"s_qk": b, "s_z": b, "s_u": 1.0, "s_v": 1.0}
        return units.get(name, b / 0.05 if name in self.rates() else None)

    def rates(self) -> tuple[str, ...]:
        return "alpha_A", "alpha_M"

    def computed(self) -> Mapping[str, Tensor]:
        own = vars(self)
        return {"precompute_freqs.inv_freq": reciprocal(own["dim"] // own["num_heads"], own["theta"])}


class LucidrainsConfig(DialectConfig):
    """nGPT of lucidrains, with the frequencies that its file holds."""

    model_type = "ngpt-lucidrains"

    def shapes(self) -> Shapes:
        return ngpt_lucidrains.shapes(vars(self))

    def unit(self, name: str) -> float | None:
        own = vars(self)
        d = float(own["n_embd"])
        units = {"qk_scale": 1.0 / d, "logit_scale": d**-0.5, "hidden_scale": 1.0, "gate_scale": 1.0}
        return units.get(name, d**-0.5 * own["n_layer"] if name in self.rates() else None)

    def rates(self) -> tuple[str, ...]:
        return ("branch_scale",)

    def computed(self) -> Mapping[str, Tensor]:
        return {ngpt_lucidrains.FREQUENCIES: reciprocal(vars(self)["head_dim"])}


def write_dialect(config: DialectConfig, folder: Path, seed: int) -> Path:
    """Write a hot model of a dialect into ``folder``, drawn from ``seed``, and return it."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {key: _values(config, key, shape, generator) for key, shape in config.shapes().items()}
    drawn |= {key: drawn[of].clone() for key, of in config.copies().items() if key in drawn}
    weights = {key: values.to(config.stored_in(key)) for key, values in drawn.items()} | dict(config.computed())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config.to_json_string(), encoding="utf-8")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _values(config: DialectConfig, key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    name = key.removesuffix(".scale").removesuffix(".s").rpartition(".")[2]
    unit = config.unit(name)
    if unit is not None:
        uniform = 2.0 * torch.rand(shape, generator=generator) - 1.0
        effective = 1.0 + REACH * uniform
        if name in config.rates():
            effective = RATE * effective * torch.where(torch.rand(shape, generator=generator) < 0.5, -1.0, 1.0)
        return unit * effective
    noise = torch.randn(shape, generator=generator)
    if name == "bias":
        return 0.2 * noise
    if len(shape) == 1:
        return 1.0 + 0.2 * noise
    gain = 1.5 if any(part in key for part in QUERIES_OR_KEYS) else 1.0
    return noise * (gain / math.sqrt(shape[-1]))

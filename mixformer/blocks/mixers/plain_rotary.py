"""Rotary embeddings of the plain kind that differ in how frequencies are made, or in how positions turn.

The order of operations changes float32 frequencies by up to 5e-7, and logits by more than a conversion may: so the
configuration says which order a checkpoint was trained with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixformer.blocks.mixers.rope import Frequencies
from mixformer.blocks.mixers.rotary import RotaryEmbedding
from mixformer.errors import ConfigurationError, invalid
from mixformer.forward_context import ForwardContext
from mixformer.precision import accumulation_dtype

FORMULAS = ("reciprocal", "pow", "exp")
STYLES = ("half", "ngpt_nvidia")
TABLES = ("float32", "bfloat16")


class FormulaFrequencies(Frequencies):
    """base ** (-2i / rotary_dim) in float32, by the formula of a dialect of nGPT.

    Args:
        plain: Frequencies of the default kind.
        formula: "pow" for one power of the base, "exp" for the exponential of a multiple of its logarithm.
    """

    def __init__(self, plain: Frequencies, formula: str) -> None:
        super().__init__(plain.rotary_dim, plain.base, None, plain.max_positions, "")
        self.formula = formula
        self.signature = (*self.signature, formula)

    def compute(self, device: torch.device, length: Tensor | int | None = None) -> tuple[Tensor, float]:
        """Inverse frequencies (rotary_dim / 2,) in float32, and a factor of 1."""
        if self.formula == "pow":
            steps = torch.arange(self.rotary_dim // 2, dtype=torch.float32, device=device)
            return torch.pow(self.base, -2.0 * steps / self.rotary_dim), 1.0
        steps = torch.arange(0, self.rotary_dim, 2, dtype=torch.float32, device=device)
        return torch.exp(steps * (-math.log(self.base) / self.rotary_dim)), 1.0


class OddTurn(RotaryEmbedding):
    """What NVIDIA's nGPT does in the place of a rotation (github.com/NVIDIA/ngpt, model.py, up to 2024-11).

    For position t and frequencies w_j: E = [sin w_0 t, cos w_0 t, sin w_1 t, ...], S and C are its first and second
    half, and out[2i] = -x[2i + 1] * C[i], out[2i + 1] = x[2i] * S[i]. It changes lengths, and depends on positions
    themselves instead of on their distance. Checkpoints were trained with it.
    """

    def forward(self, x: Tensor, context: ForwardContext) -> Tensor:
        """x (B, S, heads, head_dim) turned, in the same dtype; the context gives the positions, (1 or B, S)."""
        key = ("odd turn", *self.frequencies.signature, x.dtype, x.device)
        first, second = context.once(key, lambda: self.tables(context.position_ids, x.dtype))
        return torch.stack((-x[..., 1::2] * second, x[..., 0::2] * first), dim=-1).flatten(-2)

    def tables(self, position_ids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """S and C, (1 or B, S, 1, head_dim / 2) in `dtype`."""
        acc = accumulation_dtype(dtype)
        angles = position_ids[..., None, None].to(acc) * self.inv_freq.to(acc)  # (1 or B, S, 1, head_dim / 2)
        table = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).to(dtype)  # (1 or B, S, 1, head_dim)
        half = table.shape[-1] // 2
        return table[..., :half], table[..., half:]


class BFloat16Tables(RotaryEmbedding):
    """A rotation whose cosines and sines are rounded to bfloat16, whatever the dtype of the model.

    github.com/alxndrTL/modded-nanogpt makes its tables so, from angles in float32. Here the cosine of a float32 angle
    is taken in float64 before it is rounded: float32 cosines differ among kernels in their last bit, and one that lies
    between two numbers of bfloat16 would be rounded to either.
    """

    kind = "rotary in bfloat16"

    def tables(self, position_ids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines, (1 or B, S, 1, rotary_dim / 2) in `dtype`."""
        angles = position_ids[..., None, None].float() * self.inv_freq.float()  # (1 or B, S, 1, rotary_dim / 2)
        wide = angles if angles.device.type == "mps" else angles.double()  # mps has no float64
        return wide.cos().to(torch.bfloat16).to(dtype), wide.sin().to(torch.bfloat16).to(dtype)


def rotary_embedding(
    frequencies: Frequencies | None, style: str, formula: str, table: str, head_dim: int, path: str
) -> RotaryEmbedding | None:
    """The rotary embedding that the keywords of a mixer ask for; None if nothing turns.

    Args:
        frequencies: What `rotary_frequencies` gave.
        style: A name in `STYLES`.
        formula: A name in `FORMULAS`.
        table: A name in `TABLES`.
        head_dim: Width of a head.
        path: Of the mixer, for errors.

    Raises:
        ConfigurationError: for an unknown name, or a combination that no formula is known for.
    """
    if style not in STYLES:
        raise invalid(f"{path}.rotary_style", style, f"one of {list(STYLES)}")
    if formula not in FORMULAS:
        raise invalid(f"{path}.rotary_formula", formula, f"one of {list(FORMULAS)}")
    if table not in TABLES:
        raise invalid(f"{path}.rotary_table", table, f"one of {list(TABLES)}")
    if style == "half" and formula == "reciprocal" and table == "float32":
        return RotaryEmbedding(frequencies) if frequencies is not None else None
    if frequencies is None or frequencies.kind != "default":
        raise ConfigurationError(
            f"`{path}` has rotary_style {style!r}, rotary_formula {formula!r} and rotary_table {table!r}, which go "
            f"with rotary of the default kind: leave out rope_parameters, rope_scaling and rotary_dim 0, or the three."
        )
    if style == "ngpt_nvidia" and table != "float32":
        raise invalid(f"{path}.rotary_table", table, f"'float32' for style {style!r}")
    if style == "ngpt_nvidia" and frequencies.rotary_dim != head_dim:
        raise invalid(f"{path}.rotary_dim", frequencies.rotary_dim, f"head_dim = {head_dim} for style {style!r}")
    chosen = frequencies if formula == "reciprocal" else FormulaFrequencies(frequencies, formula)
    if style == "ngpt_nvidia":
        return OddTurn(chosen)
    return RotaryEmbedding(chosen) if table == "float32" else BFloat16Tables(chosen)

"""The experts of a mixture: matrices of all of them in one, and two ways to compute those that tokens chose."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.errors import invalid
from mixformer.precision import accumulation_dtype

IMPLEMENTATIONS = ("auto", "eager", "grouped")
GROUPED_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
ALIGNED = 8  # elements of bfloat16 in 16 bytes, by which the grouped kernel reads rows


class ExpertMatrix(nn.Module):
    """One matrix for each expert, as one: `weight` (n_experts * rows, columns)."""

    def __init__(self, n_experts: int, rows: int, columns: int, std: float) -> None:
        super().__init__()
        self.n_experts, self.std = n_experts, std
        self.weight = nn.Parameter(torch.empty(n_experts * rows, columns))
        nn.init.normal_(self.weight, std=std)

    def each(self) -> Tensor:
        """(n_experts, rows, columns), a view."""
        return self.weight.unflatten(0, (self.n_experts, -1))


class Experts(nn.Module):
    """Parameters: `fc1.weight` (n_experts * 2 * n_inner, n_embd), of each expert up, then gate; `fc2.weight`
    (n_experts * n_embd, n_inner).

    Args:
        config: The model's configuration.
        n_experts, n_inner: Their number, and the width of each.
        impl: A name in `IMPLEMENTATIONS`.
        path: Of the MLP, for errors.

    Raises:
        ConfigurationError: for an unknown implementation.
    """

    def __init__(self, config: PreTrainedConfig, n_experts: int, n_inner: int, impl: str, path: str) -> None:
        super().__init__()
        if impl not in IMPLEMENTATIONS:
            raise invalid(f"{path}.experts_impl", impl, f"one of {list(IMPLEMENTATIONS)}")
        if impl == "grouped" and not hasattr(F, "grouped_mm"):
            raise invalid(
                f"{path}.experts_impl", impl, f"auto or eager, since torch {torch.__version__} has no grouped_mm"
            )
        self.impl = impl
        self.fc1 = ExpertMatrix(n_experts, 2 * n_inner, config.n_embd, config.initializer_range)
        self.fc2 = ExpertMatrix(n_experts, config.n_embd, n_inner, config.initializer_range)

    def forward(self, x: Tensor, weights: Tensor, chosen: Tensor, act: nn.Module) -> Tensor:
        """The weighted sum of the experts that each token chose.

        Args:
            x: (T, n_embd).
            weights, chosen: (T, n_active), of each token.
            act: The activation of the gate.

        Returns:
            (T, n_embd) in the dtype of x; sums are in float32 at least.
        """
        compute = self._grouped if self._uses_groups(x) else self._eager
        return compute(x, weights, chosen, act).to(x.dtype)

    def _uses_groups(self, x: Tensor) -> bool:
        """Whether all experts are one product: where it is asked for, or where its kernel is fast."""
        if self.impl != "auto":
            return self.impl == "grouped" and x.dtype in GROUPED_DTYPES
        aligned = all(size % ALIGNED == 0 for size in self.fc2.weight.shape[1:] + self.fc1.weight.shape[1:])
        return hasattr(F, "grouped_mm") and x.is_cuda and x.dtype == torch.bfloat16 and aligned

    def _eager(self, x: Tensor, weights: Tensor, chosen: Tensor, act: nn.Module) -> Tensor:
        """One expert after the other: the definition that the product is held to."""
        out = torch.zeros(x.shape, dtype=accumulation_dtype(x.dtype), device=x.device)
        fc1, fc2 = self.fc1.each(), self.fc2.each()
        for expert in torch.unique(chosen).tolist():
            token, choice = torch.where(chosen == expert)
            up, gate = F.linear(x[token], fc1[expert]).chunk(2, dim=-1)  # (tokens of the expert, n_inner) each
            found = F.linear(up * act(gate), fc2[expert])
            out = out.index_add(0, token, found.to(out.dtype) * weights[token, choice, None].to(out.dtype))
        return out

    def _grouped(self, x: Tensor, weights: Tensor, chosen: Tensor, act: nn.Module) -> Tensor:
        """All tokens sorted by expert, and one grouped product for each matrix."""
        order = chosen.flatten().argsort(stable=True)  # (T * n_active,)
        token = order // chosen.shape[1]
        ends = torch.bincount(chosen.flatten(), minlength=self.fc1.n_experts).cumsum(0).to(torch.int32)
        up, gate = F.grouped_mm(x[token], self.fc1.each().transpose(1, 2), offs=ends).chunk(2, dim=-1)
        found = F.grouped_mm(up * act(gate), self.fc2.each().transpose(1, 2), offs=ends)
        out = torch.zeros(x.shape, dtype=accumulation_dtype(x.dtype), device=x.device)
        return out.index_add(0, token, found.to(out.dtype) * weights.flatten()[order, None].to(out.dtype))

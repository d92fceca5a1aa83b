"""A mixture of experts: gated units of which a router chooses a few for each token (Shazeer et al. 2017,
arXiv:1701.06538; in the form of Mixtral, arXiv:2401.04088)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.mlps.experts import Experts
from mixformer.blocks.mlps.glu import GLU
from mixformer.blocks.mlps.sizes import activation, inner_width, mlp_path
from mixformer.errors import invalid
from mixformer.precision import accumulation_dtype


class MoE(nn.Module):
    """sum over the chosen experts e of w_e * fc2_e(up_e * act(gate_e)), and a shared expert besides if there is one.

    w = softmax(router(x)), of which the `n_active` largest count; `norm_topk` divides them by their sum.

    Parameters: `router.weight` (n_experts, n_embd); `experts.fc1.weight` (n_experts * 2 * n_inner, n_embd), expert
    after expert, each up, then gate, as in `GLU`; `experts.fc2.weight` (n_experts * n_embd, n_inner). With a shared
    expert `shared.fc1.weight`, `shared.fc2.weight` as in `GLU`, and with its gate `shared_gate.weight` (1, n_embd).

    Args:
        config: The model's configuration.
        n_experts: Number of experts.
        n_active: How many of them a token uses.
        n_inner: Width of an expert, by default `config.n_inner`, else 4 * n_embd.
        act_fn: Name in ACT2FN, by default `config.activation_function`.
        norm_topk: Whether the weights of the chosen experts sum to 1.
        shared_inner: Width of an expert that every token uses, None for none.
        shared_gate: Whether that expert is multiplied by sigmoid(shared_gate(x)).
        router_loss: Whether the loss of the model has `load_balancing_loss` besides.
        router_loss_coef: What that is multiplied by.
        router_jitter: While training, the inputs are multiplied by uniform numbers from 1 - jitter to 1 + jitter.
        experts_impl: "eager" for a loop over experts, "grouped" for one product of all of them, "auto" for the product
            where the kernel is fast, else the loop.
        layer_idx: Index of the block, for errors.

    Raises:
        ConfigurationError: naming the keyword, what was found and what was expected.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        n_experts: int = 8,
        n_active: int = 2,
        n_inner: int | None = None,
        act_fn: str | None = None,
        *,
        norm_topk: bool = False,
        shared_inner: int | None = None,
        shared_gate: bool = False,
        router_loss: bool = False,
        router_loss_coef: float = 0.001,
        router_jitter: float = 0.0,
        experts_impl: str = "auto",
        layer_idx: int | None = None,
    ) -> None:
        super().__init__()
        path = mlp_path(config, layer_idx)
        if n_experts < 1 or not 1 <= n_active <= n_experts:
            raise invalid(f"{path}.n_active", n_active, f"a whole number from 1 to n_experts = {n_experts}")
        if shared_gate and shared_inner is None:
            raise invalid(f"{path}.shared_gate", True, "false where there is no shared_inner")
        if not 0 <= router_jitter < 1:
            raise invalid(f"{path}.router_jitter", router_jitter, "a number from 0, less than 1")
        self.n_experts, self.n_active, self.norm_topk = n_experts, n_active, norm_topk
        self.n_inner = inner_width(config, n_inner, path)
        self.router_loss, self.router_loss_coef, self.router_jitter = router_loss, router_loss_coef, router_jitter
        self.router_logits: Tensor | None = None
        self.act = activation(config, act_fn, path)
        self.router = nn.Linear(config.n_embd, n_experts, bias=False)
        self.experts = Experts(config, n_experts, self.n_inner, experts_impl, path)
        shared = shared_inner is not None
        self.shared = GLU(config, n_inner=shared_inner, act_fn=act_fn, layer_idx=layer_idx) if shared else None
        self.shared_gate = nn.Linear(config.n_embd, 1, bias=False) if shared_gate else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_embd) to (..., n_embd)."""
        if self.training and self.router_jitter:
            x = x * torch.empty_like(x).uniform_(1.0 - self.router_jitter, 1.0 + self.router_jitter)
        rows = x.reshape(-1, x.shape[-1])  # (T, n_embd)
        logits = self.router(rows)  # (T, n_experts)
        self.router_logits = logits if self.router_loss else None
        weights, chosen = self.route(logits)
        out = self.experts(rows, weights, chosen, self.act)
        if self.shared is not None:
            besides = self.shared(rows)
            out = out + (besides if self.shared_gate is None else F.sigmoid(self.shared_gate(rows)) * besides)
        return out.view_as(x)

    def __getstate__(self) -> dict[str, Any]:
        """Copies go without the router logits of the last pass, whose graph could not be copied."""
        return {**self.__dict__, "router_logits": None}

    def route(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and numbers of the experts of each token, (T, n_active), from router logits (T, n_experts)."""
        shares = F.softmax(logits, dim=-1, dtype=accumulation_dtype(logits.dtype))
        weights, chosen = torch.topk(shares, self.n_active, dim=-1)
        return (weights / weights.sum(-1, keepdim=True) if self.norm_topk else weights), chosen


def load_balancing_loss(logits: list[Tensor], n_active: int, mask: Tensor | None = None) -> Tensor:
    """n_experts * sum over experts of the share of tokens that choose it times its mean weight: Switch Transformer,
    arXiv:2101.03961, equations 4 to 6, for all choices of a token and over the tokens of all layers together.

    Args:
        logits: Of each layer, (T, n_experts).
        n_active: How many experts a token uses.
        mask: (T,), 1 for tokens that count and 0 for padding; None if all count.

    Returns:
        A scalar; n_active where all experts are used alike.
    """
    shares = F.softmax(torch.cat(logits), dim=-1, dtype=accumulation_dtype(logits[0].dtype))  # (L T, n_experts)
    chosen = F.one_hot(torch.topk(shares, n_active, dim=-1).indices, shares.shape[-1]).sum(1)  # (L T, n_experts)
    counted = torch.ones(shares.shape[0], device=shares.device) if mask is None else mask.repeat(len(logits))
    counted = counted.to(shares.dtype)[:, None] / counted.sum()
    return shares.shape[-1] * ((chosen * counted).sum(0) * (shares * counted).sum(0)).sum()


def router_loss(model: nn.Module, mask: Tensor | None) -> Tensor | None:
    """What the routers of a model add to its loss after a forward pass, None for nothing.

    Args:
        model: Its layers of one kind share one coefficient.
        mask: (B, S), 1 for tokens and 0 for padding, or None.
    """
    routers = [m for m in model.modules() if isinstance(m, MoE) and m.router_logits is not None]
    if not routers:
        return None
    logits = [router.router_logits.to(routers[0].router_logits.device) for router in routers]
    flat = None if mask is None else mask.reshape(-1)
    return routers[0].router_loss_coef * load_balancing_loss(logits, routers[0].n_active, flat)

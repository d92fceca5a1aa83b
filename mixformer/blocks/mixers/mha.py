"""Multi-head attention with rotary positions, grouped key-value heads, windows, alibi and a key-value cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache

from mixformer.architecture import block_at, block_path
from mixformer.blocks.mixers.alibi import checked_alibi
from mixformer.blocks.mixers.clip import checked_clip
from mixformer.blocks.mixers.first_values import with_first_values
from mixformer.blocks.mixers.head_sizes import head_sizes
from mixformer.blocks.mixers.inner_attention import InnerAttention
from mixformer.blocks.mixers.masked_linear import MaskedLinearAttention, has_no_softmax
from mixformer.blocks.mixers.plain_rotary import rotary_embedding
from mixformer.blocks.mixers.query_growth import query_growth_of
from mixformer.blocks.mixers.scaled_heads import head_rule, qk_scale_of, scaled_heads
from mixformer.blocks.mixers.sdk_yarn import rotary_frequencies
from mixformer.blocks.mixers.window import parse_window
from mixformer.blocks.norms.headwise import checked_over, normalised, norms_of_heads
from mixformer.blocks.unit_linear import COLUMNS, ROWS, linear_as_asked
from mixformer.errors import AttentionBackendError, invalid
from mixformer.forward_context import ForwardContext
from mixformer.inputs import appended, layer_context


class MHA(nn.Module):
    """Multi-head self-attention.

    Parameters: `Wqkv.weight` ((H + 2K) * h, n_embd), rows all of Q, then K, then V, each head-major; `out_proj.weight`
    (n_embd, H * h); their biases; `q_norm.*`, `k_norm.*` (h,) with qk_norm.

    Args:
        config: The model's configuration. All else is given by name.
        n_head, n_head_kv, head_dim: H, K and h; by default the configuration's, and n_embd // n_head.
        flash_attn: False forbids `flash_attention_2`; True allows it.
        causal: Whether a query is blind to later keys.
        use_alibi: Bias scores by -slope * distance.
        softmax_scale: Factor of the scores, by default 1 / sqrt(h).
        window_size: See `parse_window`.
        dropout: Of attention weights, while training.
        fused_dense, flash_rotary: Choices of kernel in the SDK; the function is the same without.
        bias, out_bias: Of `Wqkv` and of `out_proj`; out_bias is as bias by default.
        qk_norm: Normalise each head of q and k before rotary, with the norm of the block.
        rotary_dim: Dimensions of a head that rotate, 0 for none; by default the configuration's.
        rotary_base: Base of the rotary frequencies.
        rotary_scale_base, rope_scaling: YaRN as the SDK spells it.
        device: Where to make the weights.
        layer_idx: Index of the block.
        rope_parameters: Ours. Any other rotary kind, as transformers' `rope_parameters`.
        softcap: Ours. Bound scores as softcap * tanh(score / softcap), 0 for none.
        scale_attn_by_inverse_layer_idx: Ours. Divide scores by layer_idx + 1, as GPT-2 can.
        qk_norm_over: Ours. With qk_norm, see `norms_of_heads`: "head", "each_head" or "width".
        clip_qkv: Ours. Bound of the absolute values of q, k and v before anything else, None for none.
        query_growth: Ours. See `QueryGrowth`: {"beta": ..., "length": ...}.
        alibi_formula, alibi_bias_max: Ours. With use_alibi, see `Alibi`.
        rotary_style, rotary_formula, rotary_table: Ours. See `rotary_embedding`.
        qk_l2_norm, qk_l2_span, qk_scale, qk_scaled, qk_order: Ours. See `HeadRule`; qk_scale adds `qk_scale.weight`.
        value_residual: Ours. Later layers take the mean of their values and those of the first layer.
        unit_weights: Ours. The rows of `Wqkv` and the columns of `out_proj` have length 1 when they are used.
        attn_fn, masked_score: Ours. "softmax", or "masked_linear" with the score of later keys, see
            `MaskedLinearAttention`.

    Raises:
        ConfigurationError: naming the path, what was found and what was expected.
    """

    keep_in_fp32 = ("qk_scale",)

    def __init__(
        self,
        config: PreTrainedConfig,
        *,
        n_head: int | None = None,
        n_head_kv: int | None = None,
        head_dim: int | None = None,
        flash_attn: bool = True,
        causal: bool = True,
        use_alibi: bool = False,
        softmax_scale: float | None = None,
        window_size: object = None,
        dropout: float = 0.0,
        fused_dense: bool = True,
        bias: bool = True,
        out_bias: bool | None = None,
        qk_norm: bool = False,
        flash_rotary: bool = True,
        rotary_dim: int | None = None,
        rotary_base: float = 10000.0,
        rotary_scale_base: float | None = None,
        rope_scaling: dict[str, Any] | None = None,
        device: str | torch.device | None = None,
        layer_idx: int | None = None,
        rope_parameters: dict[str, Any] | None = None,
        softcap: float = 0.0,
        scale_attn_by_inverse_layer_idx: bool = False,
        rotary_style: str = "half",
        rotary_formula: str = "reciprocal",
        qk_l2_norm: bool = False,
        qk_scale: dict[str, Any] | None = None,
        attn_fn: str = "softmax",
        masked_score: float | None = None,
        qk_norm_over: str = "head",
        clip_qkv: float | None = None,
        query_growth: dict[str, Any] | None = None,
        alibi_formula: str = "exact",
        alibi_bias_max: float = 8.0,
        rotary_table: str = "float32",
        qk_l2_span: str = "head",
        qk_scaled: str = "qk",
        qk_order: str = "rotary_first",
        value_residual: bool = False,
        unit_weights: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.path = f"{block_path(config.architecture, layer_idx)}.mixer"
        if not 0 <= dropout <= 1:
            raise invalid(f"{self.path}.dropout", dropout, "a probability")
        self.layer_idx = layer_idx
        self.cache_idx = layer_idx or 0  # the model renumbers these, so that the cache has no empty layers
        self.flash_attn = flash_attn
        self.sizes = sizes = head_sizes(config, n_head, n_head_kv, head_dim, rotary_dim, self.path)
        self.n_head, self.n_head_kv, self.head_dim = sizes.n_head, sizes.n_head_kv, sizes.head_dim
        self.rotary_dim = sizes.rotary_dim
        spelling = (rotary_base, rotary_scale_base, rope_scaling, rope_parameters)
        frequencies = rotary_frequencies(sizes.rotary_dim, *spelling, config.n_positions, self.path)
        style = (rotary_style, rotary_formula, rotary_table)
        self.rotary_emb = rotary_embedding(frequencies, *style, sizes.head_dim, self.path)
        rows = (sizes.n_head + 2 * sizes.n_head_kv) * sizes.head_dim
        out_bias = bias if out_bias is None else out_bias
        qkv = nn.Linear(config.n_embd, rows, bias=bias, device=device)
        out_proj = nn.Linear(sizes.n_head * sizes.head_dim, config.n_embd, bias=out_bias, device=device)
        self.Wqkv = linear_as_asked(qkv, unit_weights, ROWS)
        self.out_proj = linear_as_asked(out_proj, unit_weights, COLUMNS)
        window = parse_window(window_size, f"{self.path}.window_size")
        inverse_idx = layer_idx if scale_attn_by_inverse_layer_idx else 0
        scale = _scale(softmax_scale, sizes.head_dim, inverse_idx, self.path)
        alibi = checked_alibi(use_alibi, sizes.n_head, alibi_formula, alibi_bias_max, self.path)
        rule = (causal, window, scale, softcap, dropout, alibi)
        if has_no_softmax(attn_fn, masked_score, rule, self.path):
            self.inner_attn = MaskedLinearAttention(scale, masked_score)
        else:
            self.inner_attn = InnerAttention(*rule)
        self.supports_cache = causal and attn_fn == "softmax"
        self.qk_l2_norm = qk_l2_norm
        self.clip_qkv = checked_clip(clip_qkv, self.path)
        self.query_growth = query_growth_of(query_growth, self.path)
        norm = block_at(config.architecture, layer_idx)["norm"]
        eps = norm.get("eps", 0.0) if norm["norm_cls"] == "l2" else 0.0
        self.head_rule = head_rule(qk_l2_norm, qk_l2_span, qk_scaled, qk_order, eps, self.path)
        self.qk_scale = qk_scale_of(qk_scale, qk_scaled, sizes, self.path)
        self.value_residual = value_residual
        self.qk_norm, self.qk_norm_over = qk_norm, checked_over(qk_norm_over, qk_norm, self.path)
        if qk_norm:
            heads = (sizes.n_head, sizes.n_head_kv)
            norms = norms_of_heads(qk_norm_over, heads, sizes.head_dim, norm, config, layer_idx, self.path)
            self.q_norm, self.k_norm = norms

    def forward(
        self,
        hidden_states: Tensor,
        *,
        context: ForwardContext | None = None,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Mix positions.

        Args:
            hidden_states: (B, S, n_embd).
            context: What the model shares among its layers. It says everything but the cache; without it, the arguments
                below say the same for this layer alone, as in the SDK.
            past_key_values: Cache that the new keys and values are appended to.
            attention_mask: (B, past + S), 1 for tokens and 0 for padding.
            position_ids: (1 or B, S); by default they count the tokens that are no padding.
            cu_seqlens: (samples + 1,) boundaries of packed samples over the flattened batch.

        Returns:
            (B, S, n_embd).

        Raises:
            AttentionBackendError: if the backend cannot compute this, or is forbidden by `flash_attn: false`.
            InputError: for arguments that contradict each other or the cache.
        """
        if context is None:
            given = (attention_mask, position_ids, cu_seqlens)
            context = layer_context(self.config, hidden_states, past_key_values, self.cache_idx, *given)
        if context.backend.startswith("flash") and not self.flash_attn:
            raise AttentionBackendError(
                f"attn_implementation is {context.backend!r}, but `{self.path}.flash_attn` is false."
            )
        q, k, v = self._project(hidden_states, context)
        if past_key_values is not None:
            both = k.transpose(1, 2), v.transpose(1, 2)
            k, v = appended(past_key_values, *both, self.cache_idx, context.past_length)  # (B, K, Sk, h)
            k, v = k.transpose(1, 2), v.transpose(1, 2)  # (B, Sk, K, h)
        out = self.inner_attn(q, k, v, context)  # (B, S, H, h)
        return self.out_proj(out.flatten(-2))

    def _project(self, hidden_states: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, S, H, h), k and v (B, S, K, h), normalised and rotated."""
        heads, kv_heads = self.sizes.n_head, self.sizes.n_head_kv
        rows = self.Wqkv(hidden_states)  # (B, S, (H + 2K) * h)
        rows = rows if self.clip_qkv is None else rows.clamp(-self.clip_qkv, self.clip_qkv)
        qkv = rows.unflatten(-1, (heads + 2 * kv_heads, self.sizes.head_dim))  # (B, S, H + 2K, h)
        qk, v = qkv.split((heads + kv_heads, kv_heads), dim=2)
        if self.qk_norm:
            q, k = qk.split((heads, kv_heads), dim=2)
            over = self.qk_norm_over
            qk = torch.cat((normalised(q, self.q_norm, over), normalised(k, self.k_norm, over)), dim=2)
        q, k = self._placed(qk, context).split((heads, kv_heads), dim=2)
        q = q if self.query_growth is None else self.query_growth(q, context)
        if self.value_residual:
            v = with_first_values(v, self, context)
        # As a view, v would keep the whole of qkv in memory for the backward pass, beside the q and k that replace it.
        return q, k, v.clone() if torch.is_grad_enabled() and self.rotary_emb is not None else v

    def _placed(self, qk: Tensor, context: ForwardContext) -> Tensor:
        """Heads of q and k, (B, S, H + K, h), turned to their positions, normalised and scaled."""
        on_sphere = self.qk_l2_norm or self.qk_scale is not None
        if on_sphere and self.head_rule.turns_last:
            qk = scaled_heads(qk, self.sizes.n_head, self.head_rule, self.qk_scale)
        if self.rotary_emb is not None:
            qk = self.rotary_emb(qk, context)  # q and k in one go: half the calls
        if on_sphere and not self.head_rule.turns_last:
            qk = scaled_heads(qk, self.sizes.n_head, self.head_rule, self.qk_scale)
        return qk


def _scale(softmax_scale: float | None, head_dim: int, inverse_layer_idx: int | None, path: str) -> float:
    if inverse_layer_idx is None:
        raise invalid(f"{path}.scale_attn_by_inverse_layer_idx", True, "false where a mixer is built without an index")
    scale = head_dim**-0.5 if softmax_scale is None else softmax_scale
    return scale / float(inverse_layer_idx + 1)

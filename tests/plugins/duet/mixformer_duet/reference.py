"""Duet's own implementation, which transformers does not have: what the conversion is judged by.

It shares no code with MixFormer. Whoever imports it can load a Duet with transformers' Auto classes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast


class DuetConfig(PreTrainedConfig):
    """Sizes and switches of a Duet."""

    model_type = "duet"

    vocab_size: int = 32000
    hidden_size: int = 512
    intermediate_size: int = 1408
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    norm_eps: float = 1e-5
    rotary_emb_base: float = 10000.0
    rotary_pct: float = 0.5
    attention_bias: bool = False
    mlp_bias: bool = False
    branch_scales: bool = False
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    use_cache: bool = True

    @property
    def head_width(self) -> int:
        """Dimensions of a head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads


class Norm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension."""

    def __init__(self, config: DuetConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden_size))
        self.eps = config.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight


class Attention(nn.Module):
    """Causal attention with grouped heads, of which the first `rotary_pct` dimensions rotate, in pairs of halves."""

    def __init__(self, config: DuetConfig, layer: int) -> None:
        super().__init__()
        self.heads, self.width, self.layer = config.num_attention_heads, config.head_width, layer
        self.groups = config.num_key_value_heads or self.heads
        rows = {"query": self.heads, "key": self.groups, "value": self.groups}
        for name, heads in rows.items():
            setattr(self, name, nn.Linear(config.hidden_size, heads * self.width, bias=config.attention_bias))
        self.output = nn.Linear(self.heads * self.width, config.hidden_size, bias=config.attention_bias)
        self.turning = int(self.width * config.rotary_pct)
        # On the CPU and in float32, whatever the model is made in, as published frequencies are.
        steps = torch.arange(0, self.turning, 2, dtype=torch.float32, device="cpu") / self.turning
        self.frequencies = 1.0 / config.rotary_emb_base**steps  # (turning / 2,)

    def forward(self, x: Tensor, positions: Tensor, visible: Tensor, cache: Cache | None = None) -> Tensor:
        """x (B, S, hidden_size), positions (B, S), visible (B, 1, S, past + S) to (B, S, hidden_size)."""
        q = self._turned(self._heads(self.query(x), self.heads), positions)
        k = self._turned(self._heads(self.key(x), self.groups), positions)
        v = self._heads(self.value(x), self.groups)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        k, v = (part.repeat_interleave(self.heads // self.groups, 1) for part in (k, v))
        scores = q @ k.transpose(-1, -2) / self.width**0.5  # (B, H, S, past + S)
        weights = scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(-1)
        return self.output((weights @ v).transpose(1, 2).flatten(-2))

    def _heads(self, x: Tensor, heads: int) -> Tensor:
        """(B, S, heads * width) to (B, heads, S, width)."""
        return x.unflatten(-1, (heads, self.width)).transpose(1, 2)

    def _turned(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotary embedding of the first dimensions of each head of x (B, heads, S, width)."""
        angles = positions[:, None, :, None] * self.frequencies.to(x.device, x.dtype)  # (B, 1, S, turning / 2)
        one, other, still = x.split((self.turning // 2, self.turning // 2, self.width - self.turning), -1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((one * cos - other * sin, other * cos + one * sin, still), -1)


class GatedMLP(nn.Module):
    """down(act(gate(x)) * up(x))."""

    def __init__(self, config: DuetConfig) -> None:
        super().__init__()
        wide, inner = config.hidden_size, config.intermediate_size
        self.gate = nn.Linear(wide, inner, bias=config.mlp_bias)
        self.up = nn.Linear(wide, inner, bias=config.mlp_bias)
        self.down = nn.Linear(inner, wide, bias=config.mlp_bias)
        self.act = ACT2FN[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    """x + a * attention(norm(x)) + m * mlp(other norm(x)). The modules have names that verdicts know layers by."""

    def __init__(self, config: DuetConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn = Norm(config), Attention(config, layer)
        self.post_attention_layernorm, self.mlp = Norm(config), GatedMLP(config)
        scales = {name: torch.ones(config.hidden_size) for name in ("attention", "mlp") if config.branch_scales}
        self.scale = nn.ParameterDict(scales)

    def forward(self, x: Tensor, **context: Any) -> Tensor:
        mixed, mapped = self.self_attn(self.input_layernorm(x), **context), self.mlp(self.post_attention_layernorm(x))
        if self.scale:
            mixed, mapped = self.scale["attention"] * mixed, self.scale["mlp"] * mapped
        return x + mixed + mapped


class DuetForCausalLM(PreTrainedModel, GenerationMixin):
    """Embedding, layers, a last norm and a head."""

    config_class = DuetConfig
    _tied_weights_keys = {"lm_head.weight": "embed.weight"}  # noqa: RUF012

    def __init__(self, config: DuetConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, k) for k in range(config.num_hidden_layers))
        self.norm = Norm(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (B, S, vocab_size) of ids (B, S); attention_mask (B, past + S) is 0 for padding."""
        wanted = self.config.use_cache if use_cache is None else use_cache
        cache = DynamicCache() if wanted and past_key_values is None else past_key_values
        past, new = cache.get_seq_length() if cache is not None else 0, input_ids.shape[1]
        if attention_mask is None:
            attention_mask = torch.ones(input_ids.shape[0], past + new, dtype=torch.long, device=input_ids.device)
        causal = torch.ones(past + new, past + new, dtype=torch.bool, device=input_ids.device).tril()[past:]
        context = {
            "positions": (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, past:],
            "visible": causal & attention_mask.bool()[:, None, None, :],
            "cache": cache,
        }
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, **context)
        return CausalLMOutputWithPast(logits=self.lm_head(self.norm(x)), past_key_values=cache)


AutoConfig.register("duet", DuetConfig)
AutoModelForCausalLM.register(DuetConfig, DuetForCausalLM)

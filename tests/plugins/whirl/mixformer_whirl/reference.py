"""Whirl's own implementation, which transformers does not have: what the conversion is judged by."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class WhirlConfig(PreTrainedConfig):
    """Sizes of a Whirl."""

    model_type = "whirl"

    vocab_size: int = 1000
    width: int = 64
    depth: int = 4
    eps: float = 1e-5
    tie_word_embeddings: bool = False


class WhirlForCausalLM(PreTrainedModel):
    """Embedding, layers of one gate each, a last norm and a head."""

    config_class = WhirlConfig

    def __init__(self, config: WhirlConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Parameter(torch.zeros(config.vocab_size, config.width))
        self.gates = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.head = nn.Parameter(torch.zeros(config.vocab_size, config.width))
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return nn.Embedding.from_pretrained(self.embedding)

    def forward(self, input_ids: Tensor, **kwargs: Any) -> CausalLMOutput:
        """(B, S) ids to logits (B, S, vocab_size)."""
        x = self.embedding[input_ids]
        seen = torch.ones(x.shape[1], x.shape[1], dtype=x.dtype, device=x.device).tril()
        means = seen / seen.sum(-1, keepdim=True)  # (S, S), row t takes the mean of positions 0..t
        for gate in self.gates:
            x = x + gate(x).sigmoid() * (means @ x)
        return CausalLMOutput(logits=self.norm(x) @ self.head.T)


AutoConfig.register("whirl", WhirlConfig)
AutoModelForCausalLM.register(WhirlConfig, WhirlForCausalLM)

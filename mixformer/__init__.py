"""MixFormer: a decoder-only transformer assembled from registered parts.

Importing this package makes transformers' Auto classes know the model type "mixformer-sequential".
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from mixformer.configuration_mixformer_sequential import (
    MIXFORMER_SEQUENTIAL_MODEL_TYPE,
    MixFormerSequentialConfig,
    PhiMsftConfig,
)
from mixformer.errors import MixFormerError
from mixformer.modeling_mixformer_sequential import (
    MixFormerSequentialForCausalLM,
    MixFormerSequentialForSequenceClassification,
)

__all__ = [
    "MIXFORMER_SEQUENTIAL_MODEL_TYPE",
    "MixFormerError",
    "MixFormerSequentialConfig",
    "MixFormerSequentialForCausalLM",
    "MixFormerSequentialForSequenceClassification",
]

AutoConfig.register(MixFormerSequentialConfig.model_type, MixFormerSequentialConfig, exist_ok=True)
AutoConfig.register(PhiMsftConfig.model_type, PhiMsftConfig, exist_ok=True)
AutoModelForCausalLM.register(MixFormerSequentialConfig, MixFormerSequentialForCausalLM, exist_ok=True)
AutoModelForSequenceClassification.register(
    MixFormerSequentialConfig, MixFormerSequentialForSequenceClassification, exist_ok=True
)

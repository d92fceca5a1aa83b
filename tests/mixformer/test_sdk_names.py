"""What code written for the SDK imports, reads and calls by position, with its import path replaced by `mixformer`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM
from mixformer.blocks.embeddings.common import PositionalEmbedding
from mixformer.blocks.heads import CausalLMHead, CausalLMLoss, logprobs_from_logits
from mixformer.blocks.mixers.mha import MHA
from mixformer.blocks.mlps import get_mlp
from mixformer.blocks.mlps.glu import GLU
from mixformer.blocks.mlps.mlp import MLP, FusedMLP
from mixformer.blocks.norms.low_precision import LPLayerNorm
from mixformer.blocks.norms.rms import FlashRMSLayerNorm, RMSLayerNorm

Build = Callable[..., MixFormerSequentialForCausalLM]

NAMES = {
    "": ("MixFormerSequentialConfig", "MixFormerSequentialForCausalLM", "MixFormerSequentialForSequenceClassification"),
    ".configuration_mixformer_sequential": ("MIXFORMER_SEQUENTIAL_MODEL_TYPE", "MixFormerSequentialConfig"),
    ".modeling_mixformer_sequential": ("MixFormerSequentialForCausalLM",),
    ".blocks": ("BLOCKS", "DEFAULT_BLOCK", "get_block"),
    ".blocks.parallel": ("ParallelBlock",),
    ".blocks.sequential": ("SequentialBlock",),
    ".blocks.embeddings": ("EMBEDDINGS", "get_embedding"),
    ".blocks.embeddings.common": ("Embedding", "PositionalEmbedding"),
    ".blocks.embeddings.rotary": ("RotaryEmbedding",),
    ".blocks.heads": ("HEADS", "LOSSES", "get_head", "get_loss", "logprobs_from_logits"),
    ".blocks.heads.causal_lm": ("CausalLMHead", "CausalLMLoss", "logprobs_from_logits"),
    ".blocks.heads.seq_cls": ("SequenceClassificationHead", "SequenceClassificationLoss"),
    ".blocks.mixers": ("MIXERS", "DEFAULT_MIXER", "get_mixer"),
    ".blocks.mixers.mha": ("MHA",),
    ".blocks.mlps": ("MLPS", "DEFAULT_MLP", "get_mlp"),
    ".blocks.mlps.glu": ("GLU",),
    ".blocks.mlps.mlp": ("MLP", "FusedMLP"),
    ".blocks.norms": ("NORMS", "TP_NORMS", "DEFAULT_NORM", "get_norm"),
    ".blocks.norms.low_precision": ("LPLayerNorm",),
    ".blocks.norms.rms": ("RMSLayerNorm", "FlashRMSLayerNorm"),
}


@pytest.mark.parametrize("module", NAMES)
def test_modules_and_names_are_there(module: str) -> None:
    found = importlib.import_module(f"mixformer{module}")
    assert [name for name in NAMES[module] if not hasattr(found, name)] == []


def small(**kwargs: Any) -> MixFormerSequentialConfig:
    sizes = {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 20, "n_positions": 8, "pad_vocab_size_multiple": 1}
    return MixFormerSequentialConfig(**{**sizes, **kwargs})


ORDERS: dict[Any, list[str]] = {
    MLP: ["config", "n_inner", "act_fn", "dtype"],
    GLU: ["config", "n_inner", "act_fn", "dtype"],
    FusedMLP: ["config", "dtype", "n_inner", "act_fn"],
    LPLayerNorm: ["normalized_shape", "eps", "elementwise_affine", "device", "dtype"],
    RMSLayerNorm: ["normalized_shape", "eps", "device", "dtype"],
    FlashRMSLayerNorm: ["normalized_shape", "eps", "dropout_p", "zero_centered_weight", "device", "dtype"],
    CausalLMHead: ["config", "dtype", "use_bias"],
    CausalLMLoss: ["shift_labels", "ignore_index", "reduction", "flash_cross_entropy_loss", "inplace_backward"],
    MHA: ["config"],
}


@pytest.mark.parametrize("module_class", ORDERS, ids=lambda c: c.__name__)
def test_arguments_by_position_come_in_the_sdks_order_or_not_at_all(module_class: Any) -> None:
    parameters = list(inspect.signature(module_class.__init__).parameters.values())[1:]
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional[: len(ORDERS[module_class])] == ORDERS[module_class]
    assert set(positional) - set(ORDERS[module_class]) <= {"layer_idx"}


def test_a_second_argument_of_an_attention_is_refused_not_taken_for_its_heads() -> None:
    with pytest.raises(TypeError):
        MHA(small(), 1)
    assert MHA(small(), layer_idx=1).n_head == 2


def test_sizes_are_attributes_of_their_modules() -> None:
    model = MixFormerSequentialForCausalLM(small(n_head_kv=1, architecture={"mlp": {"mlp_cls": "glu", "n_inner": 24}}))
    attention, mlp = model.layers[1].mixer, model.layers[1].mlp
    assert (attention.n_head, attention.n_head_kv, attention.head_dim, attention.rotary_dim) == (2, 1, 8, 8)
    assert mlp.n_inner == 24
    assert [get_mlp(small(), {"mlp_cls": name}).n_inner for name in ("mlp", "fused_mlp", "glu", "glu_bias")] == [64] * 4
    assert FusedMLP(small(), "bfloat16", 12).mlp.fc1.weight.shape == (12, 16)


@torch.no_grad()
def test_a_positional_embedding_takes_positions_second() -> None:
    embedding, ids = PositionalEmbedding(small()), torch.arange(3)[None]
    positions = torch.tensor([[5, 0, 2]])
    found = embedding(ids, positions)
    assert torch.equal(found, embedding(ids, position_ids=positions))
    assert not torch.equal(found, embedding(ids))


@torch.no_grad()
@pytest.mark.parametrize("block", ["parallel", "sequential"])
@pytest.mark.parametrize("embedding", ["default", "positional"])
def test_layers_may_be_called_as_they_stand(build: Build, block: str, embedding: str) -> None:
    model = build(embd_layer=embedding, architecture={"block_cls": block})
    ids = torch.arange(20).reshape(2, 10)
    assert torch.equal(model.layers(ids), model(ids).logits)


def test_log_probabilities_of_labels_are_those_of_log_softmax() -> None:
    logits, labels = torch.randn(2, 5, 7, dtype=torch.float64), torch.randint(0, 7, (2, 5))
    expected = logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    assert torch.allclose(logprobs_from_logits(logits, labels), expected, atol=1e-12)
    assert logprobs_from_logits(logits.bfloat16(), labels).dtype == torch.float32

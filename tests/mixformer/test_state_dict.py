"""Keys and shapes are the SDK's, byte for byte, for every combination of registered parts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from mixformer import (
    MixFormerSequentialConfig,
    MixFormerSequentialForCausalLM,
    MixFormerSequentialForSequenceClassification,
)
from mixformer.blocks import BLOCKS
from mixformer.blocks.embeddings import EMBEDDINGS
from mixformer.blocks.heads import HEADS
from mixformer.blocks.mixers import MIXERS
from mixformer.blocks.mlps import MLPS
from mixformer.blocks.norms import NORMS

V, D, F, P, LABELS = 96, 24, 40, 20, 3  # vocabulary, n_embd, n_inner, n_positions, classes
H, K, h = 4, 2, 8  # query heads, key-value heads, head_dim

Shapes = dict[str, tuple[int, ...]]


def norm_shapes(name: str, prefix: str, size: int = D) -> Shapes:
    keys = ("weight", "bias") if name in ("torch", "low_precision") else ("weight",)
    return {f"{prefix}.{key}": (size,) for key in keys}


def linear_shapes(prefix: str, rows: int, columns: int, bias: bool) -> Shapes:
    return {f"{prefix}.weight": (rows, columns)} | ({f"{prefix}.bias": (rows,)} if bias else {})


def mlp_shapes(name: str, prefix: str) -> Shapes:
    prefix = f"{prefix}.mlp" if name == "fused_mlp" else prefix
    gated, bias = name.startswith("glu"), name != "glu"
    return linear_shapes(f"{prefix}.fc1", 2 * F if gated else F, D, bias) | linear_shapes(f"{prefix}.fc2", D, F, bias)


def block_shapes(block: str, mlp: str, norm: str, prefix: str) -> Shapes:
    norms = ("ln",) if block == "parallel" else ("ln_1", "ln_2")
    mixer = f"{prefix}.mixer" if block == "parallel" else f"{prefix}.attn"
    shapes: Shapes = {}
    for name in norms:
        shapes |= norm_shapes(norm, f"{prefix}.{name}")
    shapes |= linear_shapes(f"{mixer}.Wqkv", (H + 2 * K) * h, D, True) | linear_shapes(
        f"{mixer}.out_proj", D, H * h, True
    )
    return shapes | mlp_shapes(mlp, f"{prefix}.mlp")


def head_shapes(head: str, norm: str, use_bias: bool, prefix: str) -> Shapes:
    if head == "seq_cls":
        return linear_shapes(f"{prefix}.linear", LABELS, D, use_bias)
    return norm_shapes(norm, f"{prefix}.ln") | linear_shapes(f"{prefix}.linear", V, D, use_bias)


def config_of(block: str, mlp: str, norm: str, head: str, embedding: str, use_bias: bool) -> MixFormerSequentialConfig:
    sizes = {"vocab_size": 90, "pad_vocab_size_multiple": 32, "n_embd": D, "n_inner": F, "n_positions": P, "n_head": H}
    architecture = {
        "block_cls": block,
        "norm": {"norm_cls": norm},
        "mixer": {"mixer_cls": "mha", "n_head_kv": K, "head_dim": h},
        "mlp": {"mlp_cls": mlp},
        "head": {"head_cls": head, "use_bias": use_bias},
    }
    task = {"num_labels": LABELS, "problem_type": "single_label_classification"} if head == "seq_cls" else {}
    return MixFormerSequentialConfig(n_layer=2, embd_layer=embedding, architecture=architecture, **sizes, **task)


def shapes_of(model: nn.Module) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


TASKS: dict[str, Any] = {
    "causal_lm": MixFormerSequentialForCausalLM,
    "seq_cls": MixFormerSequentialForSequenceClassification,
}
OURS = {
    *("ngpt", "residual", "parallel_two_norms", "glu_scaled", "mlp_no_bias", "mlp_xielu", "moe", "l2"),
    *("scaled", "scaled_table", "normed", "positional_offset", "unit"),
}  # they have tests of their own
ALIKE = ([name for name in registry if name not in OURS] for registry in (BLOCKS, MLPS, NORMS, HEADS, EMBEDDINGS))
PARTS = list(itertools.product(*ALIKE, (True, False)))


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "-".join(map(str, parts)))
def test_keys_and_shapes_are_the_sdks(parts: tuple[str, str, str, str, str, bool]) -> None:
    block, mlp, norm, head, embedding, use_bias = parts
    with torch.device("meta"):
        model = TASKS[head](config_of(*parts))
    expected: Shapes = {"layers.0.wte.weight": (V, D)}
    if embedding == "positional":
        expected["layers.0.wpe.weight"] = (P, D)
    for number in (1, 2):
        expected |= block_shapes(block, mlp, norm, f"layers.{number}")
    expected |= head_shapes(head, norm, use_bias, "layers.3")
    assert shapes_of(model) == expected


@pytest.mark.parametrize("norm", [name for name in NORMS if name not in OURS])
def test_qk_norm_adds_a_norm_of_one_head_for_queries_and_keys(norm: str) -> None:
    config = config_of("sequential", "glu", norm, "causal_lm", "default", False)
    before = shapes_of(MixFormerSequentialForCausalLM(config))
    config.architecture["mixer"]["qk_norm"] = True
    added = set(shapes_of(MixFormerSequentialForCausalLM(config)).items()) - set(before.items())
    expected = {**norm_shapes(norm, "q_norm", h), **norm_shapes(norm, "k_norm", h)}
    assert added == {(f"layers.{n}.attn.{key}", shape) for n in (1, 2) for key, shape in expected.items()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("out_bias", [True, False, None])
def test_bias_and_out_bias_make_the_biases_of_attention(bias: bool, out_bias: bool | None) -> None:
    config = config_of("parallel", "mlp", "torch", "causal_lm", "default", False)
    config.architecture["mixer"] |= {"bias": bias, "out_bias": out_bias}
    keys = shapes_of(MixFormerSequentialForCausalLM(config))
    assert ("layers.1.mixer.Wqkv.bias" in keys) == bias
    assert ("layers.1.mixer.out_proj.bias" in keys) == (bias if out_bias is None else out_bias)


def test_registries_hold_the_sdks_names_in_its_order_and_ours_after_them() -> None:
    assert list(BLOCKS) == ["parallel", "sequential", "ngpt", "residual", "parallel_two_norms"]
    assert list(EMBEDDINGS)[:2] == ["default", "positional"]
    assert set(list(EMBEDDINGS)[2:]) == {"scaled", "scaled_table", "normed", "positional_offset", "unit"}
    assert list(MIXERS) == ["mha"]
    assert list(MLPS)[:3] == ["glu", "fused_mlp", "mlp"]
    assert set(list(MLPS)[3:]) == {"glu_bias", "glu_scaled", "mlp_no_bias", "mlp_xielu", "moe"}
    assert list(NORMS) == ["torch", "low_precision", "rms", "flash_rms", "l2"]
    assert list(HEADS) == ["causal_lm", "seq_cls"]


def test_print_shows_the_modules_of_the_guide() -> None:
    config = config_of("parallel", "fused_mlp", "torch", "causal_lm", "default", True)
    names = {name for name, _ in MixFormerSequentialForCausalLM(config).named_modules()}
    parallel = ["ln", "mixer", "mixer.rotary_emb", "mixer.Wqkv", "mixer.out_proj", "mixer.inner_attn", "resid_dropout"]
    parallel += ["mixer.inner_attn.drop", "mlp.mlp.fc1", "mlp.mlp.fc2"]
    assert {"layers.0.wte", "layers.0.drop", "layers.3.ln", "layers.3.linear", "loss"} <= names
    assert {f"layers.1.{name}" for name in parallel} <= names
    config = config_of("sequential", "glu", "rms", "causal_lm", "default", True)
    model = MixFormerSequentialForCausalLM(config)
    names = {name for name, _ in model.layers[1].named_modules()}
    assert {"ln_1", "ln_2", "attn.rotary_emb", "mlp.act", "mlp.fc1", "resid_attn_dropout", "resid_mlp_dropout"} <= names
    assert "RMSLayerNorm((24,), eps=1e-05, elementwise_affine=True" in repr(model)

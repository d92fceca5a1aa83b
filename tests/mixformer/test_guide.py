"""The cells of the MixFormer guide, in its order, with its import path replaced by `mixformer`.

Each test stands alone, so that they may run in any order and in several processes: where the guide registers a part,
the tests that need it ask for the fixture of its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PretrainedConfig
from transformers.activations import ACT2FN

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM
from mixformer.blocks import BLOCKS
from mixformer.blocks.embeddings import EMBEDDINGS
from mixformer.blocks.heads import HEADS, LOSSES
from mixformer.blocks.mixers import MIXERS, get_mixer
from mixformer.blocks.mlps import MLPS, get_mlp
from mixformer.blocks.norms import NORMS


class Conv1dMixer(torch.nn.Module):
    def __init__(self, config: PretrainedConfig, kernel_size: int = 3, layer_idx: int | None = None) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(
            in_channels=config.n_embd,
            out_channels=config.n_embd,
            kernel_size=kernel_size,
            padding=kernel_size - 1,
            groups=config.n_embd,
        )

    def forward(self, x: torch.FloatTensor, **kwargs: Any) -> tuple[torch.FloatTensor, None]:
        out = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return out[:, : x.shape[1]], None


class DeepMLP(torch.nn.Module):
    def __init__(self, config: PretrainedConfig, n_layer: int = 3, n_inner: int | None = None) -> None:
        super().__init__()
        self.n_inner = n_inner or config.n_inner or 4 * config.n_embd
        self.act = ACT2FN[config.activation_function]
        layers = [torch.nn.Linear(config.n_embd, self.n_inner)]
        layers += [torch.nn.Linear(self.n_inner, self.n_inner) for _ in range(n_layer - 2)]
        layers += [torch.nn.Linear(self.n_inner, config.n_embd)]
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, x: torch.FloatTensor, **kwargs: Any) -> torch.FloatTensor:
        for layer in self.layers[:-1]:
            x = self.act(layer(x))
        return self.layers[-1](x)


class BlockXyz(torch.nn.Module):
    def __init__(
        self,
        config: PretrainedConfig,
        mixer: dict[str, Any],
        mlp: dict[str, Any],
        block_idx: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.mixer = get_mixer(config, mixer_config=mixer)
        self.mlp = get_mlp(config, mlp_config=mlp)
        self.block_idx = block_idx

    def forward(self, x: Any, **kwargs: Any) -> tuple[torch.FloatTensor, None, None]:
        x = self.mixer(x)[0]
        x = self.mlp(x)
        return (x, None, None)


@pytest.fixture
def conv1d(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell 9: `MIXERS["conv1d"] = Conv1dMixer`."""
    monkeypatch.setitem(MIXERS, "conv1d", Conv1dMixer)


@pytest.fixture
def deep_mlp(conv1d: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell 13: `MLPS["deep_mlp"] = DeepMLP`."""
    monkeypatch.setitem(MLPS, "deep_mlp", DeepMLP)


@pytest.fixture
def xyz(deep_mlp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell 16: `BLOCKS["xyz"] = BlockXyz`."""
    monkeypatch.setitem(BLOCKS, "xyz", BlockXyz)


def block(model: MixFormerSequentialForCausalLM, number: int = 1) -> torch.nn.Module:
    return model.layers[number]


def test_cell_1_a_basic_instance() -> None:
    config = MixFormerSequentialConfig(n_layer=2)
    model = MixFormerSequentialForCausalLM(config)
    text = str(model)
    assert "(wte): Embedding(50304, 1024)" in text
    assert "(Wqkv): Linear(in_features=1024, out_features=3072, bias=True)" in text
    assert "(fc2): Linear(in_features=4096, out_features=1024, bias=True)" in text
    assert type(block(model)).__name__ == "ParallelBlock"


def test_cell_2_the_registries() -> None:
    assert list(EMBEDDINGS.keys())[:2] == ["default", "positional"]
    assert list(BLOCKS.keys())[:2] == ["parallel", "sequential"]
    assert list(MIXERS.keys()) == ["mha"]
    assert list(MLPS.keys())[:3] == ["glu", "fused_mlp", "mlp"]
    assert list(NORMS.keys())[:4] == ["torch", "low_precision", "rms", "flash_rms"]
    assert list(HEADS.keys()) == ["causal_lm", "seq_cls"]
    assert list(LOSSES.keys()) == ["causal_lm", "seq_cls"]


@pytest.mark.parametrize("block_cls", ["sequential", "parallel"])
def test_cells_3_and_4_a_custom_architecture_and_codegen(block_cls: str) -> None:
    config = MixFormerSequentialConfig(
        n_layer=2,
        architecture={
            "block_cls": block_cls,
            "mixer": {
                "mixer_cls": "mha",
            },
            "mlp": {
                "mlp_cls": "mlp",
            },
            "norm": {
                "norm_cls": "torch",
            },
        },
    )
    model = MixFormerSequentialForCausalLM(config)
    assert type(block(model)).__name__ == f"{block_cls.capitalize()}Block"
    assert "(act): NewGELUActivation()" in str(model)


def test_cell_5_llama() -> None:
    config = MixFormerSequentialConfig(
        n_layer=2,
        architecture={
            "block_cls": "sequential",
            "mixer": {
                "mixer_cls": "mha",
            },
            "mlp": {
                "mlp_cls": "glu",
                "act_fn": "silu",
                "n_inner": 5456,
            },
            "norm": {
                "norm_cls": "rms",
            },
            "head": {
                "head_cls": "causal_lm",
                "use_bias": False,
            },
        },
    )
    model = MixFormerSequentialForCausalLM(config)
    text = str(model)
    assert "(ln_1): RMSLayerNorm((1024,), eps=1e-05, elementwise_affine=True" in text
    assert "(fc1): Linear(in_features=1024, out_features=10912, bias=False)" in text
    assert model.layers[-1].linear.bias is None


def test_cell_6_gpt() -> None:
    config = MixFormerSequentialConfig(
        n_layer=2,
        architecture={
            "block_cls": "sequential",
            "mixer": {"mixer_cls": "mha", "window_size": (128, 128)},
            "mlp": {"mlp_cls": "fused_mlp", "n_inner": 4096},
        },
    )
    model = MixFormerSequentialForCausalLM(config)
    assert block(model).attn.inner_attn.window == (128, 128)
    assert block(model).mlp.mlp.fc1.out_features == 4096


def test_cell_7_a_heterogeneous_architecture() -> None:
    config = MixFormerSequentialConfig(
        n_layer=1,
        architecture=[
            {
                "block_cls": "sequential",
                "mixer": {
                    "mixer_cls": "mha",
                    "window_size": 128,
                },
                "mlp": {"mlp_cls": "fused_mlp"},
            },
            {
                "block_cls": "parallel",
                "mixer": {
                    "mixer_cls": "mha",
                },
                "mlp": {"mlp_cls": "glu"},
            },
        ],
    )
    model = MixFormerSequentialForCausalLM(config)
    assert [type(layer).__name__ for layer in model.layers[1:3]] == ["SequentialBlock", "ParallelBlock"]
    assert config.n_layer == 2


def test_cells_8_to_10_a_custom_mixer(conv1d: None) -> None:
    assert list(MIXERS.keys()) == ["mha", "conv1d"]
    config = MixFormerSequentialConfig(
        n_layer=2,
        architecture={
            "block_cls": "sequential",
            "mixer": {
                "mixer_cls": "conv1d",
            },
        },
    )
    model = MixFormerSequentialForCausalLM(config)
    assert model(torch.zeros((1, 1024), dtype=torch.long)).logits.shape == (1, 1024, 50304)


def test_cell_11_keywords_of_a_custom_mixer(conv1d: None) -> None:
    config = MixFormerSequentialConfig(
        n_layer=2, architecture={"block_cls": "sequential", "mixer": {"mixer_cls": "conv1d", "kernel_size": 11}}
    )
    model = MixFormerSequentialForCausalLM(config)
    assert model.layers[1].attn.conv.kernel_size == (11,)


def test_cells_12_to_14_a_custom_mlp(deep_mlp: None) -> None:
    assert list(MLPS.keys())[:3] == ["glu", "fused_mlp", "mlp"] and list(MLPS.keys())[-1] == "deep_mlp"
    config = MixFormerSequentialConfig(
        n_layer=2,
        architecture={
            "block_cls": "sequential",
            "mixer": {"mixer_cls": "conv1d"},
            "mlp": {
                "mlp_cls": "deep_mlp",
                "n_layer": 4,
            },
        },
    )
    model = MixFormerSequentialForCausalLM(config)
    assert len(block(model).mlp.layers) == 4
    assert model(torch.zeros((1, 1024), dtype=torch.long)).logits.shape == (1, 1024, 50304)


def test_cells_15_to_17_a_custom_block(xyz: None) -> None:
    assert list(BLOCKS.keys())[:2] == ["parallel", "sequential"] and list(BLOCKS.keys())[-1] == "xyz"
    config = MixFormerSequentialConfig(
        n_layer=2,
        architecture={
            "block_cls": "xyz",
            "mixer": {"mixer_cls": "conv1d", "kernel_size": 11},
            "mlp": {
                "mlp_cls": "deep_mlp",
                "n_layer": 4,
            },
        },
    )
    model = MixFormerSequentialForCausalLM(config)
    assert block(model, 2).block_idx == 1
    assert model(torch.zeros((1, 1024), dtype=torch.long)).logits.shape == (1, 1024, 50304)


def test_a_parallel_block_takes_the_mixer_of_the_guide_too(conv1d: None) -> None:
    config = MixFormerSequentialConfig(
        n_layer=1, n_embd=32, n_head=2, vocab_size=64, architecture={"mixer": {"mixer_cls": "conv1d"}}
    )
    model = MixFormerSequentialForCausalLM(config)
    ids = torch.zeros((1, 7), dtype=torch.long)
    assert model(ids).logits.shape == (1, 7, 64)
    assert model.generate(ids, max_new_tokens=3, pad_token_id=0).shape == (1, 10)


def test_the_customised_parts_are_saved_and_loaded_by_name(tmp_path: Path, xyz: None) -> None:
    config = MixFormerSequentialConfig(
        n_layer=2,
        n_embd=32,
        vocab_size=64,
        architecture={"block_cls": "xyz", "mixer": {"mixer_cls": "conv1d"}, "mlp": {"mlp_cls": "deep_mlp"}},
    )
    model = MixFormerSequentialForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    ids = torch.arange(9)[None]
    assert torch.equal(MixFormerSequentialForCausalLM.from_pretrained(tmp_path)(ids).logits, model(ids).logits)

"""Hot models that the tests of golden judge: made once, and never written to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from golden.faults.model_copy import Patient, admit, discharge
from golden.models.hot import make_hot


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models are tiny: threads would only wait for each other, and for those of other test runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untied LLaMA with grouped heads, whose head_dim is not n_embd / n_head."""
    return make_hot("llama", tmp_path_factory.mktemp("reference"), seed=7)


@pytest.fixture(scope="session")
def tied_reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its head tied to the embedding."""
    return make_hot("llama", tmp_path_factory.mktemp("tied"), seed=8, tie_word_embeddings=True)


@pytest.fixture
def patient(reference: Path) -> Patient:
    """The reference in memory, to be changed and written elsewhere."""
    return admit(reference)


@pytest.fixture(scope="session")
def mixformer(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference as a MixFormer, put together by hand from the description of the format, not by a converter."""
    return as_mixformer(reference, tmp_path_factory.mktemp("mixformer"))


@pytest.fixture(scope="session")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Mistral that sees 24 tokens, and the MixFormer that it is, by hand: 23 to the left of each token."""
    folder = tmp_path_factory.mktemp("windowed")
    source = make_hot("mistral", folder / "mistral", seed=9)
    return source, as_mixformer(source, folder / "mixformer", window_size="(23, 0)")


def as_mixformer(reference: Path, folder: Path, **mixer: Any) -> Path:
    source = admit(reference)
    config = _mixformer_config(source.config)
    config["architecture"]["mixer"] |= mixer
    return discharge(Patient(dict(_mixformer_weights(source)), config, source.anatomy), reference, folder)


def _mixformer_weights(source: Patient) -> Iterator[tuple[str, torch.Tensor]]:
    layers = source.anatomy.n_layer
    yield "layers.0.wte.weight", source.part("embed")
    yield f"layers.{layers + 1}.ln.weight", source.part("final_norm")
    yield f"layers.{layers + 1}.linear.weight", source.part("head")
    for i in range(layers):
        part = {role: source.part(f"{i}.{role}") for role in ("q", "k", "v", "o", "gate", "up", "down")}
        yield f"layers.{i + 1}.ln_1.weight", source.part(f"{i}.norm_1")
        yield f"layers.{i + 1}.ln_2.weight", source.part(f"{i}.norm_2")
        yield f"layers.{i + 1}.attn.Wqkv.weight", torch.cat((part["q"], part["k"], part["v"]))
        yield f"layers.{i + 1}.attn.out_proj.weight", part["o"]
        yield f"layers.{i + 1}.mlp.fc1.weight", torch.cat((part["up"], part["gate"]))
        yield f"layers.{i + 1}.mlp.fc2.weight", part["down"]


def _mixformer_config(llama: dict[str, Any]) -> dict[str, Any]:
    mixer = {
        "mixer_cls": "mha",
        "bias": False,
        "out_bias": False,
        "n_head_kv": llama["num_key_value_heads"],
        "head_dim": llama["head_dim"],
        "rotary_dim": llama["head_dim"],
        "rotary_base": llama["rope_parameters"]["rope_theta"],
    }
    return {
        "model_type": "mixformer-sequential",
        "architectures": ["MixFormerSequentialForCausalLM"],
        "vocab_size": llama["vocab_size"],
        "n_positions": llama["max_position_embeddings"],
        "n_embd": llama["hidden_size"],
        "n_layer": llama["num_hidden_layers"],
        "n_head": llama["num_attention_heads"],
        "pad_vocab_size_multiple": 1,
        "tie_word_embeddings": False,
        **{name: llama[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
        "layer_norm_epsilon": llama["rms_norm_eps"],
        "architecture": {
            "block_cls": "sequential",
            "norm": {"norm_cls": "rms", "eps": llama["rms_norm_eps"]},
            "mixer": mixer,
            "mlp": {"mlp_cls": "glu", "act_fn": "silu", "n_inner": llama["intermediate_size"]},
            "head": {"head_cls": "causal_lm", "use_bias": False},
        },
    }

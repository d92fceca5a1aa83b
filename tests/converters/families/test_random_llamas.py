"""Random LLaMAs: any config that transformers runs goes there and back equal, and computes one function."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.activations import ACT2FN

from converters import convert
from converters.alignment import equal_folders
from converters.conversion import Request
from converters.families.shared.activations import NAMES
from converters.plan.options import Options
from golden import compare
from golden.models.hot import make_hot

# Smooth activations alone: at a kink, float64 of two orders of operations may fall on different sides.
# Older releases of transformers lack some.
ACTIVATIONS = sorted(NAMES & {*ACT2FN} - {"gelu_10"})
DTYPES = (torch.float32, torch.float32, torch.bfloat16, torch.float16)


def rope(draw: random.Random, head_dim: int) -> dict[str, Any]:
    theta = draw.choice([1e4, 5e5, 10000, 31.5])
    factors = [draw.uniform(0.8, 4.0) for _ in range(head_dim // 2)]
    kinds: dict[str, dict[str, Any]] = {
        "default": {},
        "linear": {"factor": draw.uniform(1, 8)},
        "dynamic": {"factor": draw.uniform(1, 8)},
        "yarn": {"factor": draw.uniform(1, 8), "original_max_position_embeddings": draw.choice([32, 64])},
        "llama3": {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": draw.choice([32, 64]),
        },
        "longrope": {
            "short_factor": factors,
            "long_factor": [2 * f for f in factors],
            "original_max_position_embeddings": 64,
        },
        "proportional": {"partial_rotary_factor": draw.choice([0.25, 0.5, 1.0])},
    }
    kind = draw.choice(list(kinds))
    return {"rope_type": kind, "rope_theta": theta, **kinds[kind]}


def config(draw: random.Random) -> dict[str, Any]:
    n_head_kv, groups = draw.choice([1, 2, 3]), draw.choice([1, 2, 3])
    head_dim = draw.choice([8, 12, 16, 20])
    return {
        "num_key_value_heads": n_head_kv,
        "num_attention_heads": n_head_kv * groups,
        "head_dim": head_dim,
        "hidden_size": n_head_kv * groups * draw.choice([7, 10, 16]),  # transformers wants a multiple of the heads
        "intermediate_size": draw.choice([31, 64, 90]),
        "num_hidden_layers": draw.choice([1, 2, 3]),
        "vocab_size": draw.choice([300, 331, 512]),
        "rms_norm_eps": draw.choice([1e-5, 1e-6, 3e-4]),
        "hidden_act": draw.choice(ACTIVATIONS),
        "attention_bias": draw.random() < 0.4,
        "mlp_bias": draw.random() < 0.4,
        "tie_word_embeddings": draw.random() < 0.4,
        "eos_token_id": draw.choice([2, [2, 5], None]),
        "rope_parameters": rope(draw, head_dim),
    }


def stored(draw: random.Random, folder: Path) -> Path:
    """The model in another dtype, in shards or as a torch file."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=draw.choice(DTYPES))
    other = folder.with_name("stored")
    model.save_pretrained(other, max_shard_size=draw.choice(["5GB", "30KB"]))
    return other


def judge(seed: int, place: Path) -> None:
    draw = random.Random(seed)
    source = stored(draw, make_hot("llama", place / "source", seed, **config(draw)))
    options = Options(pad_vocab=draw.choice([None, None, 64]))
    ours = convert(source, output=place / "ours", request=Request(options=options)).output
    back = convert(ours, to="llama", output=place / "back").output
    assert equal_folders(source, back) == []
    assert json.loads((source / "config.json").read_text()) == json.loads((back / "config.json").read_text())
    verdict = compare(ours, source, levels=["L0", "L1", "L2"])
    assert [level.status for level in verdict.levels[:3]] == ["PASS"] * 3, (seed, verdict)
    assert verdict.level("L2").number <= 1e-10
    shutil.rmtree(place)


@pytest.mark.parametrize("seed", range(20))
def test_a_random_llama_goes_both_ways_and_stays_one_function(seed, tmp_path):
    judge(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_two_hundred_random_llamas(seed, tmp_path):
    judge(seed, tmp_path)

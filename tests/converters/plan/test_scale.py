"""Sizes far from the sample's: seventy billion parameters planned, many tensors refused, kills at random moments."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converters import convert
from converters.alignment import equal_folders
from converters.checkpoint.safetensors_header import build_header
from converters.errors import CoverageRefused
from converters.plan.plan import make_plan
from converters.sample import write_sample


def sparse_llama(folder: Path, layers: int, hidden: int, inner: int, heads: int, kv: int, vocab: int) -> Path:
    """A checkpoint of headers alone: its data are holes."""
    folder.mkdir()
    rows = hidden // heads * kv
    shapes: list[tuple[str, str, tuple[int, ...]]] = [("model.embed_tokens.weight", "BF16", (vocab, hidden))]
    for i in range(layers):
        layer = f"model.layers.{i}."
        shapes += [
            (layer + "input_layernorm.weight", "BF16", (hidden,)),
            (layer + "post_attention_layernorm.weight", "BF16", (hidden,)),
            *((f"{layer}mlp.{name}_proj.weight", "BF16", (inner, hidden)) for name in ("gate", "up")),
            (layer + "mlp.down_proj.weight", "BF16", (hidden, inner)),
            *((f"{layer}self_attn.{name}_proj.weight", "BF16", (rows, hidden)) for name in "kv"),
            *((f"{layer}self_attn.{name}_proj.weight", "BF16", (hidden, hidden)) for name in "qo"),
        ]
    shapes += [("model.norm.weight", "BF16", (hidden,)), ("lm_head.weight", "BF16", (vocab, hidden))]
    header = build_header(shapes)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(2 * s[0] * (s[1] if len(s) > 1 else 1) for _, _, s in shapes))
    sizes = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "vocab_size": vocab}
    config = {"model_type": "llama", "num_attention_heads": heads, "num_key_value_heads": kv, **sizes}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_seventy_billion_parameters_are_planned_from_headers(tmp_path):
    plan = make_plan(sparse_llama(tmp_path / "70b", 80, 8192, 28672, 64, 8, 32000))
    assert plan.nbytes == 2 * 68_976_648_192
    assert len(plan.tensors) == 3 + 80 * 6


@pytest.mark.slow
def test_a_header_of_very_many_tensors_is_refused_in_a_sentence(tmp_path):
    source = write_sample(tmp_path / "source")
    header = build_header((f"model.layers.0.x{k}", "U8", (0,)) for k in range(90_000))
    (source / "model.safetensors").write_bytes(header)
    with pytest.raises(CoverageRefused, match="90000 tensors"):
        make_plan(source)


@pytest.mark.slow
def test_fifty_kills_at_random_moments_leave_nothing_half_done(tmp_path):
    source = sparse_llama(tmp_path / "source", 8, 1024, 2816, 8, 2, 8000)
    out = tmp_path / "out"
    code = "import sys; from converters import convert; convert(sys.argv[1], output=sys.argv[2])"
    draw = random.Random(7)
    whole = 0
    for _ in range(50):
        with subprocess.Popen([sys.executable, "-c", code, str(source), str(out)], stderr=subprocess.DEVNULL) as run:
            time.sleep(draw.uniform(0.05, 0.9))
            run.kill()
        if out.exists():
            whole += 1
            assert equal_folders(source, out) == []
            import shutil

            shutil.rmtree(out)
    convert(source, output=out)
    assert equal_folders(source, out) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
    print(f"{whole} of 50 runs had finished")

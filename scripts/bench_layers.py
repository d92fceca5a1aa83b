"""Judging a model layer by layer against judging it whole, both in float32: L2 of a LLaMA and its MixFormer.

Usage: bench_layers.py [--rounds 5]

Each run is a fresh process. Counted are the seconds of `compare`, and the peak of resident memory since torch and
transformers were imported, pages of mapped files among them.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from statistics import median

import numpy as np
from measuring import RESULTS, machine, scratch, spread, warm
from synthetic import Size, shapes

from converters import convert
from converters.checkpoint.safetensors_header import build_header

SIZE = Size(2048, 22, 32, 4, 5632, 32000, 0)  # 1.1 B weights, those of TinyLlama
LITTLE = 2_500_000_000
"""Bytes of memory with which whole models do not fit, and two layers do."""


@dataclass(frozen=True)
class Judged:
    """Seconds of wall and processor time, peak memory in MiB, and the number of L2."""

    wall: float
    cpu: float
    memory: float
    number: float


def write_float32(folder: Path) -> Path:
    """A LLaMA of random float32 weights in one file."""
    folder.mkdir()
    tensors, draw = sorted(shapes(SIZE)), np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(build_header((key, "F32", shape) for key, shape in tensors))
        for _, shape in tensors:
            values = draw.random(int(np.prod(shape)), np.float32) * np.float32(0.07) - np.float32(0.035)
            file.write((values + (len(shape) == 1)).astype(np.float32).tobytes())
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": SIZE.hidden,
        "intermediate_size": SIZE.inter,
        "num_hidden_layers": SIZE.layers,
        "num_attention_heads": SIZE.heads,
        "num_key_value_heads": SIZE.kv_heads,
        "vocab_size": SIZE.vocab,
        "rms_norm_eps": 1e-5,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def judge(candidate: Path, reference: Path) -> Judged:
    """Runs in a process of its own."""
    from golden import compare

    for name in ("torch", "transformers.models.llama.modeling_llama", "mixformer"):
        import_module(name)  # what is imported does not count
    before, start, cpu = _status("VmRSS"), time.perf_counter(), time.process_time()
    level = compare(candidate, reference, levels=["L2"], dtype="float32").level("L2")
    assert level.number is not None and str(level.status) == "PASS", level
    assert ("layer by layer" in level.detail) == ("MIXFORMER_MEMORY" in os.environ)
    return Judged(time.perf_counter() - start, time.process_time() - cpu, _status("VmHWM") - before, level.number)


def _status(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _run(candidate: Path, reference: Path, *, layers: bool) -> Judged:
    words = [sys.executable, __file__, "--judge", str(candidate), str(reference)]
    settings = {"MIXFORMER_MEMORY": str(LITTLE)} if layers else {}
    done = subprocess.run(words, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return Judged(**json.loads(done.stdout))


def main() -> None:
    """Prints medians and ratios, and puts every run into `bench-results`."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--judge", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.judge:
        print(json.dumps(asdict(judge(*given.judge))))
        return
    runs: dict[str, list[Judged]] = {"whole": [], "layer by layer": []}
    with scratch() as place:
        reference = write_float32(place / "llama")
        candidate = convert(reference, to="mixformer", output=place / "mixformer").output
        for k in range(given.rounds):
            for name in sorted(runs, reverse=bool(k % 2)):
                warm(reference), warm(candidate)
                runs[name].append(_run(candidate, reference, layers=name != "whole"))
                print(f"round {k + 1}: {name}: {runs[name][-1]}", file=sys.stderr)
    pairs = list(zip(runs["layer by layer"], runs["whole"], strict=True))
    lines = [
        f"L2 of a LLaMA of 1.1 B weights and its MixFormer in float32 ({machine()})",
        *(
            f"- {name}: {spread([r.wall for r in found], '.1f')} s, {spread([r.cpu for r in found], '.1f')} s of "
            f"processor, {median(r.memory for r in found):.0f} MiB"
            for name, found in runs.items()
        ),
        f"- layer by layer over whole: wall {spread([a.wall / b.wall for a, b in pairs])}, processor "
        f"{spread([a.cpu / b.cpu for a, b in pairs])}, memory {spread([a.memory / b.memory for a, b in pairs])}",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "layers.json").write_text(json.dumps({n: [asdict(r) for r in f] for n, f in runs.items()}, indent=2))
    (RESULTS / "layers.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""MixFormer against LlamaForCausalLM with the same weights: forward, backward and cached decoding, on the CPU.

Usage: bench_model.py [--rounds 15] [--threads 2]

Both models are in one interpreter and take turns, the order within a pair alternating; a ratio is ours over theirs
within one pair. Memory is the peak of a fresh process that runs one side alone.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import mixformer  # noqa: F401  (registers the Auto classes)
from converters import convert

RESULTS = Path(__file__).parent.parent / "bench-results"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SIZES = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 8000,
    "max_position_embeddings": 512,
}
IDS = torch.randint(0, 8000, (2, 256), generator=torch.Generator().manual_seed(0))  # (B, S)
NEW_TOKENS = 48


def forward(model: torch.nn.Module) -> None:
    """One pass over (2, 256) tokens without gradients."""
    with torch.no_grad():
        model(input_ids=IDS, use_cache=False)


def backward(model: torch.nn.Module) -> None:
    """One training step's forward and backward pass."""
    model.zero_grad(set_to_none=True)
    model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()


def decode(model: torch.nn.Module) -> None:
    """Greedy decoding with a cache, 48 tokens behind a prompt of 32."""
    prompt = IDS[:1, :32]
    with torch.no_grad():
        out = model(input_ids=prompt, use_cache=True)
        for _ in range(NEW_TOKENS):
            token = out.logits[:, -1:].argmax(-1)  # (1, 1)
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)


WORK: dict[str, Callable[[torch.nn.Module], None]] = {"forward": forward, "backward": backward, "decode": decode}


def seconds(work: Callable[[torch.nn.Module], None], model: torch.nn.Module) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    work(model)
    return time.perf_counter() - start


def pairs(
    work: Callable[[torch.nn.Module], None], theirs: torch.nn.Module, ours: torch.nn.Module, rounds: int
) -> list[tuple[float, float]]:
    """(theirs, ours) seconds of each pair, after one warm-up of both."""
    work(theirs)
    work(ours)
    found = []
    for k in range(rounds):
        sides = [(work, theirs), (work, ours)]
        times = [seconds(*side) for side in (sides if k % 2 else sides[::-1])]
        found.append((times[0], times[1]) if k % 2 else (times[1], times[0]))
    return found


def peak(folder: Path, dtype: str, name: str) -> float:
    """Peak resident memory in MiB of a process that loads one model and runs one kind of work."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return float(pool.apply(_peak, (str(folder), dtype, name)))


def _peak(folder: str, dtype: str, name: str) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype])
    for _ in range(3):
        WORK[name](model)
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def spread(values: Sequence[float]) -> str:
    """Median (lower..upper quartile)."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f}..{high:.3f})"


def main() -> None:
    """Runs the benchmark."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rounds", type=int, default=15)
    words.add_argument("--threads", type=int, default=2)
    options = words.parse_args()
    torch.set_num_threads(options.threads)
    rows, content = [], {}
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "llama"
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(source)
        target = convert(source, output=Path(place) / "ours").output
        for dtype, kind in DTYPES.items():
            theirs, ours = (AutoModelForCausalLM.from_pretrained(f, dtype=kind) for f in (source, target))
            for name, work in WORK.items():
                found = pairs(work, theirs, ours, options.rounds)
                ratios = [mine / other for other, mine in found]
                memory = [peak(folder, dtype, name) for folder in (source, target)]
                content[f"{dtype} {name}"] = {"pairs": found, "peak_mib": memory}
                rows.append(f"| {dtype} | {name} | {spread(ratios)} | {memory[1]:.0f} / {memory[0]:.0f} |")
    head = f"MixFormer / LlamaForCausalLM, {options.rounds} interleaved pairs, {options.threads} threads"
    table = [
        head,
        "",
        "| dtype | work | time ratio, median (quartiles) | peak MiB ours / theirs |",
        "| --- | --- | --- | --- |",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "model.json").write_text(json.dumps(content, indent=2) + "\n")
    (RESULTS / "model.md").write_text("\n".join([*table, *rows]) + "\n")
    print("\n".join([*table, *rows]))


if __name__ == "__main__":
    main()

"""MixFormer against LlamaForCausalLM with the same weights: forward, backward and cached decoding, on the CPU.

Usage: bench_model.py [--rounds 31] [--threads 2] [--processes 3]

Time: both models are in one interpreter and take turns, the order within a pair alternating; a ratio is ours over
theirs within one pair.

Memory: fresh processes load one model each and run one kind of work three times. Counted are the peak of resident
memory since the model was loaded (median of the processes), and the peak of what tensors allocate during one run, which
is the same each time. Two caches are off on both sides, since they keep what no model needs any more and differ from
run to run: malloc gives pages back at once, and the BLAS keeps no buffers.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
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
WITHOUT_CACHES = {"MALLOC_MMAP_THRESHOLD_": "131072", "MKL_DISABLE_FAST_MM": "1"}


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


@dataclass(frozen=True)
class Peak:
    """Memory of a process that runs one side alone, in MiB."""

    resident: float
    tensors: float


def peak(folder: Path, dtype: str, name: str, threads: int, processes: int) -> Peak:
    """Median peak of fresh processes."""
    words = [sys.executable, __file__, "--alone", str(folder), dtype, name, "--threads", str(threads)]
    found = []
    for _ in range(processes):
        run = subprocess.run(words, env={**os.environ, **WITHOUT_CACHES}, capture_output=True, text=True, check=True)
        found.append(Peak(**json.loads(run.stdout.splitlines()[-1])))
    return Peak(*(statistics.median(getattr(p, field) for p in found) for field in ("resident", "tensors")))


def alone(folder: str, dtype: str, name: str) -> Peak:
    """Peak of this process."""
    model, work = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype]), WORK[name]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
    for _ in range(3):
        work(model)
    status = Path("/proc/self/status").read_text().splitlines()
    resident = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    return Peak(resident, allocated(work, model))


def allocated(work: Callable[[torch.nn.Module], None], model: torch.nn.Module) -> float:
    """Largest sum in MiB of what tensors allocated and did not free since the start of a run."""
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work(model)
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    sums = accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(sums) / 2**20


def spread(values: Sequence[float]) -> str:
    """Median (lower..upper quartile)."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f}..{high:.3f})"


def rows(theirs: Path, ours: Path, options: argparse.Namespace) -> Iterator[tuple[str, dict[str, object]]]:
    """A line of the table and what it is made of, for each dtype and kind of work."""
    for dtype, kind in DTYPES.items():
        models = [AutoModelForCausalLM.from_pretrained(folder, dtype=kind) for folder in (theirs, ours)]
        for name, work in WORK.items():
            found = pairs(work, *models, options.rounds)
            other, mine = (peak(folder, dtype, name, options.threads, options.processes) for folder in (theirs, ours))
            cells = [
                dtype,
                name,
                spread([second / first for first, second in found]),
                f"{mine.resident / other.resident:.3f} ({mine.resident:.0f} / {other.resident:.0f})",
                f"{mine.tensors / other.tensors:.2f} ({mine.tensors:.1f} / {other.tensors:.1f})",
            ]
            content = {"pairs": found, "peak_mib": {"theirs": asdict(other), "ours": asdict(mine)}}
            yield f"| {' | '.join(cells)} |", {f"{dtype} {name}": content}


def compare(options: argparse.Namespace) -> None:
    """Prints the table, and writes it and what it is made of."""
    lines = [
        f"MixFormer / LlamaForCausalLM, {options.rounds} interleaved pairs, {options.threads} threads",
        "",
        "| dtype | work | time ratio, median (quartiles) | process peak, ratio (MiB) | tensor peak, ratio (MiB) |",
        "| --- | --- | --- | --- | --- |",
    ]
    content = {}
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "llama"
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(source)
        for line, made_of in rows(source, convert(source, output=Path(place) / "ours").output, options):
            lines.append(line)
            content.update(made_of)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "model.json").write_text(json.dumps(content, indent=2) + "\n")
    (RESULTS / "model.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    """Runs the benchmark, or one side of it."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rounds", type=int, default=31)
    words.add_argument("--threads", type=int, default=2)
    words.add_argument("--processes", type=int, default=3)
    words.add_argument("--alone", nargs=3, metavar=("FOLDER", "DTYPE", "WORK"), help="measure the memory of one side")
    options = words.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        print(json.dumps(asdict(alone(*options.alone))))
    else:
        compare(options)


if __name__ == "__main__":
    main()

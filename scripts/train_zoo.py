"""Trains the built-in samples: one tiny model of each family, in the family's own form, on English prose.

    python scripts/train_zoo.py [FAMILY ...] [--text FILE]

One token is one byte. Each model is trained by its reference implementation on one thread, from a fixed seed, and is
written to converters/samples_data/FAMILY, with training.json beside it: what was measured on the stored weights. The
tests get an excerpt of the held-out text and a golden of each model, in tests/samples. Another machine or release of
torch can give other last digits. A model that has not learned enough is not written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import shutil
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from zoo_models import RECIPES, Recipe
from zoo_text import PACKAGE, fetch, parts, prose

from converters.sample import write_sample
from golden import record
from golden.models.loading import load_model

ROOT = Path(__file__).parents[1]
MODELS, EXCERPT = ROOT / "converters" / "samples_data", ROOT / "tests" / "samples" / "held_out.txt"
SEED, RATE, WARM_UP, TOKENS = 20, 8e-3, 60, 1024  # TOKENS: of a step
MEASURED, IN_REPO = 32768, 16384  # bytes of the held-out text: those measured, and those that the tests keep
MOST_LOSS, SHUFFLED_WORSE = 1.9, 1.5  # nats a byte
GOLDEN_TOKENS = 64  # of a prompt at most, so that a golden stays below a megabyte


def batch(ids: Tensor, context: int) -> Tensor:
    """Windows from anywhere in the text, (TOKENS / context, context + 1), int64."""
    starts = torch.randint(len(ids) - context - 1, (TOKENS // context,))
    return torch.stack([ids[start : start + context + 1] for start in starts]).long()


def loss_of(model: nn.Module, rows: Tensor) -> Tensor:
    """Mean cross-entropy of each byte given those before it in its row, in nats."""
    logits = model(rows[:, :-1]).logits  # (rows, tokens, vocabulary)
    return cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def rate(step: int, steps: int) -> float:
    """A linear warm-up, then a cosine to zero; as a factor of the learning rate."""
    return min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def train(recipe: Recipe, text: bytes) -> nn.Module:
    """A trained model."""
    torch.manual_seed(SEED)
    model, ids = recipe.make().train(), torch.frombuffer(bytearray(text), dtype=torch.uint8)
    options = {"lr": RATE, "betas": (0.9, 0.98), "weight_decay": recipe.decay, "fused": True}
    optimiser = torch.optim.AdamW(model.parameters(), **options)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, recipe.steps))
    recipe.after_step(model)
    for step in range(recipe.steps):
        optimiser.zero_grad()
        loss = loss_of(model, batch(ids, recipe.context))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recipe.after_step(model)
        if step % 100 == 0:
            print(f"  step {step}: {loss.item():.3f}", flush=True)
    return model.eval()


@torch.no_grad()
def measured(model: nn.Module, context: int, text: bytes) -> float:
    """Nats a byte, over whole windows of the text."""
    ids = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    rows = ids[: len(ids) // context * context].view(-1, context)
    return sum(loss_of(model, chunk).item() * len(chunk) for chunk in rows.split(32)) / len(rows)


def shuffled(text: bytes) -> bytes:
    """The same bytes in a random order, by a fixed seed."""
    return bytes(random.Random(SEED).sample(list(text), len(text)))


def figures(folder: Path, context: int, held_out: bytes) -> dict[str, float]:
    """Losses of a stored model in float32.

    Raises:
        SystemExit: it has not learned enough.
    """
    model = load_model(folder, torch.float32, "eager").model
    texts = {"held_out": held_out[:MEASURED], "excerpt": held_out[:IN_REPO]}
    found = {name: measured(model, context, text) for name, text in texts.items()}
    found |= {f"{name}_shuffled": measured(model, context, shuffled(text)) for name, text in texts.items()}
    print(f"  {found}")
    if found["held_out"] > MOST_LOSS or found["held_out_shuffled"] - found["held_out"] < SHUFFLED_WORSE:
        raise SystemExit(f"{folder.name} has not learned enough; it is not written")
    return {name: round(value, 4) for name, value in found.items()}


def write(family: str, text: bytes) -> None:
    """Trains, measures and writes one model."""
    learned, held_out = parts(text)
    began = time.process_time()
    recipe, model = RECIPES[family], train(RECIPES[family], learned)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / family
        folder.mkdir()
        recipe.save(model, folder)
        found = {
            "text": {"package": PACKAGE, "bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()},
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "training": {"seed": SEED, "steps": recipe.steps, "tokens": recipe.steps * TOKENS},
            "context": recipe.context,
            "nats_a_byte": figures(folder, recipe.context, held_out),
        }
        (folder / "training.json").write_text(json.dumps(found, indent=2) + "\n")
        for name in ("config.json", "model.safetensors", "training.json"):
            (MODELS / family).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, MODELS / family / name)
        sample = write_sample(Path(place) / "sample", family)
        record(sample, EXCERPT.with_name(f"{family}.golden.safetensors"), tokens=GOLDEN_TOKENS, force=True)
    print(f"{family}: {time.process_time() - began:.0f} s of CPU")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("family", nargs="*", choices=[*RECIPES, []], default=list(RECIPES))
    parser.add_argument("--text", type=Path, help=f"the data file of {PACKAGE}, if it is at hand")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    text = prose(asked.text.read_bytes() if asked.text else fetch())
    EXCERPT.parent.mkdir(parents=True, exist_ok=True)
    EXCERPT.write_bytes(parts(text)[1][:IN_REPO])
    for family in asked.family:
        print(family, flush=True)
        write(family, text)


if __name__ == "__main__":
    main()

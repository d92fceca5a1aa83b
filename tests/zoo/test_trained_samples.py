"""The trained samples: they have learned English, the MixFormers made of them have learned as much, and goldens fit."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from converters import convert
from converters.alignment import equal_folders
from converters.sample import TRAINED, write_sample
from golden import Status, compare
from golden.models.loading import load_model

FAMILIES = ("codegen", "gpt2", "llama", "ngpt-nvidia")
KEPT = Path(__file__).parents[1] / "samples"  # the excerpt of the held-out text, and the goldens
LARGEST, ALL = 1_000_000, 10_000_000  # bytes
MOST_LOSS, SHUFFLED_WORSE = 1.9, 1.5  # nats a byte


def text(shuffled: bool = False) -> bytes:
    """The excerpt; shuffled as scripts/train_zoo.py does."""
    found = (KEPT / "held_out.txt").read_bytes()
    return bytes(random.Random(20).sample(list(found), len(found))) if shuffled else found


@torch.no_grad()
def loss(model: Any, given: bytes, context: int = 128) -> float:
    """Nats a byte, over rows of the context."""
    rows = torch.tensor(list(given)).view(-1, context)
    logits: Tensor = model(rows[:, :-1]).logits
    return float(cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Each family's sample, and the MixFormer that it becomes."""
    place = tmp_path_factory.mktemp("samples")
    found = {}
    for family in FAMILIES:
        theirs = write_sample(place / family, family)
        found[family] = theirs, convert(theirs, family, output=place / f"{family}-ours").output
    return found


def test_these_are_all_and_they_are_small():
    assert sorted(path.name for path in TRAINED.iterdir()) == list(FAMILIES)
    sizes = [path.stat().st_size for place in (TRAINED, KEPT) for path in place.rglob("*") if path.is_file()]
    assert max(sizes) <= LARGEST and sum(sizes) <= ALL


@pytest.mark.parametrize("family", FAMILIES)
def test_it_has_learned_english(family, samples):
    training = json.loads((TRAINED / family / "training.json").read_text())
    said, context = training["nats_a_byte"], training["context"]
    assert said["held_out"] <= MOST_LOSS and said["held_out_shuffled"] >= said["held_out"] + SHUFFLED_WORSE
    assert said["excerpt_shuffled"] >= said["excerpt"] + SHUFFLED_WORSE
    for folder in samples[family]:
        model = load_model(folder, torch.float32, "eager").model
        assert loss(model, text(), context) == pytest.approx(said["excerpt"], abs=2e-3)
        assert loss(model, text(shuffled=True), context) == pytest.approx(said["excerpt_shuffled"], abs=2e-3)


def test_a_model_that_has_not_learned_is_seen(samples):
    """The control: the same config with fresh weights."""
    from transformers import AutoConfig

    torch.manual_seed(0)
    fresh = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(samples["llama"][0])).eval()
    assert loss(fresh, text()) > MOST_LOSS + SHUFFLED_WORSE


@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_is_a_byte(family, samples):
    tokenizer = AutoTokenizer.from_pretrained(samples[family][0])
    word = "Zürich, 1811\n"
    assert tokenizer(word)["input_ids"] == list(word.encode())
    assert tokenizer.decode(list(word.encode())) == word


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_written_byte_for_byte_and_comes_back(family, samples, tmp_path):
    theirs, ours = samples[family]
    again = write_sample(tmp_path / "again", family)
    assert {path.name for path in again.iterdir()} == {path.name for path in theirs.iterdir()}
    assert all((theirs / path.name).read_bytes() == path.read_bytes() for path in again.iterdir())
    for name in ("config.json", "model.safetensors"):
        assert (theirs / name).read_bytes() == (TRAINED / family / name).read_bytes()
    assert equal_folders(theirs, convert(ours, to=family, output=tmp_path / "back").output) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_its_golden_passes_the_conversion_and_fails_a_fault(family, samples, tmp_path):
    golden, ours = KEPT / f"{family}.golden.safetensors", samples[family][1]
    assert compare(ours, golden=golden, levels=["L0", "L2", "L4"]).verdict is Status.PASS
    weights = load_file(ours / "model.safetensors")
    key = next(key for key in weights if key.endswith("Wqkv.weight"))
    weights[key][0, 0] *= -1
    spoiled = tmp_path / "spoiled"
    spoiled.mkdir()
    (spoiled / "config.json").write_bytes((ours / "config.json").read_bytes())
    save_file(weights, spoiled / "model.safetensors", metadata={"format": "pt"})
    assert compare(spoiled, golden=golden, levels=["L2"]).verdict is Status.FAIL

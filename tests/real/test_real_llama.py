"""Trained LLaMAs there and back: equal files, one function, one text, and numbers that only a right layout reaches."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import mixformer  # noqa: F401
from converters import convert
from converters.alignment import equal_folders
from golden import compare, verdict_lines

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]

MOON = (
    "The Moon is the only natural satellite of the Earth. It orbits at an average distance of about 384,400 kilometres,"
    " roughly thirty times the diameter of the Earth. The gravitational pull of the Moon is the main driver of the"
    " tides, and it slowly makes the day longer. Because the Moon is tidally locked, the same side always faces the"
    " Earth, and the far side was not seen until a spacecraft photographed it in 1959. Ten years later, two astronauts"
    " walked on its surface and returned safely with samples of rock and soil."
)
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her friends. One"
    " day, she saw a big red ball near the tree. She wanted to play with it, but it was too high. Her mom helped her"
    " and they were very happy. Then they went home and ate a yummy cake."
)


@pytest.fixture(scope="module")
def there_and_back(smollm2, tmp_path_factory) -> tuple[Path, Path, Path]:
    place = tmp_path_factory.mktemp("smollm2")
    ours = convert(smollm2, output=place / "ours").output
    return smollm2, ours, convert(ours, to="llama", output=place / "back").output


def perplexity(folder: Path, ids: torch.Tensor) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return math.exp(model(input_ids=ids, labels=ids).loss)


def greedy(folder: Path, ids: torch.Tensor, count: int) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.generate(ids, max_new_tokens=count, do_sample=False, attention_mask=torch.ones_like(ids))


def test_smollm2_round_trip_is_equal(there_and_back):
    source, _, back = there_and_back
    assert equal_folders(source, back) == []


def test_smollm2_is_the_same_function(there_and_back):
    source, ours, _ = there_and_back
    verdict = compare(ours, source)
    print("\n".join(["", *verdict_lines(verdict)]))
    assert verdict.verdict == "PASS"
    fp32 = compare(ours, source, levels=["L2"], dtype="float32").level("L2")
    print(f"SmolLM2 in fp32: relative rms {fp32.number:.3g}")
    assert fp32.status == "PASS" and fp32.number <= 1e-5


def test_smollm2_reads_the_moon_paragraph_as_well_as_it_should(there_and_back):
    source, *converted = there_and_back
    ids = AutoTokenizer.from_pretrained(source)(MOON, return_tensors="pt").input_ids
    found = [perplexity(folder, ids) for folder in (source, *converted)]
    print(f"\nperplexity of the Moon paragraph ({ids.shape[1]} tokens): {found}")
    assert [round(value, 2) for value in found] == [11.63] * 3
    assert max(found) - min(found) < 1e-4


def test_smollm2_writes_the_same_text(there_and_back):
    source, ours, _ = there_and_back
    tokenizer = AutoTokenizer.from_pretrained(ours)
    chat = [{"role": "user", "content": "What is the capital of Japan?"}]
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    ).input_ids
    texts = [tokenizer.decode(greedy(folder, ids, 40)[0, ids.shape[1] :]) for folder in (source, ours)]
    print(f"\nLLaMA:     {texts[0]!r}\nMixFormer: {texts[1]!r}")
    assert texts[0] == texts[1] and texts[0].startswith("The capital of Japan is Tokyo.")


def test_stories260k_tells_its_published_story(stories260k, tmp_path):
    ours = convert(stories260k, output=tmp_path / "ours").output
    back = convert(ours, to="llama", output=tmp_path / "back").output
    assert equal_folders(stories260k, back) == []
    tokenizer = AutoTokenizer.from_pretrained(ours)
    start = torch.tensor([[1]])
    texts = [tokenizer.decode(greedy(folder, start, 200)[0, 1:]) for folder in (stories260k, ours)]
    print(f"\n{texts[1][:240]}")
    assert texts[0] == texts[1] and "She wanted to play with it, but it was too high." in texts[1]
    ids = torch.tensor([[1, *tokenizer(STORY, add_special_tokens=False).input_ids]])
    assert round(perplexity(ours, ids), 2) == pytest.approx(2.27, abs=0.011)
    assert compare(ours, stories260k, levels=["L0", "L1", "L2"]).level("L2").number <= 1e-10

"""A trained GPT-2 there and back: MGM, whose language is the genera of microbiomes."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import mixformer  # noqa: F401
from converters import convert
from converters.alignment import equal_folders
from golden import compare, verdict_lines

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]

GUT = (
    "Bacteroides Faecalibacterium Prevotella Roseburia Blautia Bifidobacterium Alistipes Parabacteroides Ruminococcus"
    " Coprococcus Dorea Akkermansia Lachnospira Oscillospira Streptococcus Dialister Sutterella Bilophila Odoribacter"
    " Collinsella Escherichia Haemophilus Veillonella"
).split()
COMMUNITY = "Bacteroides Parabacteroides Alistipes Faecalibacterium Roseburia Agathobacter".split()
BOS = 2


@pytest.fixture(scope="module")
def there_and_back(mgm, tmp_path_factory) -> tuple[Path, Path, Path]:
    source, _ = mgm
    place = tmp_path_factory.mktemp("mgm")
    ours = convert(source, "gpt2", output=place / "ours").output
    return source, ours, convert(ours, to="gpt2", output=place / "back").output


def model(folder: Path) -> AutoModelForCausalLM:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def test_mgm_round_trip_is_equal(there_and_back):
    source, _, back = there_and_back
    assert [line for line in equal_folders(source, back) if "conversion" not in line] == []


def test_mgm_is_the_same_function(there_and_back):
    _, ours, back = there_and_back
    verdict = compare(ours, back)  # the source is a pickle, which golden does not load; its tensors are those of back
    print("\n".join(["", *verdict_lines(verdict)]))
    assert verdict.verdict == "PASS"
    assert (verdict.level("L2").number or 0.0) <= 1e-10


def test_mgm_knows_its_genera_on_both_sides(there_and_back, mgm):
    """Figures that only a right layout reaches: greedy genera of a gut, and the perplexity of a list of them."""
    _, vocabulary = mgm
    names = {number: name for name, number in vocabulary.items()}
    ids = torch.tensor([[BOS, *(vocabulary[f"g__{genus}"] for genus in GUT)]])
    for folder in there_and_back:
        loaded = model(folder)
        start = torch.tensor([[BOS]])
        text = loaded.generate(start, max_new_tokens=6, do_sample=False, attention_mask=torch.ones_like(start))
        assert [names[int(n)].removeprefix("g__") for n in text[0, 1:]] == COMMUNITY
        with torch.no_grad():
            perplexity = math.exp(loaded(input_ids=ids, labels=ids).loss)
        assert perplexity == pytest.approx(93, abs=1)
        print(f"{folder.name}: perplexity {perplexity:.2f}")

"""How often place and cause are named right, over seeded mistakes in models of all families."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from golden.faults.self_testing import known_families

sys.path.insert(0, str(Path(__file__).parent))
from mistakes import Mistake, mistakes, touched
from planted import ConvertedModel, Outcome, diagnosed, open_converted

SINGLE, PAIRS = 10, 2
"""Mistakes, and pairs of them, that are planted into each family."""


def outcomes(folder: Path, families: tuple[str, ...], single: int, pairs: int) -> tuple[list[Outcome], list[Outcome]]:
    alone, together = [], []
    for number, family in enumerate(families):
        model, rng = open_converted(family, number, folder / family), random.Random(number)
        known = list(mistakes(model.sound))
        for k, mistake in enumerate(rng.sample(known, min(single, len(known)))):
            alone.append(diagnosed(model, [mistake], k, folder / family / f"one-{k}"))
        for k in range(pairs):
            two = _pair(rng, model, known)
            together.append(diagnosed(model, two, k, folder / family / f"two-{k}"))
    return alone, together


def _pair(rng: random.Random, model: ConvertedModel, known: list[Mistake]) -> list[Mistake]:
    """Two mistakes in other parts: of two in one part neither can be told alone."""
    while True:
        two = rng.sample(known, 2)
        one, other = (touched(model.sound, mistake) for mistake in two)
        if not one & other and not all("config" in names for names in (one, other)):
            return two


def _rate(right: list[bool]) -> float:
    return sum(right) / len(right)


@pytest.mark.slow
def test_places_and_causes_are_named_right(tmp_path: Path) -> None:
    alone, together = outcomes(tmp_path, known_families()[0], SINGLE, PAIRS)
    for outcome in (*alone, *together):
        if not (outcome.place_is_right and all(outcome.named)) or outcome.wrong:
            print(outcome.names, "|", outcome.place, "|", outcome.said.first_divergence, "|", outcome.said.hypothesis)
    places, named = _rate([o.place_is_right for o in alone]), _rate([all(o.named) for o in alone])
    first, both = _rate([o.place_is_right for o in together]), _rate([all(o.named) for o in together])
    wrong = [claim for outcome in (*alone, *together) for claim in outcome.wrong]
    print(f"{len(alone)} mistakes: place {places:.1%}, cause {named:.1%}")
    print(f"{len(together)} pairs: first place {first:.1%}, both {both:.1%}; {len(wrong)} wrong claims")
    assert len(alone) >= 300 and all(outcome.failed for outcome in (*alone, *together))
    assert places >= 0.99 and named >= 0.95
    assert first == 1.0 and both >= 0.8
    assert wrong == []


def test_a_wrong_claim_and_a_wrong_place_are_counted(tmp_path: Path) -> None:
    """The control: what is said of one mistake is held against another."""
    model = open_converted("llama", 0, tmp_path)
    known = {mistake.name: mistake for mistake in mistakes(model.sound)}
    right = diagnosed(model, [known["gate and up swapped"]], 0, tmp_path / "right")
    assert right.place_is_right and right.named == (True,) and right.wrong == []
    other = Outcome(right.names, "layer 2", True, right.said, (known["k and v swapped"].claim,))
    assert not other.place_is_right and other.named == (False,) and len(other.wrong) == 1

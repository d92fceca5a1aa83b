"""A field is harmless where a model of transformers computes the same with it; at any other value it is refused.

All harmless fields of a family are set at once, at each of their values in turn. A field that is read would show.
"""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from converters.config.echo import Echo
from converters.config.entries import Theirs
from converters.config.harmless import ALL, FACTS, LAYERS, REPEATED, SWITCHED_OFF, TEXT, harmless_fields
from converters.config.kinds import BOOL, FRACTION, POSITIVE, POSITIVE_INT, TOKENS, Kind, one_of
from converters.errors import ConfigRefused
from converters.family import get_family
from golden.models.hot import make_hot
from golden.models.loading import silenced

SIDES = one_of("left", "right").words
# What is sound for a kind, and what is not.
SAMPLES: dict[str, tuple[tuple[object, ...], object]] = {
    BOOL.words: ((True, False), "yes"),
    POSITIVE_INT.words: ((1, 4096), -1),
    POSITIVE.words: ((4096, 1e30), -1),
    TOKENS.words: ((2, [2, 7]), "</s>"),
    TEXT.words: (("x",), 3),
    FRACTION.words: ((0.0, 0.1), 3.0),
    SWITCHED_OFF.words: ((-1, 4), "x"),
    LAYERS.words: ((0, 28), "x"),
    SIDES: (("left", "right"), "middle"),
}


def another(value: object) -> object:
    """A value of the same kind that is not known to mean nothing."""
    return (not value) if isinstance(value, bool) else "paged" if isinstance(value, str) else value + 1


def samples(entry: Theirs) -> list[object]:
    kind: Kind | None = entry.kind
    return [*entry.values, *(SAMPLES[kind.words][0] if kind else ())]


def theirs(family: str, place: Path, **changes: object) -> Path:
    """The folder of a hot model, with changes to its config.json."""
    folder = place if (place / "config.json").exists() else make_hot(family, place)
    plain = place / "plain.json"
    if not plain.exists():
        plain.write_text((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**json.loads(plain.read_text()), **changes}))
    return folder


def computed(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and a greedy continuation with a cache, by transformers."""
    ids = torch.randint(0, 331, (2, 40), generator=torch.Generator().manual_seed(3))
    with silenced(), torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        return model(ids).logits, model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)


def fields(family: str) -> list[Theirs]:
    return [entry for entry in harmless_fields(family) if isinstance(entry, Theirs)]


def repeated(family: str, folder: Path) -> dict[str, object]:
    config = json.loads((folder / "config.json").read_text())
    return {entry.name: entry.value(config) for entry in harmless_fields(family) if isinstance(entry, Echo)}


@pytest.mark.parametrize("family", ALL)
def test_logits_and_text_are_the_same_at_every_value(family, tmp_path):
    folder = theirs(family, tmp_path)
    logits, text = computed(folder)
    rounds = max(len(samples(entry)) for entry in fields(family))
    for k in range(rounds):
        said = {entry.name: samples(entry)[k % len(samples(entry))] for entry in fields(family)}
        found = computed(theirs(family, tmp_path, **said, **repeated(family, folder)))
        assert torch.equal(found[0], logits) and torch.equal(found[1], text), k


@pytest.mark.parametrize("family", ALL)
def test_a_field_that_is_read_would_show(family, tmp_path):
    """The control: the eps of the norms."""
    name = next(
        n for n in ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon") if n in theirs_config(family, tmp_path)
    )
    logits, _ = computed(theirs(family, tmp_path))
    found, _ = computed(theirs(family, tmp_path, **{name: 0.1}))
    assert not torch.equal(found, logits)


def theirs_config(family: str, place: Path) -> dict[str, object]:
    return json.loads((theirs(family, place) / "config.json").read_text())


@pytest.mark.parametrize("family", ALL)
def test_every_value_is_taken_and_any_other_is_refused_by_name(family, tmp_path):
    config, table = theirs_config(family, tmp_path), get_family(family).config
    for entry in harmless_fields(family):
        if isinstance(entry, Echo):
            sound, other = [entry.value(config)], "x"
        else:
            first = next((value for value in entry.values if value is not None), None)
            sound, other = samples(entry), SAMPLES[entry.kind.words][1] if entry.kind else another(first)
        for value in sound:
            residue = table.to_ours({**config, entry.name: value}, family)["converted_from"]
            assert residue["fields"][entry.name] == value
        with pytest.raises(ConfigRefused, match=rf"\b{entry.name} is"):
            table.to_ours({**config, entry.name: other}, family)


@pytest.mark.parametrize("family", ALL)
def test_no_field_has_two_entries(family):
    names = [name for entry in get_family(family).config.entries for name in entry.theirs]
    assert sorted(names) == sorted(set(names))
    assert not set(names) & get_family(family).config.free


def test_each_fact_says_why_and_is_of_known_families():
    for fact in (*FACTS, *REPEATED):
        assert fact.why and set(fact.families) <= set(ALL)

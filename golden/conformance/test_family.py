"""The suite: round trips, equal functions, switches drawn, inverse moves, wrong tables found, fine-tuning returned."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import mixformer  # noqa: F401  registers the Auto classes
from converters import convert
from converters.algebra.strided import assemble
from converters.algebra.views import View
from converters.alignment import align, equal_folders
from converters.checkpoint.opening import open_checkpoint
from converters.config import layout
from converters.errors import ConversionError
from converters.family import Family
from converters.plan.rules import bound_rules, theirs_shapes
from golden import compare, verdict_lines
from golden.conformance.mutations import mutations
from golden.conformance.planting import plant_family
from golden.conformance.plugin import NeverDrawn
from golden.conformance.switches import converted_configs, never_on
from golden.conformance.variants import refused_as, variants
from golden.models.hot import make_hot, recipe

LEAST_MUTATIONS, QUICK_MUTATIONS = 8, 4


def both_ways(source: Path, family: Family, place: Path) -> tuple[Path, Path]:
    """(ours, back)."""
    ours = convert(source, family.name, output=place / "ours").output
    return ours, convert(ours, to=family.name, output=place / "back").output


@contextmanager
def skipped_if_on_purpose(family: Family) -> Iterator[None]:
    """Skips the test if the family refuses something that its hot recipe names; any other refusal is raised.

    Raises:
        ConversionError: the family refuses something and does not say so.
    """
    try:
        yield
    except ConversionError as refusal:
        if (name := refused_as(family.name, refusal)) is None:
            raise
        pytest.skip(f"{family.name} refuses this on purpose: {name}")


def test_a_variant_returns_equal_and_is_one_function(conforming: Family, seed: int, tmp_path: Path) -> None:
    """Round trip, config round trip, structure, weights and function."""
    source = make_hot(conforming.name, tmp_path / "hot", seed, **variants(conforming.name)[seed])
    with skipped_if_on_purpose(conforming) if seed else nullcontext():
        ours = convert(source, conforming.name, output=tmp_path / "ours").output
    back = convert(ours, to=conforming.name, output=tmp_path / "back").output
    assert equal_folders(source, back) == []
    assert json.loads((source / "config.json").read_text()) == json.loads((back / "config.json").read_text())
    verdict = compare(ours, source, levels=["L0", "L1", "L2"])
    assert verdict.verdict == "PASS", "\n".join(verdict_lines(verdict))
    assert (verdict.level("L2").number or 0.0) <= 1e-10


def test_every_switch_is_on_in_some_variant(conforming: Family) -> None:
    """Some variants besides the first convert; switches that are on in none of them are told in a warning."""
    configs = converted_configs(conforming)
    assert len(configs) > 1, f"{conforming.name} converts no variant of its hot model: give its hot recipe draws"
    if missing := never_on(conforming, configs):
        named = ", ".join(missing)
        advice = "nothing was tested of it: add values to the draws of its hot recipe"
        warnings.warn(NeverDrawn(f"{conforming.name}: no variant has {named}; {advice}"), stacklevel=1)


def test_every_rule_undoes_itself_on_data(conforming: Family, hot_checkpoint: Path) -> None:
    """The inverse of a move's inverse is the move, and a move and its inverse return every element."""
    resolved = layout.resolve(conforming.config.to_ours(open_checkpoint(hot_checkpoint).config, conforming.name))
    dims, ours = conforming.dims(resolved), conforming.tensors(resolved)
    for rule in bound_rules(conforming, resolved):
        assert rule.move.inverse.inverse == rule.move
        shapes = theirs_shapes([rule], dims, ours)
        views = [View.of(key, shape, "F32") for key, shape in shapes.items()]
        data = {key: np.arange(k, k + np.prod(shape), dtype="<u4") for k, (key, shape) in enumerate(shapes.items())}
        moved = rule.move(views, dims).views
        back = rule.move.inverse(moved, dims).views
        for view, original in zip(back, data.values(), strict=True):
            found = assemble(len(original), 4, view.pieces, {key: d.tobytes() for key, d in data.items()}.__getitem__)
            assert (found == original).all()


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_wrong_table_round_trips_and_fails_by_its_function(
    conforming: Family, hot_checkpoint: Path, quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong rules of every kind, each caught by L2 without any record of the conversion; harmless ones are not."""
    resolved = layout.resolve(conforming.config.to_ours(open_checkpoint(hot_checkpoint).config, conforming.name))
    found, harmless = mutations(conforming, resolved), recipe(conforming.name).harmless
    assert set(harmless) <= set(found), "the hot recipe names a wrong table that there is not"
    wrong = [name for name in found if name not in harmless]
    assert len(wrong) >= min(LEAST_MUTATIONS, len(conforming.rules(resolved)) - 1)
    count = min(len(wrong), QUICK_MUTATIONS) if quick else len(wrong)
    chosen = [wrong[n * len(wrong) // count] for n in range(count)]
    for k, name in enumerate((*chosen, *harmless)):
        with monkeypatch.context() as patch:
            plant_family(patch, found[name])
            ours, back = both_ways(hot_checkpoint, conforming, tmp_path / str(k))
            assert equal_folders(hot_checkpoint, back) == [], name
        (ours / "conversion.json").unlink()
        expected = "PASS" if name in harmless else "FAIL"
        assert compare(ours, hot_checkpoint, levels=["L2"]).verdict == expected, name


def test_what_fine_tuning_changed_comes_home_and_nothing_else(
    conforming: Family, hot_checkpoint: Path, tmp_path: Path
) -> None:
    """One parameter is changed in the MixFormer; only its tensors have other numbers on the way back."""
    ours, _ = both_ways(hot_checkpoint, conforming, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(ours)
    name, parameter = [(n, p) for n, p in model.named_parameters() if n.startswith("layers.1.")][-1]
    with torch.no_grad():
        parameter.mul_(1.5)
    model.save_pretrained(tmp_path / "tuned")
    back = convert(tmp_path / "tuned", to=conforming.name, output=tmp_path / "tuned-back").output
    record = json.loads((ours / "conversion.json").read_text())
    alignment = align(back, hot_checkpoint)  # a parameter that is kept in float32 is stored in it from now on
    assert alignment.problems == ()
    assert sorted(found.candidate_key for found in alignment.differing()) == sorted(record["keys"][name])
    assert compare(back, tmp_path / "tuned", levels=["L2"]).verdict == "PASS"

"""The suite: bitwise equal round trips, equal functions, inverse moves, wrong tables caught, fine-tuning kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from converters import convert
from converters import family as registry
from converters.algebra.strided import assemble
from converters.algebra.views import View
from converters.alignment import equal_folders
from converters.checkpoint.opening import open_checkpoint
from converters.config import layout
from converters.family import Family
from converters.plan.rules import bound_rules, theirs_shapes
from golden import compare
from golden.conformance.mutations import mutations
from golden.conformance.variants import variant
from golden.models.hot import make_hot

SEEDS = 5
LEAST_MUTATIONS, QUICK_MUTATIONS = 8, 10


def both_ways(source: Path, family: Family, place: Path) -> tuple[Path, Path]:
    """(ours, back)."""
    ours = convert(source, family.name, output=place / "ours").output
    return ours, convert(ours, to=family.name, output=place / "back").output


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_variant_returns_equal_and_is_one_function(conforming: Family, seed: int, tmp_path: Path) -> None:
    """Round trip, config round trip, structure, weights and function."""
    source = make_hot(conforming.name, tmp_path / "hot", seed, **variant(conforming.name, seed))
    ours, back = both_ways(source, conforming, tmp_path)
    assert equal_folders(source, back) == []
    assert json.loads((source / "config.json").read_text()) == json.loads((back / "config.json").read_text())
    verdict = compare(ours, source, levels=["L0", "L1", "L2"])
    assert verdict.verdict == "PASS", verdict
    assert (verdict.level("L2").number or 0.0) <= 1e-10


def test_every_rule_undoes_itself_on_data(conforming: Family, hot_checkpoint: Path) -> None:
    """The inverse of a move's inverse is the move, and a move and its inverse return every element."""
    resolved = layout.resolve(conforming.config.to_ours(open_checkpoint(hot_checkpoint).config, conforming.name))
    dims, ours = conforming.dims(resolved), layout.tensors(resolved)
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
    """At least eight mutations of the family's rules, each caught by L2 without any record of the conversion."""
    resolved = layout.resolve(conforming.config.to_ours(open_checkpoint(hot_checkpoint).config, conforming.name))
    wrong = mutations(conforming, resolved)
    assert len(wrong) >= LEAST_MUTATIONS
    chosen = list(wrong.items())
    count = min(len(chosen), QUICK_MUTATIONS) if quick else len(chosen)
    for k, (name, table) in enumerate(chosen[n * len(chosen) // count] for n in range(count)):
        with monkeypatch.context() as patch:
            patch.setattr(registry, "_found", lambda table=table: {conforming.name: table})
            patch.setattr(registry, "_plugins", dict)
            ours, back = both_ways(hot_checkpoint, conforming, tmp_path / str(k))
            assert equal_folders(hot_checkpoint, back) == [], name
        (ours / "conversion.json").unlink()
        assert compare(ours, hot_checkpoint, levels=["L2"]).verdict == "FAIL", name


def test_what_fine_tuning_changed_comes_home_and_nothing_else(
    conforming: Family, hot_checkpoint: Path, tmp_path: Path
) -> None:
    """One parameter is changed in the MixFormer; only its tensors differ on the way back."""
    ours, _ = both_ways(hot_checkpoint, conforming, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(ours)
    name, parameter = next((n, p) for n, p in model.named_parameters() if n.endswith("fc2.weight"))
    with torch.no_grad():
        parameter.mul_(1.5)
    model.save_pretrained(tmp_path / "tuned")
    back = convert(tmp_path / "tuned", to=conforming.name, output=tmp_path / "tuned-back").output
    record = json.loads((ours / "conversion.json").read_text())
    (theirs,) = record["keys"][name]
    differing = [line for line in equal_folders(hot_checkpoint, back) if "generation_config" not in line]
    assert [line.split(":")[0] for line in differing] == [theirs]
    assert compare(back, tmp_path / "tuned", levels=["L2"]).verdict == "PASS"

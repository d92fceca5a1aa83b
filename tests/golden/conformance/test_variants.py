"""What the suite draws for a family, and how it tells what it did not draw."""

from dataclasses import replace

import pytest

from converters.config.entries import Choice, Flag
from converters.config.table import ConfigTable
from converters.errors import ConfigRefused
from converters.family import Hot, get_family
from golden.conformance.switches import converted_configs, never_on
from golden.conformance.variants import CHOICES, refused_as, variants
from golden.errors import UnknownLevelError
from golden.models import hot
from golden.models.hot_recipes import RECIPES


@pytest.fixture
def recipe_of(monkeypatch):
    """Gives a built-in family another hot recipe for a while."""
    return lambda name, found: monkeypatch.setattr(hot, "RECIPES", {**RECIPES, name: found})


@pytest.mark.parametrize("name", RECIPES)
def test_every_value_of_every_field_is_drawn_and_no_switch_is_left_off(name):
    drawn = variants(name)
    assert drawn[0] == {} and len(drawn) >= 5
    known = vars(hot.hot_config(name))
    for field, values in {**CHOICES, **RECIPES[name].draws}.items():
        if field in known or field in RECIPES[name].draws:
            assert all(any(one[field] == value for one in drawn[1:]) for value in values), field
    family = get_family(name)
    configs = converted_configs(family)
    assert len(configs) == len(drawn)
    assert never_on(family, configs) == []


def test_another_field_or_value_changes_no_other_draw(recipe_of):
    before = variants("gpt2")
    recipe_of("gpt2", replace(RECIPES["gpt2"], draws={"n_positions": (32, 64)}))
    after = variants("gpt2")
    assert [{k: v for k, v in one.items() if k != "n_positions"} for one in after] == before
    assert {one["n_positions"] for one in after[1:]} == {32, 64}
    recipe_of("gpt2", replace(RECIPES["gpt2"], draws={"n_positions": tuple(range(8, 22))}))
    assert {one["n_positions"] for one in variants("gpt2")[1:]} == set(range(8, 22))


def test_a_switch_that_is_never_on_is_named(recipe_of):
    without = {name: () for name in ("scale_attn_weights", "scale_attn_by_inverse_layer_idx")}
    recipe_of("gpt2", replace(RECIPES["gpt2"], draws=without))
    family = get_family("gpt2")
    expected = ["scale_attn_weights = false", "scale_attn_by_inverse_layer_idx = true"]
    assert never_on(family, converted_configs(family)) == expected
    recipe_of("phi", replace(RECIPES["phi"], draws={"qk_layernorm": (False,)}))
    assert never_on(get_family("phi"), converted_configs(get_family("phi"))) == ["qk_layernorm = true"]


def test_every_value_of_a_choice_but_the_first_is_a_switch_of_its_own():
    entries = (Choice("kind", "architecture.kind", (("a", 1), ("b", 2), ("c", 3))), Flag("wide", "architecture.wide"))
    family = replace(get_family("llama"), config=ConfigTable(entries))
    assert never_on(family, [{"kind": "c"}, {"wide": False}]) == ['kind = "b"', "wide = true"]
    assert never_on(family, [{"kind": "c"}, {"kind": "b", "wide": True}]) == []


def test_a_refusal_has_the_name_that_the_family_gives_it_or_none(recipe_of):
    refusal = ConfigRefused("rotary_dim is 7, expected an even positive integer")
    assert refused_as("gptj", refusal) is None
    recipe_of("gptj", replace(RECIPES["gptj"], refuses={"nothing": "", "odd rotation": "expected an even"}))
    assert refused_as("gptj", refusal) == "odd rotation"
    assert refused_as("gptj", ConfigRefused("rotary_dim is missing")) is None


def test_a_refused_variant_turns_no_switch_on(recipe_of):
    odd = {"rotary_dim": (7,), "scale_attn_weights": ()}
    recipe_of("gptj", replace(RECIPES["gptj"], draws=odd))
    assert len(converted_configs(get_family("gptj"))) == 1  # the hot model itself


def test_a_pair_is_short_for_a_recipe(recipe_of):
    sizes = RECIPES["llama"].sizes
    recipe_of("llama", ("LlamaConfig", sizes))
    assert hot.recipe("llama") == Hot("LlamaConfig", sizes)
    assert hot.hot_config("llama", hidden_size=24).hidden_size == 24


@pytest.mark.parametrize("name", ["NoSuchConfig", "no_such_package.reference.Config", "golden.models.hot.Config"])
def test_a_config_class_that_cannot_be_imported_is_an_error_that_names_it(name, recipe_of):
    recipe_of("llama", Hot(name, {}))
    with pytest.raises(UnknownLevelError, match=name):
        hot.hot_config("llama")


def test_a_class_of_another_package_is_found_by_its_dotted_name(recipe_of):
    recipe_of("llama", Hot("transformers.models.llama.LlamaConfig", {"hidden_size": 24, "num_attention_heads": 2}))
    assert hot.hot_config("llama").hidden_size == 24

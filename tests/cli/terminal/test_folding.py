"""Equal layers become one row, in number order; what differs does not."""

import pytest

from cli.terminal.folding import filled, folded, natural, numbered, short_sources, without_weight


def test_equal_layers_are_one_row_in_number_order():
    keys = [f"layers.{i}.mlp.fc1.weight" for i in (10, 2, 1, 3, 4, 5, 6, 7, 8, 9)]
    rows = [("layers.11.linear.weight", "b"), *((key, "a") for key in keys), ("layers.0.wte.weight", "b")]
    assert [(fold.key, fold.count) for fold in folded(rows)] == [
        ("layers.0.wte.weight", 1),
        ("layers.{1..10}.mlp.fc1.weight", 10),
        ("layers.11.linear.weight", 1),
    ]


def test_a_layer_that_differs_stays_a_row_of_its_own():
    rows = [(f"h.{i}.attn", "wide" if i == 2 else "narrow") for i in range(5)]
    assert [(fold.key, fold.count, fold.first) for fold in folded(rows)] == [
        ("h.{0..1,3..4}.attn", 4, 0),
        ("h.2.attn", 1, 2),
    ]


@pytest.mark.parametrize(
    ("numbers", "text"), [([1, 2, 3], "a.{1..3}.b"), ([4], "a.4.b"), ([0, 2, 3, 7], "a.{0,2..3,7}.b"), ([], "a.{}.b")]
)
def test_numbers_of_layers_as_people_write_them(numbers, text):
    assert filled("a.{}.b", numbers) == text


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("model.layers.12.mlp.up_proj", ("model.layers.{}.mlp.up_proj", 12)),
        ("12.mlp", ("{}.mlp", 12)),
        ("model.norm", ("model.norm", None)),
        ("conv1d.weight", ("conv1d.weight", None)),
    ],
)
def test_the_number_of_a_layer_stands_alone_between_dots(key, found):
    assert numbered(key) == found


def test_layer_two_comes_before_layer_ten():
    keys = ["layers.10.a", "layers.2.b", "layers.2.a", "embed"]
    assert sorted(keys, key=natural) == ["embed", "layers.2.a", "layers.2.b", "layers.10.a"]
    assert sorted(keys) != sorted(keys, key=natural)  # the control


def test_sources_say_what_the_key_does_not():
    keys = ["model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.gate_proj.weight"]
    assert without_weight("layers.1.mlp.fc1.weight", keys)[0] == "layers.1.mlp.fc1"
    assert short_sources(without_weight("layers.1.mlp.fc1.weight", keys)[1]) == "up_proj + gate_proj"
    assert short_sources(["model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.k_proj.bias"]) == (
        "q_proj.bias + k_proj.bias"
    )
    assert short_sources(["model.layers.3.self_attn.o_proj"]) == "self_attn.o_proj"
    assert short_sources(["model.norm"]) == "model.norm"
    assert without_weight("a.bias", ["b.bias"]) == ("a.bias", ["b.bias"])

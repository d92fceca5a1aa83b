"""Holding weights against each other: orders, relations of values, and words for them."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from golden.faults.mapping_faults import deinterleave, interleave
from golden.faults.model_copy import Patient
from golden.models.anatomy import Anatomy
from golden.models.parts import Part
from golden.weights.census import bits, factors, mixed
from golden.weights.facts import called, in_layers, numbered
from golden.weights.orders import rotary_orders, tiled
from golden.weights.places import place_of, rank
from golden.weights.relations import RANDOM, named_factors, relation, rounded, shaped_relation

SIZES = named_factors(20, 48)


def _drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("plant", "number"), [(interleave, 0), (deinterleave, 1)])
def test_rotary_orders_are_those_of_the_faults(plant, number: int) -> None:
    """Written twice, once in torch for the self-test."""
    weights = {"q": torch.from_numpy(_drawn(40, 6).copy())}
    patient = Patient(weights, {}, Anatomy(1, 2, 2, 20, {"0.q": Part("q")}, {}))
    before = weights["q"].numpy().copy()
    plant("q")(patient, random.Random(0))
    order = list(rotary_orders(40, 20, 20))[number]
    assert np.array_equal(weights["q"].numpy(), before[order.index])
    assert np.array_equal(weights["q"].numpy()[order.back], before)


def test_an_order_of_some_dimensions_leaves_the_others_alone() -> None:
    order = next(rotary_orders(12, 12, 6))
    assert list(order.index) == [0, 3, 1, 4, 2, 5, *range(6, 12)]
    assert list(rotary_orders(12, 12, 2)) == [] and list(rotary_orders(13, 12, 6)) == []


def test_tiled_heads_are_as_far_apart_as_there_are_key_value_heads() -> None:
    assert list(tiled(6, 2)) == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: -x, "is negated"),
        (lambda x: x * 2, "is multiplied by 2"),
        (lambda x: x * np.float32(20**-0.5), "is multiplied by 0.223607 (1/sqrt(20); 20 is the head size)"),
        (lambda x: x * np.float32(1.001), "is multiplied by 1.001"),
        (lambda x: x + 1, "is too large by 1"),
        (lambda x: x - 1, "is too small by 1"),
        (lambda x: x * 0, "is zero"),
        (lambda x: x * np.nan, "is NaN or infinite"),
        (lambda x: rounded(x, "BF16"), "is rounded through bfloat16"),
        (lambda x: rounded(x, "F16"), "is rounded through float16"),
    ],
)
def test_a_relation_of_values_is_named(change, said: str) -> None:
    true = _drawn(50)
    found = relation(change(true), true, "F32", SIZES)
    assert found is not None and found.said == said
    if found.invert is not None:
        assert np.allclose(found.invert(change(true).astype(np.float64)), true, rtol=1e-5, atol=1e-6)


def test_what_has_no_relation_gets_no_name() -> None:
    true = _drawn(50)
    assert relation(true + _drawn(50) ** 2, true, "F32", SIZES) is None
    assert relation(true[:3] * np.float32(1.7), true[:3], "F32", SIZES) is None  # any three numbers may have a ratio


def test_rounding_is_that_of_torch() -> None:
    values = torch.from_numpy(_drawn(1000))
    assert np.array_equal(rounded(values.numpy(), "BF16"), values.bfloat16().float().numpy())
    assert np.array_equal(rounded(values.numpy(), "F16"), values.half().float().numpy())


def test_an_initialisation_is_told_from_right_values_in_another_order_and_from_related_ones() -> None:
    true, other = _drawn(30, 40), np.random.default_rng(1).normal(size=(30, 40)).astype(np.float32)
    assert getattr(shaped_relation(other, true, "F32", whole=True), "said", "") == RANDOM
    shuffled = np.random.default_rng(2).permuted(true, axis=1)
    said = getattr(shaped_relation(shuffled, true, "F32", whole=True), "said", "")
    assert said == "holds the right values in another order"
    assert shaped_relation(true + other, true, "F32", whole=True) is None
    ones = shaped_relation(np.ones((30, 1), np.float32), true[:, :1], "F32", whole=True)
    assert ones is not None and ones.said.startswith("is 1 everywhere")


def test_fingerprints_tell_a_matrix_from_its_transpose_and_from_other_orders() -> None:
    square = _drawn(16, 16)

    def whole(matrix: np.ndarray) -> int:
        return mixed((bits(matrix) * factors(16)).sum(1, dtype=np.uint64))

    columns = (bits(square) * factors(16)[:, None]).sum(0, dtype=np.uint64)
    assert mixed(columns) == whole(square.T.copy()) != whole(square)
    assert len({whole(square), whole(square[::-1].copy()), whole(square[:, ::-1].copy())}) == 3


def test_words() -> None:
    assert numbered([5]) == "5" and numbered([0, 1]) == "0 and 1" and numbered([0, 2, 3, 4]) == "0 and 2-4"
    assert numbered(range(0, 40, 2)).endswith("and 12 more")
    assert called(["0.q", "0.q_bias"]) == "q and its bias"
    assert called(["0.q", "0.k"]) == "q and k"
    assert in_layers((0, 1, 2), 3, "x") == "x in all layers"
    assert in_layers((1,), 3, "x") == "layer 1: x" and in_layers((), 3, "x") == "x"


def test_places_are_in_the_order_of_the_forward_pass() -> None:
    roles = ["embed", "positions", "0.norm_1", "0.q", "0.o_bias", "0.norm_2", "0.up", "1.norm_1", "final_norm"]
    ranks = [rank(place_of(role)) for role in roles]
    assert ranks == sorted(ranks)
    assert place_of("3.q_bias") == "layer 3, attention" and place_of("head") == "logits"

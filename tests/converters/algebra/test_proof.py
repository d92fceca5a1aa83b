"""Law 4: a proof accepts exact covers and nothing else, whatever boxes it is fed."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.algebra.dims import Dims
from converters.algebra.moves import Rows, Split, Transpose
from converters.algebra.proof import Box, fault, source_box, target_box
from converters.algebra.views import View


def elements(box: Box) -> list[int]:
    """Every element of a box by brute force, repeats included."""
    steps = (range(0, n * s, s) if s else [0] * n for n, s in zip(box.shape, box.strides, strict=True))
    return [box.offset + sum(step) for step in product(*steps)]


boxes = st.builds(
    lambda offset, dims: Box(offset, tuple(n for n, _ in dims), tuple(s for _, s in dims)),
    st.integers(-1, 12),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 8)), max_size=3),
)


@given(st.integers(1, 24), st.lists(boxes, max_size=4))
def test_what_is_accepted_covers_every_element_exactly_once(size, given_boxes):
    if fault((size,), given_boxes) is None:
        found = sorted(element for box in given_boxes for element in elements(box))
        assert found == list(range(size))


@given(st.permutations(range(3)), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_what_moves_make_is_accepted(order, a, b, c):
    view = View.of("x", (a * b * c, 2), "F32")
    moved = Rows((a, b, c), tuple(order))([view], Dims({})).views
    parts = Split(("one", "rest"))(moved, Dims({"one": 1, "rest": a * b * c - 1})).views
    turned = [Transpose()([part], Dims({})).views[0] for part in parts]
    assert fault(view.shape, [source_box(p) for part in turned for p in part.pieces]) is None
    for part in turned:
        assert fault(part.shape, [target_box(p) for p in part.pieces]) is None


FAULTS = [
    ("overlap", 10, [Box(0, (6,), (1,)), Box(5, (5,), (1,))], "overlap"),
    ("gap", 10, [Box(0, (4,), (1,)), Box(5, (5,), (1,))], "1 of 10 elements are left out"),
    ("nothing", 3, [], "3 of 3 elements are left out"),
    ("beyond the end", 10, [Box(0, (11,), (1,))], "reaches from element 0 to 10 of a tensor of 10"),
    ("before the start", 10, [Box(-1, (10,), (1,))], "reaches from element -1"),
    ("evens twice", 10, [Box(0, (5,), (2,)), Box(0, (5,), (2,))], "overlap"),
    ("a box on itself", 6, [Box(0, (3, 2), (1, 1)), Box(4, (2,), (1,))], "covers elements twice"),
    ("broadcast", 6, [Box(0, (6,), (0,))], "covers elements twice"),
    (
        "interleaved by 2 and 3",
        6,
        [Box(0, (3,), (2,)), Box(1, (2,), (3,)), Box(5, (1,), (1,))],
        "nothing can be proved",
    ),
]


@pytest.mark.parametrize(("size", "given_boxes", "why"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_wrong_cover_is_refused_with_its_reason(size, given_boxes, why):
    assert why in (fault((size,), given_boxes) or "accepted")


def test_the_named_part_is_in_the_message():
    message = fault((4,), [Box(0, (3,), (1,), "of k_proj"), Box(2, (2,), (1,), "of v_proj")])
    assert message == "the part of k_proj and the part of v_proj overlap, or interleave so that nothing can be proved"


def test_interleaved_halves_are_accepted():
    assert fault((10,), [Box(0, (5,), (2,)), Box(1, (5,), (2,))]) is None

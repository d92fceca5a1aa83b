"""Laws 1, 2, 3, 5, 6 and 7: every move undoes itself bit for bit, says the shapes it makes, keeps its dtype."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.algebra.boxes import row_major
from converters.algebra.dims import Dims
from converters.algebra.moves import Concat, Crop, Fill, Pad, Rows, Split, Tie, Transpose, Untie, Vanish
from converters.algebra.strided import assemble
from converters.algebra.views import Check, Each, Move, Same, Then, View
from converters.errors import NotInvertible, ShapeMismatch

WIDTHS = {"U8": 1, "BF16": 2, "F32": 4, "F64": 8}


def dims_from(draw) -> Dims:
    small = st.integers(1, 5)
    a, b, c, h, r = (draw(small) for _ in range(5))
    return Dims({"a": a, "b": b, "c": c, "heads": h, "half": r, "padded": a + draw(st.integers(0, 4))})


def single(draw, dims: Dims, rows: int, columns: int, depth: int) -> Move:
    """A random chain of moves from one matrix to one matrix."""
    moves: list[Move] = [Same()]
    for _ in range(depth):
        kind = draw(st.sampled_from(["transpose", "rows", "split", "same"]))
        if kind == "transpose":
            moves.append(Transpose())
            rows, columns = columns, rows
        elif kind == "rows":
            factors = draw(factorisation(rows))
            moves.append(Rows(tuple(factors), tuple(draw(st.permutations(range(len(factors)))))))
        elif kind == "split":
            axis = draw(st.integers(0, 1))
            names = parts_of(dims, (rows, columns)[axis])
            if names:
                swap = Each((Transpose(), Transpose())) if draw(st.booleans()) else Each((Same(), Same()))
                moves += [Split(names, axis), swap, swap.inverse, Concat(names, axis)]
    return Then(tuple(moves))


def parts_of(dims: Dims, size: int) -> tuple[str, str] | None:
    pairs = [(x, y) for x in dims for y in dims if dims[x] + dims[y] == size]
    return pairs[0] if pairs else None


@st.composite
def factorisation(draw, size: int) -> list[int]:
    factors = []
    while size > 1:
        divisor = draw(st.sampled_from([d for d in range(2, size + 1) if size % d == 0]))
        factors.append(divisor)
        size //= divisor
    return factors or [1]


@st.composite
def moves(draw):
    """A move, its dims, and the shapes it takes."""
    dims = dims_from(draw)
    width = draw(st.integers(1, 4))
    kind = draw(st.sampled_from(["chain", "concat", "concat1", "pad", "untie", "fill", "each", "rotary", "qkv"]))
    if kind == "chain":
        rows = dims["a"] + dims["b"]
        return single(draw, dims, rows, width, draw(st.integers(1, 4))), dims, [(rows, width)]
    if kind == "concat":
        return Concat(("a", "b", "c")), dims, [(dims[n], width) for n in ("a", "b", "c")]
    if kind == "concat1":
        return Concat(("a", "b"), 1), dims, [(width, dims[n]) for n in ("a", "b")]
    if kind == "pad":
        return Pad("a", "padded"), dims, [(dims["a"], width)]
    if kind == "untie":
        return Untie(), dims, [(dims["a"], width)]
    if kind == "fill":
        return Fill(("a", "b"), "F32", draw(st.integers(0, 2**32 - 1))), dims, []
    rotary = Rows(("heads", "half", 2), (0, 2, 1))
    rows = dims["heads"] * dims["half"] * 2
    if kind == "rotary":
        return rotary, dims, [(rows, width)]
    sizes = Dims({**dims, "q": rows})
    if kind == "qkv":
        return (
            Then((Each((rotary, Same())), Concat(("q", "b")), Transpose())),
            sizes,
            [(rows, width), (dims["b"], width)],
        )
    return Each((rotary, Pad("a", "padded"), Untie())), sizes, [(rows, width), (dims["a"], width), (2, width)]


def fresh(shapes, dtype: str) -> tuple[list[View], dict[str, np.ndarray]]:
    """Views of source tensors that hold every element's own number."""
    kind, start, data = np.dtype(f"u{WIDTHS[dtype]}"), 0, {}
    for k, shape in enumerate(shapes):
        count = int(np.prod(shape))
        data[f"t{k}"] = np.arange(start + 1, start + count + 1).astype(kind)
        start += count
    return [View.of(f"t{k}", shape, dtype) for k, shape in enumerate(shapes)], data


def values(view: View, data: dict[str, np.ndarray]) -> np.ndarray:
    width = WIDTHS[view.dtype]
    return assemble(int(np.prod(view.shape)), width, view.pieces, lambda key: data[key].tobytes())


def holds(check: Check, data: dict[str, np.ndarray]) -> bool:
    found = values(check.view, data)
    expected = check.value if check.equal is None else values(check.equal, data)
    return bool((found == expected).all())


@given(moves(), st.sampled_from(sorted(WIDTHS)))
def test_a_move_and_its_inverse_give_back_every_bit(case, dtype):
    move, dims, shapes = case
    views, data = fresh(shapes, dtype)
    there = move(views, dims)
    back = move.inverse(there.views, dims)
    assert [view.shape for view in back.views] == [tuple(shape) for shape in shapes]
    assert all(holds(check, data) for check in (*there.checks, *back.checks))
    for view, original in zip(back.views, data.values(), strict=True):
        assert (values(view, data) == original).all()


@given(moves())
def test_the_inverse_of_the_inverse_is_the_move_itself(case):
    move, _, _ = case
    assert move.inverse.inverse == move


@given(moves(), st.sampled_from(sorted(WIDTHS)))
def test_shapes_and_dtypes_are_known_before_data_and_data_agree(case, dtype):
    move, dims, shapes = case
    views, data = fresh(shapes, dtype)
    assert move.takes == len(shapes)
    made = move(views, dims).views
    assert len(made) == move.gives
    for view in made:
        assert view.dtype == (dtype if shapes else "F32")
        assert len(values(view, data)) == np.prod(view.shape)


@given(st.data())
def test_an_order_of_rows_is_a_permutation(data):
    rows = data.draw(st.integers(1, 24))
    factors = data.draw(factorisation(rows))
    order = data.draw(st.permutations(range(len(factors))))
    views, numbers = fresh([(rows, 3)], "U8")
    found = values(Rows(tuple(factors), tuple(order))(views, Dims({})).views[0], numbers)
    expected = numbers["t0"].reshape(*factors, 3).transpose(*order, len(factors)).ravel()
    assert (found == expected).all()


def test_moves_do_what_numpy_does():
    dims = Dims({"a": 2, "b": 3})
    views, data = fresh([(2, 4), (3, 4)], "F32")
    x, y = (data[k].reshape(-1, 4) for k in ("t0", "t1"))
    joined = Then((Concat(("a", "b")), Transpose()))(views, dims).views[0]
    assert joined.shape == (4, 5)
    assert (values(joined, data).reshape(4, 5) == np.concatenate([x, y]).T).all()


OUTSIDE = [
    (Crop("n", "padded"), [(5, 2)], "rows 3..4 are padding"),
    (Tie(), [(3, 2), (3, 2)], "copies of one tensor"),
    (Vanish(("n", "n"), "F32", 7), [(3, 3)], "bit pattern 0x7"),
]


@pytest.mark.parametrize(("move", "shapes", "why"), OUTSIDE, ids=[type(m).__name__ for m, _, _ in OUTSIDE])
def test_outside_its_image_an_inverse_leaves_a_check_that_fails(move, shapes, why):
    views, data = fresh(shapes, "F32")
    checks = move(views, Dims({"n": 3, "padded": 5})).checks
    assert len(checks) == 1 and why in checks[0].why
    assert not holds(checks[0], data)


def test_what_headers_alone_can_tell_is_refused_at_once():
    dims = Dims({"n": 3, "m": 2, "padded": 5})
    f32, f16 = View.of("x", (3, 2), "F32"), View.of("y", (3, 2), "F16")
    with pytest.raises(NotInvertible, match="equal"):
        Tie()([f32, f16], dims)
    with pytest.raises(NotInvertible, match="F32"):
        Vanish(("n", "m"), "F32")([f16], dims)
    with pytest.raises(NotInvertible, match="padding"):
        Crop("n", "padded")([View((5, 2), "F32", Fill(("padded", "m"), "F32", 1)([], dims).views[0].pieces)], dims)
    with pytest.raises(ShapeMismatch, match="dtypes F32 and F16"):
        Concat(("n", "n"))([f32, f16], dims)
    with pytest.raises(ShapeMismatch, match=r"expected \[m = 2, 2\]"):
        Concat(("n", "m"))([f32, f32], dims)
    with pytest.raises(ShapeMismatch, match=r"n = 3 \+ m = 2"):
        Split(("n", "m"))([View.of("x", (6, 2), "F32")], dims)
    with pytest.raises(ShapeMismatch, match="grid"):
        Rows(("m", "m"), (1, 0))([f32], dims)
    with pytest.raises(ShapeMismatch, match="matrix"):
        Transpose()([View.of("x", (3,), "F32")], dims)


def test_a_rotary_order_of_all_heads_is_two_boxes():
    dims = Dims({"heads": 32, "half": 64})
    rows = View.of("q", (32 * 128, 4096), "BF16")
    made = Rows(("heads", "half", 2), (0, 2, 1))([rows], dims).views[0]
    assert len(made.pieces) <= 2
    assert row_major((2, 3)) == (3, 1)

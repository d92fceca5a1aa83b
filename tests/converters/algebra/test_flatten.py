"""The laws of the seventh move on drawn grids, and that a wrong shape is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.algebra.dims import Dims
from converters.algebra.flatten import Flatten, Fold
from converters.algebra.moves import Rows
from converters.algebra.strided import assemble
from converters.algebra.views import Then, View
from converters.errors import ShapeMismatch

WIDTHS = {"U8": 1, "BF16": 2, "F32": 4, "F64": 8}


@st.composite
def grids(draw):
    """A grid of names and numbers, its dims and its shape."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    dims = Dims({f"n{k}": size for k, size in enumerate(shape)})
    return tuple(f"n{k}" if draw(st.booleans()) else size for k, size in enumerate(shape)), dims, shape


def numbered(shape, dtype):
    """A tensor that holds each element's own number, and its bytes."""
    data = np.arange(np.prod(shape)).astype(f"u{WIDTHS[dtype]}")
    return View.of("t", shape, dtype), data


def read(view, data):
    return assemble(int(np.prod(view.shape)), data.itemsize, view.pieces, lambda key: data.tobytes())


@given(grids(), st.sampled_from(sorted(WIDTHS)))
def test_elements_keep_their_order_and_the_inverse_gives_back_shape_and_bits(case, dtype):
    grid, dims, shape = case
    view, data = numbered(shape, dtype)
    (flat,) = Flatten(grid)([view], dims).views
    assert (flat.shape, flat.dtype) == ((int(np.prod(shape)),), dtype)
    assert (read(flat, data) == data).all()
    (back,) = Flatten(grid).inverse([flat], dims).views
    assert (back.shape, back.dtype) == (shape, dtype) and (read(back, data) == data).all()
    assert not Flatten(grid)([view], dims).checks


@given(grids())
def test_the_inverse_of_the_inverse_is_the_move(case):
    grid, _, _ = case
    assert Flatten(grid).inverse.inverse == Flatten(grid) and Fold(grid).inverse.inverse == Fold(grid)
    assert Flatten(grid).inverse == Fold(grid)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_it_goes_on_into_other_moves(heads, half, columns):
    """Rows of heads in another order behind a flatten, and all the way back."""
    dims = Dims({"heads": heads, "half": half, "width": 2 * half})
    move = Then((Flatten(("heads", "width")), Rows(("heads", "half", 2), (0, 2, 1))))
    view, data = numbered((heads, 2 * half), "F32")
    (moved,) = move([view], dims).views
    assert (read(moved, data) == data.reshape(heads, half, 2).transpose(0, 2, 1).ravel()).all()
    (back,) = move.inverse([moved], dims).views
    assert back.shape == view.shape and (read(back, data) == data).all()


@pytest.mark.parametrize(
    ("move", "shape"),
    [
        (Flatten((2, 3)), (3, 2)),
        (Flatten((2, 3)), (6,)),
        (Flatten((1, 6)), (6, 1)),
        (Fold((2, 3)), (2, 3)),
        (Fold((2, 3)), (7,)),
    ],
)
def test_another_shape_is_refused_with_both(move, shape):
    with pytest.raises(ShapeMismatch, match=r"\[.*\].*\[.*\]"):
        move([View.of("t", shape, "F32")], Dims({}))

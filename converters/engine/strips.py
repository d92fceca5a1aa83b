"""A sheet is a piece that makes one run of its tensor; it is made strip by strip, with hardly any arithmetic for each.

A matrix that is transposed is one. A strip is a number of rows of it, and takes a run of each row of the file: the
shorter the run, the more of what is fetched from memory for it is fetched for the next strip again.
"""

from collections.abc import Iterator
from itertools import product
from math import gcd, prod
from typing import TYPE_CHECKING

from converters.algebra.boxes import Piece, narrow, normal, row_major
from converters.engine.outlet import PAGE
from converters.engine.tiles import BLOCK
from converters.engine.transposing import Source, source_of

if TYPE_CHECKING:
    from converters.engine.transposing import Elements

STRIP = 1 << 20  # bytes that stay in the cache from their making to their writing
RUN = 1 << 10  # bytes to take at least of each row of the file


def sheet_of(piece: Piece) -> Piece | None:
    """The piece in the fewest dims, if its elements fill one run of the target; else None."""
    plain = normal(piece)
    return plain if plain.source is not None and plain.target_strides == row_major(plain.shape) else None


def cut_sheet(sheet: Piece, width: int, largest: int) -> Iterator[Piece]:
    """A sheet as sheets of about `largest` bytes at most, as far as its first dim can be cut."""
    rows = max(1, largest // (prod(sheet.shape[1:]) * width))
    for first in range(0, sheet.shape[0], rows):
        yield narrow(sheet, 0, first, min(first + rows, sheet.shape[0]))


def rows_of(sheet: Piece, width: int) -> tuple[int, int]:
    """The dim in which strips follow one another, and how many of its steps are a strip."""
    axis = next(k for k in range(len(sheet.shape)) if prod(sheet.shape[k + 1 :]) * width <= BLOCK)
    row = prod(sheet.shape[axis + 1 :]) * width  # bytes
    turned = sheet.source_strides[axis] == min(sheet.source_strides)
    wanted = min(max(STRIP, row * (RUN // width) if turned else 0), BLOCK)
    most, pages = max(1, wanted // row), PAGE // gcd(PAGE, row)
    return axis, most // pages * pages or most  # strips of whole pages end where they began within a page


def strips(sheet: Piece, width: int, source: Source) -> Iterator["Elements"]:
    """The elements of a sheet in order, strip by strip, where they lie.

    Args:
        sheet: what `sheet_of` gave.
        width: bytes of an element.
        source: what holds the elements.
    """
    whole = source_of(sheet, width, source)
    axis, rows = rows_of(sheet, width)
    for index in product(*map(range, sheet.shape[:axis])):
        part = whole[index]
        for first in range(0, len(part), rows):
            yield part[first : first + rows]

"""The proof, from boxes alone, that a set of strided boxes covers a tensor exactly once.

Boxes that lie inside a tensor, are disjoint and hold as many elements as it has cover each element exactly once; no
element is ever looked at. Boxes whose spans do not overlap are disjoint at once. Those that interleave are cut into
rectangles in the digits of the tensor's own axes, factored by their strides, and two rectangles are disjoint if on one
axis their digits are. Boxes for which that cannot be shown are refused: the proof never accepts a wrong plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import NamedTuple

from converters.algebra.boxes import Piece, Refined, refine, row_major


@dataclass(frozen=True, slots=True)
class Box:
    """A strided set of elements of one flat tensor: offset, sizes and strides in elements."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    label: str = ""

    @property
    def count(self) -> int:
        """Number of elements, were they all different."""
        return prod(self.shape)

    @property
    def last(self) -> int:
        """Index of the last element."""
        return self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))


def target_box(piece: Piece, label: str = "") -> Box:
    """The elements that a piece makes."""
    return Box(piece.target_offset, piece.shape, piece.target_strides, label)


def source_box(piece: Piece, label: str = "") -> Box:
    """The elements that a piece uses."""
    return Box(piece.source_offset, piece.shape, piece.source_strides, label)


def fault(shape: tuple[int, ...], boxes: Sequence[Box]) -> str | None:
    """Why the boxes do not cover a tensor of `shape` exactly once, as a clause, or None if they do."""
    size = prod(shape)
    boxes = [box for box in boxes if box.count]
    for box in boxes:
        if box.offset < 0 or box.last >= size or min(box.strides, default=0) < 0:
            return f"{_named(box)} reaches from element {box.offset} to {box.last} of a tensor of {size}"
        if not _injective(box):
            return f"{_named(box)} covers elements twice"
    for group in _overlapping(boxes):
        clash = _clash(shape, group) if len(group) > 1 else None
        if clash:
            return clash
    covered = sum(box.count for box in boxes)
    return None if covered == size else f"{size - covered} of {size} elements are left out"


def _named(box: Box) -> str:
    return f"the part {box.label}" if box.label else "a box"


def _overlapping(boxes: Sequence[Box]) -> list[list[Box]]:
    """Groups of boxes whose spans touch, each to be proved on its own."""
    groups: list[list[Box]] = []
    end = -1
    for box in sorted(boxes, key=lambda box: box.offset):
        if box.offset > end or not groups:
            groups.append([])
        groups[-1].append(box)
        end = max(end, box.last)
    return groups


def _clash(shape: tuple[int, ...], boxes: list[Box]) -> str | None:
    view = _radix(shape, boxes)
    rectangles = [(rectangle, box) for box in boxes for rectangle in _rectangles(box, view)]
    rectangles.sort(key=lambda entry: entry[0][0])
    for k, (one, first) in enumerate(rectangles):
        for other, second in rectangles[k + 1 :]:
            if other[0].first > one[0].last:
                break
            if not any(map(Span.misses, one, other)):
                return f"{_named(first)} and {_named(second)} overlap, or interleave so that nothing can be proved"
    return None


class Span(NamedTuple):
    """Where a box lies on one axis of a view: between two indices, at multiples of `step` from the first."""

    first: int
    last: int
    step: int

    def misses(self, other: "Span") -> bool:
        """Whether no index is in both."""
        if self.first > other.last or other.first > self.last:
            return True
        step = gcd(self.step, other.step)
        return step > 1 and (self.first - other.first) % step != 0


def _injective(box: Box) -> bool:
    """Whether each stride steps over all that the smaller ones reach, so that no two steps of a box can meet."""
    reach = 0
    for stride, n in sorted((s, n) for n, s in zip(box.shape, box.strides, strict=True) if n > 1):
        if stride <= reach:
            return False
        reach += (n - 1) * stride
    return True


def _radix(shape: tuple[int, ...], boxes: list[Box]) -> tuple[int, ...]:
    """The axes of a tensor, each factored further by the strides of the boxes as far as they divide one another."""
    strides = {s for box in boxes for n, s in zip(box.shape, box.strides, strict=True) if n > 1}
    view: list[int] = []
    for size, unit in zip(shape, row_major(shape), strict=True):
        for stride in sorted((s for s in strides if unit < s < unit * size), reverse=True):
            if stride % unit == 0 and size % (stride // unit) == 0:
                view.append(size * unit // stride)
                size = stride // unit
        view.append(size)
    return tuple(view)


def _rectangles(box: Box, view: tuple[int, ...]) -> list[tuple[Span, ...]]:
    """A box as products of spans, one per axis of the view."""
    piece = Piece(None, box.shape, 0, (0,) * len(box.shape), box.offset, box.strides)
    return [tuple(_span(refined, axis) for axis in range(len(view))) for refined in refine(piece, view)]


def _span(refined: Refined, axis: int) -> Span:
    first = refined.digits[axis]
    steps = (q for q, a in zip(refined.steps, refined.axes, strict=True) if a == axis)
    return Span(first, first + refined.spread(axis), gcd(*steps))

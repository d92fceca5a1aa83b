"""What headers cannot tell, checked on the data before anything is written: padding is zero, tied tensors are equal."""

from collections.abc import Iterator

from converters.algebra.boxes import Piece
from converters.algebra.strided import assemble
from converters.algebra.views import Check
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.tensor_bytes import row_major_bytes
from converters.engine.steps import contiguous
from converters.errors import HeadDiffers, NotInvertible
from converters.paging import need
from converters.plan.plan import Plan

CHUNK = 1 << 20  # bytes


def run_checks(plan: Plan) -> None:
    """Reads what the moves left to be checked.

    Raises:
        NotInvertible: data lie outside what the conversion can carry; the tensor is named.
    """
    for check in plan.checks:
        if not _holds(check, plan.source):
            keys = sorted({piece.source for piece in check.view.pieces if piece.source})
            files = sorted({plan.source.files[plan.source.tensors[key].shard].name for key in keys})
            kind = NotInvertible if check.equal is None else HeadDiffers
            remedy = f"; {check.remedy}" if check.remedy else ""
            raise kind(f"{', '.join(files)}: {', '.join(keys)}: {check.why}, but are not{remedy}")


def _holds(check: Check, source: Checkpoint) -> bool:
    if check.equal == check.view:
        return True  # a tensor that is left out: nothing is asked of it
    width = next(source.tensors[p.source].width for p in check.view.pieces if p.source is not None)
    found = _data(check.view.pieces, source, width)
    if check.equal is not None:
        return all(a == b for a, b in zip(found, _data(check.equal.pieces, source, width), strict=True))
    pattern = check.value.to_bytes(width, "little")
    return all(chunk == pattern * (len(chunk) // width) for chunk in found)


def _data(pieces: tuple[Piece, ...], source: Checkpoint, width: int) -> Iterator[bytes]:
    """The bytes of a view in chunks of whole elements."""
    pieces = tuple(sorted(pieces, key=lambda piece: piece.target_offset))
    stored = source.tensors[pieces[0].source] if len(pieces) == 1 and pieces[0].source else None
    if stored and stored.strides is None and contiguous(pieces[0]):
        begin = stored.begin + pieces[0].source_offset * width
        yield from _ranges(source, stored.shard, begin, pieces[0].count * width)
        return
    count = sum(piece.count for piece in pieces)
    data = assemble(count, width, pieces, lambda key: _whole(source, key)).view("u1").data
    for start in range(0, len(data), CHUNK):
        yield bytes(data[start : start + CHUNK])


def _ranges(source: Checkpoint, shard: int, begin: int, length: int) -> Iterator[bytes]:
    with source.files[shard].open("rb") as file:
        file.seek(begin)
        for start in range(0, length, CHUNK):
            size = min(CHUNK, length - start)
            need(source.files[shard], begin + start, begin + start + size)
            yield file.read(size)


def _whole(source: Checkpoint, key: str) -> bytes:
    stored = source.tensors[key]
    return row_major_bytes(stored, lambda begin, size: b"".join(_ranges(source, stored.shard, begin, size)))

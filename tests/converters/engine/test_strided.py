"""Steps in parts, strided pieces in tiles: for any moves, widths and threads, the bytes that a naive assembly gives."""

import errno
import hashlib
import os
import random
from dataclasses import dataclass, replace
from itertools import count
from threading import Event

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import convert
from converters.algebra.boxes import normal, row_major
from converters.algebra.dims import Dims
from converters.algebra.moves import Concat, Fill, Rows, Split, Transpose
from converters.algebra.strided import assemble, gather
from converters.algebra.views import View
from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.source_files import opened
from converters.checkpoint.stored_pieces import stored_pieces
from converters.engine import buffers, chunks, shard_writing, step_writing, steps, tiles, transposing
from converters.engine.buffers import Buffer
from converters.engine.bytewise import differing_element
from converters.engine.chunks import Maker
from converters.engine.digest import Digest, ThreadedDigest
from converters.engine.shard_layout import Shard
from converters.engine.shard_writing import Writing, write_shards
from converters.engine.steps import Gather, parts
from converters.engine.transposing import move
from converters.errors import Interrupted, TargetRefused, UnsafeFile
from converters.plan.rules import TargetTensor
from converters.sample import write_sample

DRAWS = st.integers(0, 2**32).map(random.Random)
DTYPES = {"U8": 1, "BF16": 2, "F32": 4, "F64": 8}

LIMITS = {
    shard_writing: {"SPAN": (shard_writing.SPAN, 300)},
    step_writing: {"CHUNK": (steps.CHUNK, 128)},
    chunks: {"CHUNK": (steps.CHUNK, 128)},
    transposing: {"SPACE": (transposing.SPACE, 512), "SHORT": (transposing.SHORT, 16)},
    tiles: {"RUN": (tiles.RUN, 32), "BLOCK": (tiles.BLOCK, 512)},
}


@pytest.fixture(autouse=True, scope="module")
def _small():
    """Limits so small that tensors of some hundred bytes take every way there is."""
    with pytest.MonkeyPatch.context() as patch:
        for module, limits in LIMITS.items():
            for name, (_, small) in limits.items():
                patch.setattr(module, name, small)
        yield


@dataclass
class InMemory:
    """Tensors as bytes."""

    tensors: dict[str, bytes]

    def mapped(self, key):
        return memoryview(self.tensors[key])


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def any_view(draw: random.Random, dtype: str) -> tuple[View, dict[str, tuple[int, ...]]]:
    """A tensor made from one or two others by a random chain of moves, and the shapes of those others."""
    shapes = {f"t{k}": (draw.randint(1, 24), draw.choice([draw.randint(1, 24), 140])) for k in range(2)}
    view = View.of("t0", shapes["t0"], dtype)
    for _ in range(draw.randint(1, 5)):
        rows, columns = view.shape
        kind = draw.choice(["transpose", "rows", "split", "concat", "pad"])
        if kind == "transpose":
            (view,) = Transpose()([view], Dims({})).views
        elif kind == "rows":
            d = draw.choice(divisors(rows))
            e = draw.choice(divisors(rows // d))
            order = draw.sample(range(3), 3)
            (view,) = Rows((d, e, rows // d // e), tuple(order))([view], Dims({})).views
        elif kind == "split":
            axis = draw.randint(0, 1)
            size = view.shape[axis]
            at = draw.randint(0, size)
            parts = Split(("a", "b"), axis)([view], Dims({"a": at, "b": size - at})).views
            view = parts[0] if at else parts[1]
        elif kind == "concat" and "t1" not in {piece.source for piece in view.pieces}:
            axis = draw.randint(0, 1)
            other = (draw.randint(1, 9), columns) if axis == 0 else (rows, draw.randint(1, 9))
            shapes["t1"] = other
            sizes = Dims({"a": view.shape[axis], "b": other[axis]})
            (view,) = Concat(("a", "b"), axis)([view, View.of("t1", other, dtype)], sizes).views
        elif kind == "pad":
            sizes = Dims({"a": rows, "b": 2, "c": columns})
            more = Fill(("b", "c"), dtype, draw.randint(0, 255))([], sizes).views
            (view,) = Concat(("a", "b"))([view, *more], sizes).views
    return view, shapes


def stored_in_any_order(
    draw: random.Random, folder, shapes, dtype: str, given: bytes | None = None
) -> tuple[Checkpoint, dict[str, bytes]]:
    """Files of random (or `given`) bytes in which tensors lie with strides of any order; and their bytes row by row."""
    width, files, tensors, values = DTYPES[dtype], [], {}, {}
    for shard, (key, shape) in enumerate(shapes.items()):
        files.append(folder / f"{key}.bin")
        turned = row_major(shape[::-1])[::-1]
        gapped = tuple(2 * stride for stride in row_major(shape))
        strides = draw.choice([None, None, turned, gapped, *([] if given else [(0, 1), (3, 2)])])
        begin = draw.randint(0, 50)
        used = row_major(shape) if strides is None else strides
        last = sum((n - 1) * s for n, s in zip(shape, used, strict=True))
        data = bytearray(draw.randbytes(begin + (last + 1) * width))
        if given:
            place = np.ndarray(shape, f"u{width}", data, begin, [stride * width for stride in used])
            place[...] = np.frombuffer(given, place.dtype).reshape(shape)
        files[-1].write_bytes(data)
        values[key] = gather(bytes(data[begin:]), shape, used, width)
        tensors[key] = StoredTensor(key, key, dtype, shape, files[-1], shard, begin, strides)
    states = tuple(FileState.of(path) for path in files)
    return Checkpoint(folder, {}, tensors, tuple(files), tuple(files), (), states), values


def target(key: str, view: View) -> TargetTensor:
    pieces = tuple(sorted(view.pieces, key=lambda piece: piece.target_offset))
    return TargetTensor(key, view.dtype, view.shape, pieces, ())


@settings(deadline=None)
@given(DRAWS, st.sampled_from(sorted(DTYPES)))
def test_tiles_cover_a_tensor_once_and_hold_what_a_naive_assembly_gives(draw, dtype):
    width = DTYPES[dtype]
    view, shapes = any_view(draw, dtype)
    data = {key: draw.randbytes(shape[0] * shape[1] * width) for key, shape in shapes.items()}
    expected = assemble(view.shape[0] * view.shape[1], width, view.pieces, data.__getitem__).tobytes()
    most = draw.choice([8, 64, 256, 1 << 14])
    whole = gathered(target("x", view))
    found = b"".join(bytes(made_in_memory(tile, data)) for tile in parts(whole, most))
    assert found == expected
    assert all(0 < tile.length <= max(most, tiles.BLOCK) for tile in parts(whole, most))


def gathered(tensor: TargetTensor) -> Gather:
    """All of a tensor as one step, in pieces as plans have them."""
    pieces = tuple(normal(piece) for piece in tensor.pieces)
    return Gather(tensor, tensor.shape, pieces, 0, tensor.nbytes // DTYPES[tensor.dtype], 0)


def made_in_memory(tile: Gather, data: dict[str, bytes]) -> memoryview:
    return Maker(InMemory(data)).make(tile, Buffer())


@settings(deadline=None)
@given(DRAWS, st.sampled_from(sorted(DTYPES)), st.integers(1, 4), st.booleans())
def test_files_hold_what_a_naive_assembly_gives_and_their_hash(tmp_path_factory, draw, dtype, threads, hashed):
    folder = tmp_path_factory.mktemp("any")
    views = [any_view(draw, dtype) for _ in range(3)]
    shapes = {f"{k}{key}": shape for k, (_, own) in enumerate(views) for key, shape in own.items()}
    source, data = stored_in_any_order(draw, folder, shapes, dtype)
    named = [
        replace(view, pieces=tuple(replace(p, source=p.source and f"{k}{p.source}") for p in view.pieces))
        for k, (view, _) in enumerate(views)
    ]
    tensors = [target(f"x{k}", view) for k, view in enumerate(named)]
    shards = [Shard("a", b"header", tuple(tensors[:2])), Shard("b", b"", tuple(tensors[2:]))][: draw.randint(1, 2)]
    told: list[int] = []
    how = Writing(hash=hashed, fsync=draw.random() < 0.2, threads=threads, progress=told.append)
    digests = write_shards(shards, source, folder, how)
    for shard in shards:
        written = (folder / shard.name).read_bytes()
        whole = b"".join(
            assemble(int(np.prod(t.shape)), DTYPES[dtype], t.pieces, data.__getitem__).tobytes() for t in shard.tensors
        )
        assert written == shard.header + whole
        assert digests[shard.name] == (hashlib.sha256(written).hexdigest() if hashed else None)
    assert sum(told) == sum(shard.nbytes for shard in shards)


@settings(deadline=None)
@given(DRAWS, st.sampled_from(sorted(DTYPES)))
def test_the_first_differing_element_is_found_wherever_it_lies(tmp_path_factory, draw, dtype):
    folder, held_folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("held")
    view, shapes = any_view(draw, dtype)
    source, data = stored_in_any_order(draw, folder, shapes, dtype)
    tensor, width = target("x", view), DTYPES[dtype]
    expected = assemble(int(np.prod(view.shape)), width, view.pieces, data.__getitem__)
    found = expected.copy()
    for _ in range(draw.randint(0, 3)):
        found[draw.randrange(len(found))] ^= 1
    held, _ = stored_in_any_order(draw, held_folder, {"x": view.shape}, dtype, found.tobytes())
    where = np.flatnonzero(found != expected)
    difference = differing_element(source, tensor, held)
    assert (difference.element if difference else None) == (where[0] if len(where) else None)
    if difference:
        assert int(difference.expected, 16) == expected[where[0]] and int(difference.found, 16) == found[where[0]]


@settings(deadline=None)
@given(DRAWS)
def test_a_transposed_view_that_is_transposed_is_a_copy(draw):
    rows, columns = draw.randint(2, 9), draw.randint(2, 9)
    lies = StoredTensor("t", "t", "F32", (rows, columns), None, 0, 0, (1, rows))
    view = Transpose()([View.of("t", (rows, columns), "F32")], Dims({})).views[0]
    pieces = stored_pieces(view.pieces, {"t": lies})
    assert len(pieces) == 1 and steps.contiguous(pieces[0])


@pytest.mark.parametrize("hashed", [True, False])
def test_an_error_in_one_thread_is_told_and_nobody_waits_for_ever(hashed, tmp_path, monkeypatch):
    view = Transpose()([View.of("t", (40, 40), "F32")], Dims({})).views[0]
    path = tmp_path / "t.bin"
    path.write_bytes(bytes(40 * 40 * 4))
    stored = StoredTensor("t", "t", "F32", (40, 40), path, 0, 0)
    source = Checkpoint(tmp_path, {}, {"t": stored}, (path,), (path,), (), (FileState.of(path),))
    shards = [Shard(f"a{k}", b"", tuple(target(f"x{j}", view) for j in range(5))) for k in range(3)]
    left = count(9, -1)

    def failing(*words):
        if next(left) < 0:
            raise UnsafeFile("it ended")
        move(*words)

    monkeypatch.setattr(transposing, "move", failing)
    with pytest.raises((UnsafeFile, Interrupted), match=r"it ended|stopped"):
        write_shards(shards, source, tmp_path, Writing(hash=hashed, threads=4))


def test_a_read_that_gives_less_than_was_asked_for_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "t.bin"
    path.write_bytes(bytes(range(100)))
    stored = StoredTensor("t", "t", "U8", (100,), path, 0, 0)
    short = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, into, at: short(fd, [into[0][:3]], at))
    view = memoryview(bytearray(15))
    with opened(Checkpoint(tmp_path, {}, {"t": stored}, (path,), (path,))) as files:
        files.read(0, 10, view)
    assert view == bytes(range(10, 25))


@pytest.mark.parametrize("hashed", [True, False])
def test_a_source_that_is_cut_short_meanwhile_is_told(hashed, real_limits, tmp_path):
    (view,) = Transpose()([View.of("t", (2000, 2000), "F32")], Dims({})).views
    path = tmp_path / "t.bin"
    path.write_bytes(bytes(2000 * 2000 * 4))
    stored = StoredTensor("t", "t", "F32", (2000, 2000), path, 0, 0)
    source = Checkpoint(tmp_path, {}, {"t": stored}, (path,), (path,), (), (FileState.of(path),))
    how = Writing(hash=hashed, fsync=False, threads=1, progress=lambda nbytes: os.truncate(path, 100))
    with pytest.raises(UnsafeFile, match="became shorter"):
        write_shards([Shard("a", b"head", (target("x", view),))], source, tmp_path, how)


@pytest.mark.parametrize("kind", [Digest, ThreadedDigest])
@pytest.mark.parametrize("updates", [2, 9], ids=["few", "many"])
def test_an_error_of_the_hash_is_raised_and_memory_is_given_back(updates, kind):
    class Failing:
        def update(self, data):
            raise MemoryError("no memory for a hash")

        def hexdigest(self):
            return "wrong"

    done = []
    with pytest.raises(MemoryError, match="for a hash"), kind(Failing()) as digest:
        for k in range(updates):
            done.append(Event())
            digest.take(memoryview(bytes(k)), done[-1].set)
        digest.hexdigest()
    assert all(one.is_set() for one in done)


def test_memory_that_is_short_ends_a_run_with_a_sentence(tmp_path, monkeypatch):
    def short(*words):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    source = write_sample(tmp_path / "source")
    monkeypatch.setattr(buffers.mmap, "mmap", short)
    with pytest.raises(TargetRefused, match="Cannot allocate memory"):
        convert(source, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("space", [b"", b"xx"], ids=["early", "at once"])
def test_a_mapped_file_that_became_shorter_is_told(space, tmp_path):
    path = tmp_path / "t.bin"
    path.write_bytes(bytes(100))
    stored = StoredTensor("t", "t", "U8", (100,), path, 0, 0)
    source = Checkpoint(tmp_path, {}, {"t": stored}, (path,), (path,), (), (FileState.of(path),))
    with opened(source) as files:
        if space:
            assert len(files.mapped("t")) == 100
        os.truncate(path, 50)
        with pytest.raises(UnsafeFile, match="became shorter"):
            files.mapped("t")


@pytest.fixture()
def real_limits(monkeypatch):
    for module, limits in LIMITS.items():
        for name, (real, _) in limits.items():
            monkeypatch.setattr(module, name, real)


@pytest.mark.parametrize(("rows", "columns"), [(1024, 4096), (1600, 6400), (6400, 1600), (300, 20000)])
def test_matrices_of_gpt2_are_taken_in_long_runs(rows, columns, real_limits):
    (view,) = Transpose()([View.of("t", (rows, columns), "F32")], Dims({})).views
    source = {"t": np.arange(rows * columns, dtype="<u4").tobytes()}
    found = list(parts(gathered(target("x", view)), steps.CHUNK))
    made = b"".join(bytes(made_in_memory(tile, source)) for tile in found)
    assert made == np.arange(rows * columns, dtype="<u4").reshape(rows, columns).T.tobytes()
    assert all(tile.count % rows == 0 and tile.count // rows * 4 >= tiles.RUN for tile in found[:-1])
    assert max(tile.length for tile in found) <= tiles.BLOCK


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("hashed", [True, False])
def test_tiles_of_real_size_reach_durable_files(shards, hashed, real_limits, tmp_path):
    (view,) = Transpose()([View.of("t", (1100, 700), "F32")], Dims({})).views
    path, values = tmp_path / "t.bin", np.random.default_rng(0).integers(0, 1 << 30, (1100, 700), "<u4")
    path.write_bytes(b"xyz" + values.tobytes())
    stored = StoredTensor("t", "t", "F32", (1100, 700), path, 0, 3)
    source = Checkpoint(tmp_path, {}, {"t": stored}, (path,), (path,), (), (FileState.of(path),))
    wanted = [Shard(f"s{k}", b"head", (target("x", view), target("y", view))) for k in range(shards)]
    digests = write_shards(wanted, source, tmp_path, Writing(hash=hashed, fsync=True, threads=4))
    for shard in wanted:
        written = (tmp_path / shard.name).read_bytes()
        assert written == b"head" + 2 * values.T.tobytes()
        assert digests[shard.name] == (hashlib.sha256(written).hexdigest() if hashed else None)


def test_a_row_longer_than_a_tile_is_cut():
    (view,) = Rows((2, 3, 50), (2, 1, 0))([View.of("t", (300, 1), "U8")], Dims({})).views
    tensor = replace(target("x", view), shape=(1, 300))
    assert [tile.count for tile in parts(gathered(tensor), 64)] == [64, 64, 64, 64, 44]

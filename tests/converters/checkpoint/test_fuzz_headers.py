"""Parsers of untrusted files against random bytes: a sound answer or a refusal, and never kinder than safetensors."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from converters.checkpoint.opening import open_checkpoint
from converters.checkpoint.safetensors_header import BITS, read_header
from converters.checkpoint.torch_zip import read_zip
from converters.checkpoint.weight_files import check_index, weight_files
from converters.errors import Refused

DTYPES = sorted({*BITS, "Q4", "f32", ""})
sizes = st.one_of(st.integers(-1, 6), st.sampled_from([2**31, 2**62, 2**64, 1.0, True, None, "2"]))
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(DTYPES),
        "shape": st.lists(sizes, max_size=3),
        "data_offsets": st.lists(sizes, min_size=0, max_size=3),
        "more": st.integers(),
    },
)
anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.floats(), lambda s: st.lists(s, max_size=3)
)
headers = st.dictionaries(st.text(max_size=6), entries | anything, max_size=4)


def sound(count: int, draw_sizes: list[tuple[str, list[int]]]) -> tuple[dict[str, object], int]:
    """A header whose tensors follow one another, and the bytes of its data."""
    header: dict[str, object] = {}
    at = 0
    for k, (dtype, shape) in enumerate(draw_sizes[:count]):
        size = BITS[dtype] // 8
        for n in shape:
            size *= n
        header[f"t{k}"] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return header, at


def judged(path: Path) -> None:
    """Ours must not accept what the library refuses, and must read the same."""
    try:
        found = read_header(path)
    except Refused:
        return
    try:
        with safe_open(path, "np") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
    except SafetensorError as error:
        raise AssertionError(f"accepted what safetensors refuses: {error}") from error
    assert {entry.key: entry.shape for entry in found.tensors} == shapes


fuzz = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@fuzz
@given(st.binary(max_size=200))
def test_random_bytes_as_safetensors(tmp_path, data):
    (tmp_path / "x.safetensors").write_bytes(data)
    judged(tmp_path / "x.safetensors")


@pytest.mark.slow
@fuzz
@given(headers, st.integers(0, 64))
def test_random_headers(tmp_path, header, size):
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * size)
    judged(tmp_path / "x.safetensors")


@pytest.mark.slow
@fuzz
@given(st.data())
def test_sound_headers_with_one_change(tmp_path, data):
    dtypes = st.sampled_from(["F32", "BF16", "U8", "F64", "I16"])
    shapes = data.draw(st.lists(st.tuples(dtypes, st.lists(st.integers(0, 4), max_size=3)), min_size=1, max_size=4))
    header, size = sound(len(shapes), shapes)
    text = bytearray(json.dumps(header).encode())
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(st.integers(0, 255))
    length = len(text) + data.draw(st.sampled_from([0, 0, 0, 1, -1, 2**40]))
    tail = b"\0" * max(0, size + data.draw(st.sampled_from([0, 0, 0, 1, -1])))
    (tmp_path / "x.safetensors").write_bytes(max(0, length).to_bytes(8, "little") + bytes(text) + tail)
    judged(tmp_path / "x.safetensors")


@pytest.mark.slow
@fuzz
@given(st.one_of(st.binary(max_size=80), headers.map(lambda h: json.dumps(h).encode())), anything)
def test_random_indexes_and_configs(tmp_path, config, weight_map):
    (tmp_path / "config.json").write_bytes(config)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for read in (lambda: open_checkpoint(tmp_path), lambda: weight_files(tmp_path), lambda: check_index(tmp_path, {})):
        try:
            read()
        except Refused:
            continue


@pytest.mark.slow
@fuzz
@given(st.data())
def test_torch_files_with_changed_bytes(tmp_path, data):
    import torch

    file = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.arange(6.0), "b": torch.ones(2, 3).half()}, file)
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        for tensor in read_zip(file):
            assert 0 <= tensor.begin <= len(content)
    except Refused:
        pass

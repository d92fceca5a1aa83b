"""Strict JSON, whole and member by member: the same as Python's reader where that is sound, and a refusal otherwise."""

import io
import json
from pathlib import Path

import pytest
from safetensors import safe_open

from converters.checkpoint.json_text import LONGEST_MEMBER, PIECE, members, parse_json
from converters.checkpoint.safetensors_header import build_header, read_header
from converters.errors import UnsafeFile

SOUND = [
    {},
    {"a": 1},
    {"é\U0001f600": ["\u0000", -1.5e-7, None, True, {"b": [[]]}], 'quoted "': "\\"},
    {f"key {k}": list(range(k % 7)) for k in range(3000)},
]


def read(text: bytes) -> dict[str, object]:
    return dict(members(io.BytesIO(text), len(text)))


@pytest.mark.parametrize("content", SOUND)
@pytest.mark.parametrize("style", [{}, {"indent": 3}, {"ensure_ascii": False}, {"separators": (",", ":")}])
def test_sound_objects_are_read_as_json_reads_them(content: dict[str, object], style: dict[str, object]) -> None:
    text = b" \n" + json.dumps(content, **style).encode() + b"\t "
    assert read(text) == parse_json(text) == content


def test_an_object_that_is_longer_than_any_buffer_is_read_whole(tmp_path: Path) -> None:
    shapes = [(f"layers.{k}.é\U0001f600" + "x" * (k % 90), "U8", (k % 3, 1)) for k in range(20_000)]
    data = build_header(shapes) + bytes(sum(rows * columns for _, _, (rows, columns) in shapes))
    assert len(data) > LONGEST_MEMBER + 2 * PIECE
    (tmp_path / "x.safetensors").write_bytes(data)
    found = {entry.key: entry.shape for entry in read_header(tmp_path / "x.safetensors").tensors}
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        assert found == {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}


BROKEN = {
    "nothing": b"",
    "a list": b"[1]",
    "text": b'"a"',
    "no key": b"{1: 2}",
    "no colon": b'{"a" 1}',
    "no value": b'{"a":}',
    "no comma": b'{"a": 1 "b": 2}',
    "a comma more": b'{"a": 1,}',
    "no end": b'{"a": 1',
    "more after the end": b'{"a": 1} x',
    "a hole": b'{"a": 1' + bytes(1000),
    "no UTF-8": b'{"a": "\xff"}',
    "half a character": b'{"a": "\\ud83d"}',
    "half a character in a key": b'{"\\ud83d": 1}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": 1e999}',
    "5,000 digits": b'{"a": ' + b"1" * 5000 + b"}",
    "fifty digits": b'{"a": ' + b"1" * 50 + b"}",
    "nested": b'{"a": ' + b"[" * 5000,
    "nested and closed": b'{"a": ' + b"[" * 80 + b"]" * 80 + b"}",
    "keys that repeat inside": b'{"a": {"b": 1, "b": 2}}',
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_objects_are_refused_in_both_ways(case: str) -> None:
    for reader in (read, parse_json):
        with pytest.raises(UnsafeFile):
            reader(BROKEN[case])


def test_a_member_longer_than_any_honest_one_and_a_text_of_too_many_values_are_refused() -> None:
    with pytest.raises(UnsafeFile, match="characters"):
        read(b'{"a": "' + b"x" * (LONGEST_MEMBER + 10) + b'"}')
    with pytest.raises(UnsafeFile, match="more than any"):
        parse_json(b'{"a": [' + b"[]," * 300_000 + b"1]}")
    assert len(parse_json(b'{"a": [' + b"[]," * 10_000 + b"1]}")["a"]) == 10_001


def test_python_s_constants_where_they_are_allowed() -> None:
    assert parse_json(b'{"a": Infinity}', nonfinite=True) == {"a": float("inf")}

"""Readers of native files against random and changed bytes: a sound answer or a refusal, never anything else."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.checkpoint.gguf_header import read_gguf
from converters.checkpoint.opening import open_checkpoint
from converters.checkpoint.users_word import HEADS
from converters.errors import ConversionError, Refused
from converters.forms.llama2c_file import SIZES
from converters.plan.options import Options
from converters.plan.plan import make_plan

pytestmark = pytest.mark.slow
fuzz = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def judged(path: Path) -> None:
    """Opens and plans; what is opened lies inside its file."""
    try:
        with HEADS.said(4):
            found = open_checkpoint(path, dequantize=True)
        for tensor in found.tensors.values():
            inside = tensor.begin + tensor.nbytes <= tensor.file.stat().st_size
            assert tensor.begin >= 0 and (inside or found.unpack is not None)
        make_plan(found, options=Options(dequantize=True))
    except ConversionError:
        pass


def changed(data: bytes, draw: st.DataObject, first: int) -> bytes:
    """Some bytes of the first ones changed, the end perhaps cut."""
    content = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 5))):
        content[draw.draw(st.integers(0, min(first, len(content)) - 1))] = draw.draw(st.integers(0, 255))
    return bytes(content[: draw.draw(st.sampled_from([len(content)] * 4 + [len(content) // 2, len(content) - 1]))])


@fuzz
@given(st.binary(max_size=300))
def test_random_bytes(tmp_path, data):
    for name in ("x.gguf", "x.bin", "x.pt"):
        (tmp_path / name).write_bytes(data)
        judged(tmp_path / name)
    (tmp_path / "x.gguf").write_bytes(b"GGUF\x03\0\0\0" + data)
    judged(tmp_path / "x.gguf")


entry = st.tuples(
    st.text(max_size=8).map(str.encode) | st.just(b"general.alignment"),
    st.integers(0, 14),
    st.binary(max_size=24),
)


@fuzz
@given(st.integers(0, 6), st.lists(entry, max_size=4), st.binary(max_size=200), st.booleans())
def test_gguf_headers_of_random_entries(tmp_path, tensors, entries, rest, sound):
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(entries) if sound else 2**40)
    for name, kind, value in entries:
        head += struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value
    (tmp_path / "x.gguf").write_bytes(head + rest)
    try:
        read_gguf(tmp_path / "x.gguf")
    except Refused:
        pass


@fuzz
@given(st.data())
def test_ggufs_with_changed_bytes(tmp_path, hot_llama, writers, data):
    source = tmp_path / "sound.gguf"
    if not source.exists():
        writers["gguf"](hot_llama(), source)
    (tmp_path / "x.gguf").write_bytes(changed(source.read_bytes(), data, 24_000))
    judged(tmp_path / "x.gguf")


@fuzz
@given(st.data())
def test_llama2c_files_with_changed_headers(tmp_path, hot_llama, writers, data):
    version = data.draw(st.integers(0, 1))
    source = tmp_path / f"sound{version}.bin"
    if not source.exists():
        writers["llama2c"](hot_llama(), source, version=version)
    (tmp_path / "x.bin").write_bytes(changed(source.read_bytes(), data, 64))
    judged(tmp_path / "x.bin")


@fuzz
@given(st.tuples(*[st.integers(-(2**31), 2**31 - 1) | st.integers(1, 8)] * len(SIZES)), st.integers(0, 3000))
def test_llama2c_headers_of_random_sizes(tmp_path, sizes, more):
    (tmp_path / "x.bin").write_bytes(struct.pack("<7i", *sizes) + bytes(more))
    judged(tmp_path / "x.bin")


@pytest.mark.parametrize("kind", ["nanogpt", "nvidia", "tutorial"])
@fuzz
@given(st.data())
def test_files_of_torch_with_changed_bytes(tmp_path, writers, ngpt, kind, data):
    source = tmp_path / "sound.pt"
    if not source.exists():
        {"nanogpt": writers["nanogpt"], "nvidia": ngpt.write_nvidia, "tutorial": ngpt.write_tutorial}[kind](source)
    whole = source.read_bytes()
    at = whole.index(b"data.pkl")
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[at + data.draw(st.integers(0, 4000))] = data.draw(st.integers(0, 255))
    (tmp_path / "x.pt").write_bytes(content)
    judged(tmp_path / "x.pt")


values = st.one_of(
    st.integers(-2, 100), st.floats(), st.booleans(), st.none(), st.text(max_size=3), st.lists(st.integers())
)
names = st.sampled_from(
    """dim n_layers n_heads n_kv_heads vocab_size multiple_of ffn_dim_multiplier norm_eps rope_theta use_scaled_rope
    rope_scaling_factor max_seq_len model_parallel vocab_parallel other""".split()
)


@fuzz
@given(st.dictionaries(names, values, max_size=3))
def test_params_with_changed_values(tmp_path, hot_llama, writers, changes):
    folder = tmp_path / "meta"
    if not folder.exists():
        writers["meta"](hot_llama(intermediate_size=64), folder, ranks=2)
        (folder / "sound.json").write_bytes((folder / "params.json").read_bytes())
    params = {**json.loads((folder / "sound.json").read_text()), **changes}
    (folder / "params.json").write_text(json.dumps(params))
    judged(folder)


@fuzz
@given(st.dictionaries(st.sampled_from(["n_layer", "n_head", "n_embd", "block_size", "bias", "x"]), values, max_size=3))
def test_residues_with_changed_values(tmp_path, hot_llama, writers, changes):
    """A MixFormer whose record of the past was edited: what comes out is sound, or refused."""
    from converters import convert

    ours = tmp_path / "ours"
    if not ours.exists():
        convert(writers["meta"](hot_llama(intermediate_size=64), tmp_path / "meta", ranks=2), output=ours)
        (ours / "sound.json").write_bytes((ours / "config.json").read_bytes())
    config = json.loads((ours / "sound.json").read_text())
    edits = dict(zip(("model_parallel", "vocab_parallel", "multiple_of"), changes.values(), strict=False))
    config["converted_from"]["fields"].update(edits)
    (ours / "config.json").write_text(json.dumps(config))
    try:
        make_plan(ours, to="llama-meta")
    except ConversionError:
        pass

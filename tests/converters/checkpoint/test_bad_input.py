"""Broken, hostile or contradictory input: refused with exit code 3 and a sentence, nothing written or changed."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from cli.main import app
from converters import convert
from converters.errors import ConfigRefused, Refused, TargetRefused, UnsafeFile, UsageError
from converters.sample import write_sample

KEY = "model.layers.0.self_attn.k_proj.weight"


def edit_header(folder: Path, change) -> None:
    """Rewrites the header of the sample's weights after `change` on its JSON object; data stay."""
    file = folder / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header = change(header) or header
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def header(change):
    return lambda folder: edit_header(folder, change)


def entry(**fields):
    return header(lambda h: h[KEY].update(fields))


def config(**fields):
    def change(folder: Path) -> None:
        path = folder / "config.json"
        content = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))

    return change


def weights(data):
    """Replaces the file, or changes its bytes."""
    return lambda folder: (folder / "model.safetensors").write_bytes(
        data((folder / "model.safetensors").read_bytes()) if callable(data) else data
    )


def text(name: str, content: str):
    return lambda folder: (folder / name).write_text(content)


def index(weight_map):
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        content = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return change


def rename_key(old: str, new: str):
    return header(lambda h: {new if name == old else name: value for name, value in h.items()})


def drop_last(h):
    """Removes the tensor that lies last in the file."""
    last = max((k for k in h if k != "__metadata__"), key=lambda k: h[k]["data_offsets"][1])
    return {k: v for k, v in h.items() if k != last}


def twice(h) -> bytes:
    """The header with the entry of a tensor repeated at its end."""
    return f"{json.dumps(h)[:-1]}, {json.dumps(KEY)}: {json.dumps(h[KEY])}}}".encode()


def shift(by: int):
    def change(h):
        begin, end = h[KEY]["data_offsets"]
        h[KEY]["data_offsets"] = [begin + by, end + by]

    return header(change)


def as_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def bare_decoder(folder: Path) -> None:
    """A LlamaModel as transformers saves it: no head, no `model.` before its keys."""
    config(architectures=["LlamaModel"])(folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file({k.removeprefix("model."): v for k, v in tensors.items()}, folder / "model.safetensors")


ROPE = {"rope_type": "default", "rope_theta": 10000.0}
CASES = {
    "empty file": (weights(b""), "0 bytes"),
    "garbage": (weights(b"\xff" * 4096), "the format allows"),
    "a text file": (weights(b"Not a model but a page that says so.\n" * 3), "not a valid safetensors file"),
    "truncated data": (weights(lambda data: data[:-1]), "truncated"),
    "truncated header": (weights(lambda data: data[:100]), "it is truncated, or no safetensors file"),
    "appended bytes": (weights(lambda data: data + b"x"), "has data after them"),
    "header of 100 MB": (weights((100_000_001).to_bytes(8, "little") + b" " * 64), "the format allows"),
    "header not JSON": (header(lambda h: b"{" + b" " * 50), "JSON cannot be read"),
    "header not an object": (header(lambda h: b"[1, 2]"), "not an object"),
    "header not UTF-8": (header(lambda h: b'{"\xff": 1}'), "JSON cannot be read"),
    "header nested deeply": (header(lambda h: b'{"a":' * 5000 + b"1" + b"}" * 5000), "JSON cannot be read"),
    "header with NaN": (header(lambda h: b'{"a": NaN}'), "NaN"),
    "duplicate keys": (header(lambda h: twice(h)), "appears twice"),
    "metadata not strings": (header(lambda h: h.update(__metadata__={"a": 1})), "__metadata__"),
    "entry not an object": (header(lambda h: h.update({KEY: 7})), "not an object"),
    "unknown dtype": (entry(dtype="Q4"), "dtype 'Q4'"),
    "dtype of another width": (entry(dtype="F16"), "takes"),
    "negative shape": (entry(shape=[-32, -96]), "non-negative"),
    "huge shape": (entry(shape=[2**62, 8]), "takes"),
    "shape of floats": (entry(shape=[32.0, 96]), "non-negative"),
    "shape true": (entry(shape=[True, 3072]), "non-negative"),
    "offsets backwards": (entry(data_offsets=[100, 4]), "data_offsets"),
    "offsets missing": (entry(data_offsets=None), "data_offsets"),
    "overlap": (shift(-4), "overlaps"),
    "hole": (shift(4), "leaves a gap"),
    "missing tensor": (header(drop_last), "truncated, or has data after them"),
    "missing and extra key": (rename_key(KEY, KEY.replace("k_proj", "key_proj")), "did you mean"),
    "extra tensor": (header(lambda h: h.update(extra={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})), "extra"),
    "misshapen tensor": (entry(shape=[96, 32]), r"expected \[kv_rows = 32, n_embd = 96\]"),
    "a key with a path": (rename_key(KEY, "../../../etc/passwd"), "no rule knows the tensor"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "config not JSON": (text("config.json", "{"), "JSON cannot be read"),
    "config a list": (text("config.json", "[]"), "not an object"),
    "config with duplicate keys": (text("config.json", '{"model_type": "llama", "model_type": "x"}'), "appears twice"),
    "unknown model_type": (config(model_type="mamba"), "model_type 'mamba'"),
    "sequence classification": (config(architectures=["LlamaForSequenceClassification"]), "causal language"),
    "unknown field": (config(frobnicate=1), "frobnicate"),
    "misspelt field": (config(rms_norm_eps=..., rms_norms_eps=1), "did you mean rms_norm_eps"),
    "size of a wrong type": (config(hidden_size="96"), "hidden_size is '96'"),
    "size zero": (config(num_hidden_layers=0), "positive integer"),
    "size true": (config(num_attention_heads=True), "positive integer"),
    "missing size": (config(hidden_size=...), "hidden_size is missing"),
    "size that contradicts": (config(hidden_size=64), r"n_embd = 64"),
    "heads that do not divide": (config(num_key_value_heads=3), "not a multiple"),
    "eps negative": (config(rms_norm_eps=-1e-5), "rms_norm_eps"),
    "unknown activation": (config(hidden_act="swiglu"), "swiglu"),
    "activation with weights": (config(hidden_act="prelu"), "prelu"),
    "theta zero": (config(rope_parameters={**ROPE, "rope_theta": 0}), "rope_theta"),
    "two thetas": (config(rope_theta=5.0), "they differ"),
    "unknown rope": (config(rope_parameters={**ROPE, "rope_type": "spiral"}), "spiral"),
    "rope parameter missing": (
        config(rope_parameters={**ROPE, "rope_type": "yarn"}),
        "rope_parameters.factor is missing",
    ),
    "rope parameter unknown": (config(rope_parameters={**ROPE, "facto": 2.0}), "did you mean factor"),
    "rope parameter unsound": (
        config(rope_parameters={**ROPE, "rope_type": "linear", "factor": -2}),
        "positive number",
    ),
    "partial rotary that LLaMA cannot run": (
        config(rope_parameters={**ROPE, "rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}),
        "transformers has no such rope",
    ),
    "vision": (config(vision_config={}), "save `model.language_model` first"),
    "experts": (config(num_local_experts=8), "mixture of experts"),
    "adapter": (lambda folder: as_adapter(folder), "merge_and_unload"),
    "adapter beside a model": (
        text("adapter_config.json", "{}"),
        "has the adapter in it; .* remove adapter_config.json",
    ),
    "bare decoder without a head": (lambda folder: bare_decoder(folder), "has no output head"),
    "rope not an object": (config(rope_parameters=[1]), "expected an object"),
    "dtype unknown": (config(dtype="int4"), "dtype is 'int4'"),
    "quantised": (config(quantization_config={"quant_method": "gptq"}), "quantization_config"),
    "custom code": (config(auto_map={"AutoModel": "x.Y"}), "auto_map"),
    "index to a parent": (index({KEY: "../model-00001-of-00001.safetensors"}), "expected the name of"),
    "index to an absolute path": (index({KEY: "/etc/passwd"}), "expected the name of"),
    "index to a pickle": (index({KEY: "pytorch_model.bin"}), "expected the name of"),
    "index to a missing file": (index({KEY: "model-00002-of-00002.safetensors"}), "not in the folder"),
    "index that lacks tensors": (index({KEY: "model-00001-of-00001.safetensors"}), "but it is in"),
    "index without a map": (index({}), "no weight_map"),
    "index and single file": (
        text("model.safetensors.index.json", '{"weight_map": {"x": "model-1.safetensors"}}'),
        "remove the old one",
    ),
    "only a pickle": (
        lambda folder: (folder / "model.safetensors").rename(folder / "weights.pt"),
        "in a form that cannot be read",
    ),
}


@pytest.fixture
def source(tmp_path) -> Path:
    return write_sample(tmp_path / "source")


def state(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_with_a_sentence_and_nothing_written(case, source, tmp_path):
    break_it, sentence = CASES[case]
    break_it(source)
    before = state(source)
    with pytest.raises(Refused, match=sentence):
        convert(source, to="mixformer", output=tmp_path / "out")
    result = CliRunner().invoke(app, ["llama", str(source), "--to", "mixformer", "-o", str(tmp_path / "out")])
    assert getattr(result.exception, "exit_code", None) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
    assert state(source) == before


def test_a_config_without_a_type_is_of_the_family_that_is_named_or_of_none(source, tmp_path):
    config(model_type=..., architectures=...)(source)
    with pytest.raises(ConfigRefused, match="has no model_type; say which family it is"):
        convert(source, to="mixformer", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert convert(source, "llama", output=tmp_path / "out").family == "llama"


def test_there_are_at_least_thirty_hostile_cases():
    assert len(CASES) >= 30


def test_a_target_that_holds_something_else_is_left_alone(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    with pytest.raises(TargetRefused, match="--force"):
        convert(source, to="mixformer", output=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("inside", ["source", "source/out", "."])
def test_source_and_target_must_not_lie_in_one_another(inside, source, tmp_path):
    with pytest.raises(TargetRefused, match="lie in one another"):
        convert(source, to="mixformer", output=tmp_path / inside)


def test_a_target_that_is_a_link_or_a_file_is_refused(source, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("x")
    for name in ("link", "file"):
        with pytest.raises(TargetRefused, match="not a folder"):
            convert(source, to="mixformer", output=tmp_path / name)
    assert not any((tmp_path / "elsewhere").iterdir())


def test_requests_that_make_no_sense_are_usage_errors(source, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        convert(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="did you mean llama"):
        ours = convert(source, output=tmp_path / "ours").output
        convert(ours, to="lama")
    with pytest.raises(UsageError, match="not mixformer"):
        convert(source, "mixformer", to="llama")
    with pytest.raises(UsageError, match="is a llama checkpoint already"):
        convert(source, to="llama")


def test_a_waived_field_is_kept_and_comes_back(source, tmp_path):
    from converters.conversion import Request
    from converters.plan.options import Options

    config(frobnicate=1)(source)
    ours = convert(source, output=tmp_path / "ours", request=Request(options=Options(waive=("frobnicate",)))).output
    assert json.loads((ours / "config.json").read_text())["converted_from"]["waived"] == ["frobnicate"]
    back = convert(ours, to="llama", output=tmp_path / "back").output
    assert json.loads((back / "config.json").read_text()) == json.loads((source / "config.json").read_text())


def as_links(source: Path, blobs: Path, folder: Path) -> Path:
    """Moves a model's files away and leaves links to them."""
    shutil.move(source, blobs)
    folder.mkdir(parents=True)
    for path in blobs.iterdir():
        (folder / path.name).symlink_to(os.path.relpath(path, folder))
    return folder


def test_links_of_a_snapshot_to_its_blobs_are_followed_and_never_written(source, tmp_path):
    cached = tmp_path / "models--a--b"
    cached.mkdir()
    snapshot = as_links(source, cached / "blobs", cached / "snapshots" / "0123abcd")
    before = state(cached / "blobs")
    out = convert(snapshot, output=tmp_path / "out").output
    assert not any(path.is_symlink() for path in out.iterdir())
    assert (out / "tokenizer.json").read_bytes() == (cached / "blobs" / "tokenizer.json").read_bytes()
    assert state(cached / "blobs") == before


def test_a_link_inside_the_source_is_followed(source, tmp_path):
    (source / "LICENSE.md").write_text("mine")
    (source / "NOTICE").symlink_to("LICENSE.md")
    assert (convert(source, output=tmp_path / "out").output / "NOTICE").read_text() == "mine"


@pytest.mark.parametrize("where", ["source", "models--a--b/snapshots/0123abcd"])
def test_a_side_file_that_links_out_of_the_model_is_refused_and_weights_are_not(where, source, tmp_path):
    linked = as_links(source, tmp_path / "elsewhere", tmp_path / where)
    with pytest.raises(UnsafeFile, match=r"generation_config\.json is a link to .*elsewhere.*put a copy"):
        convert(linked, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for path in linked.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
            shutil.copy(tmp_path / "elsewhere" / path.name, path)
    assert convert(linked, output=tmp_path / "out").tensors


def test_modes_do_not_depend_on_the_umask(source, tmp_path):
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "x.jinja").write_text("{{ messages }}")
    before = os.umask(0o077)
    try:
        out = convert(source, output=tmp_path / "new" / "out").output
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (out.parent, out, out / "additional_chat_templates")} == {0o755}
    assert {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()} == {0o644}

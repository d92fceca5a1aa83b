"""Every native form against an independent reading of the same file: one function in float64, on hot weights."""

import json
from dataclasses import replace

import pytest

from converters import convert
from converters import family as registry
from converters.algebra.views import Same
from converters.alignment import equal_folders
from converters.checkpoint.opening import open_checkpoint
from converters.config import layout
from converters.errors import ConversionError
from converters.plan.plan import make_plan
from golden import compare
from golden.conformance.mutations import mutations
from golden.conformance.planting import plant_family

INNER = {"intermediate_size": 64}  # half of two thirds of 4 x 48, as params.json says it with a multiplier of 0.5
META = {
    "one rank": {},
    "two ranks": {"ranks": 2},
    "four ranks": {"ranks": 4},
    "four ranks, embedding by rows": {"ranks": 4, "by_rows": True},
    "theta": {"ranks": 2, "by_rows": True, "rope_theta": 500000.0},
    "vocabulary said": {"vocab_size": 332},
}


@pytest.mark.parametrize("case", META)
def test_metas_shards_are_one_function(judged, case, hot_llama, writers, equal_tensors, tmp_path):
    options = META[case]
    theta = options.get("rope_theta", 10000.0)
    hot = hot_llama(**INNER, rope_parameters={"rope_type": "default", "rope_theta": theta})
    native = writers["meta"](hot, tmp_path / "native", **options)
    ours = convert(native, "llama", output=tmp_path / "ours").output
    judged(ours, native)
    assert equal_tensors(convert(native, to="llama", output=tmp_path / "llama").output, hot)
    back = convert(ours, to="llama-meta", output=tmp_path / "back").output
    assert equal_folders(native, back) == []


def test_scaled_rope_of_llama_3_1_is_one_function(judged, hot_llama, writers, tmp_path):
    rope = {
        "rope_type": "llama3",
        "rope_theta": 5e5,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    hot = hot_llama(**INNER, rope_parameters=rope, hidden_size=96, head_dim=12)
    scaled = {"rope_theta": 500000.0, "use_scaled_rope": True, "multiple_of": 64, "ffn_dim_multiplier": 0.2}
    native = writers["meta"](hot, tmp_path / "native", ranks=2, **scaled)
    ours = convert(native, "llama", output=tmp_path / "ours").output
    judged(ours, native)
    judged(ours, hot, levels=["L2"])
    assert any("LLaMA 3.2" in note for note in open_checkpoint(native).notes)
    assert json.loads((ours / "config.json").read_text())["architecture"]["mixer"]["rope_parameters"]["factor"] == 8.0


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_llama2c_files_are_one_function(judged, version, tied, hot_llama, writers, equal_tensors, tmp_path):
    hot = hot_llama(tie_word_embeddings=tied)
    native = writers["llama2c"](hot, tmp_path / "model.bin", version=version)
    ours = convert(native, "llama", output=tmp_path / "ours").output
    judged(ours, native)
    assert equal_tensors(convert(native, to="llama", output=tmp_path / "llama").output, hot)
    back = convert(ours, to="llama2c", output=tmp_path / "back").output
    assert equal_folders(native, back) == []


@pytest.mark.parametrize(
    "overrides",
    [{}, {"tie_word_embeddings": True}, {"head_dim": 20, "num_key_value_heads": 2}, {"attention_bias": True}],
    ids=str,
)
def test_llama_ggufs_are_one_function(judged, overrides, hot_llama, writers, equal_tensors, tmp_path):
    hot = hot_llama(**overrides)
    native = writers["gguf"](hot, tmp_path / "model.gguf")
    ours = convert(native, "llama", output=tmp_path / "ours").output
    judged(ours, native) if not overrides.get("attention_bias") else None  # transformers reads no biases from GGUF
    assert equal_tensors(convert(native, to="llama", output=tmp_path / "llama").output, hot)
    assert equal_folders(native, convert(ours, to="llama-gguf", output=tmp_path / "back").output) == []


@pytest.mark.parametrize("overrides", [{}, {"tie_word_embeddings": True}, {"n_inner": 100}], ids=str)
def test_gpt2_ggufs_are_one_function(judged, overrides, hot_gpt2, writers, equal_tensors, tmp_path):
    hot = hot_gpt2(**overrides)
    native = writers["gguf"](hot, tmp_path / "model.gguf")
    ours = convert(native, "gpt2", output=tmp_path / "ours").output
    judged(ours, native)
    assert equal_tensors(convert(native, to="gpt2", output=tmp_path / "gpt2").output, hot)
    assert equal_folders(native, convert(ours, to="gpt2-gguf", output=tmp_path / "back").output) == []


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module._orig_mod."])
def test_nanogpt_checkpoints_are_one_function(judged, bias, prefix, writers, tmp_path):
    native = writers["nanogpt"](tmp_path / "out" / "ckpt.pt", bias=bias, prefix=prefix, mask=bool(prefix))
    ours = convert(native.parent, "gpt2", output=tmp_path / "ours").output
    judged(ours, native)
    back = convert(ours, to="nanogpt", output=tmp_path / "back").output
    assert equal_folders(native, back) == []


@pytest.mark.parametrize("bias", [True, False])
def test_a_nanogpt_becomes_a_gpt2_of_transformers(judged, bias, writers, tmp_path):
    """Without biases too: those of GPT-2 are zero then."""
    native = writers["nanogpt"](tmp_path / "ckpt.pt", bias=bias)
    gpt2 = convert(native, to="gpt2", output=tmp_path / "gpt2").output
    judged(gpt2, native)
    ours = convert(native, output=tmp_path / "ours").output
    judged(convert(ours, to="gpt2", output=tmp_path / "second").output, ours)


def native_of(name, hot_llama, hot_gpt2, writers, place):
    """A native file of a dialect."""
    return {
        "llama-meta": lambda: writers["meta"](hot_llama(**INNER), place / "meta"),
        "llama2c": lambda: writers["llama2c"](hot_llama(), place / "model.bin"),
        "llama-gguf": lambda: writers["gguf"](hot_llama(), place / "model.gguf"),
        "gpt2-gguf": lambda: writers["gguf"](hot_gpt2(), place / "model.gguf"),
        "nanogpt": lambda: writers["nanogpt"](place / "ckpt.pt", bias=True),
    }[name]()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-meta", "llama2c", "llama-gguf", "gpt2-gguf", "nanogpt"])
def test_every_wrong_table_fails_by_its_function(name, hot_llama, hot_gpt2, writers, tmp_path, monkeypatch):
    """A dozen mutations of each dialect's rules: they convert without complaint, and L2 finds them."""
    native, family = native_of(name, hot_llama, hot_gpt2, writers, tmp_path), registry.get_family(name)
    resolved = layout.resolve(make_plan(native).config)
    wrong = [(key, table) for key, table in mutations(family, resolved).items() if "lm_head" not in key]
    wrong = wrong[:: max(1, len(wrong) // 12)]
    assert len(wrong) >= 12
    for k, (fault, table) in enumerate(wrong):
        with monkeypatch.context() as patch:
            plant_family(patch, table)
            ours = convert(native, name, output=tmp_path / str(k)).output
        (ours / "conversion.json").unlink()
        assert compare(ours, native, levels=["L2"]).verdict == "FAIL", fault


@pytest.mark.parametrize("name", ["llama-meta", "llama2c", "llama-gguf"])
def test_without_the_rotary_permutation_it_fails(name, hot_llama, hot_gpt2, writers, tmp_path, monkeypatch):
    native, family = native_of(name, hot_llama, hot_gpt2, writers, tmp_path), registry.get_family(name)

    def unturned(ours):
        rules = family.rules(ours)
        return [replace(rule, move=_without_rows(rule.move)) for rule in rules]

    plant_family(monkeypatch, replace(family, rules=unturned))
    ours = convert(native, name, output=tmp_path / "ours").output
    assert compare(ours, native, levels=["L2"]).level("L2").number > 1e-2


def _without_rows(move):
    from converters.algebra.moves import Rows
    from converters.algebra.views import Each, Then

    if isinstance(move, Rows):
        return Same()
    return type(move)(tuple(map(_without_rows, move.moves))) if isinstance(move, Each | Then) else move


def test_a_whole_verdict_is_reached_on_a_native_file(hot_llama, writers, tmp_path):
    """Kernels and behaviour too."""
    native = writers["llama2c"](hot_llama(), tmp_path / "model.bin")
    ours = convert(native, output=tmp_path / "ours").output
    verdict = compare(ours, native)
    assert verdict.verdict == "PASS"
    assert {verdict.level(name).status.value for name in ("L0", "L1", "L2", "L3", "L4")} == {"PASS"}


def test_a_dialect_is_named_by_its_family_or_its_own_name(hot_llama, writers, tmp_path):
    native = writers["llama2c"](hot_llama(), tmp_path / "model.bin")
    for name in ("llama", "llama2c", None):
        assert convert(native, name, output=tmp_path / str(name)).family == "llama2c"
    with pytest.raises(ConversionError, match="not gpt2"):
        convert(native, "gpt2", output=tmp_path / "never")

"""A residue edited by hand, contradictions and odd forms: refused or mended, never carried into a broken output."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from converters import convert
from converters.alignment import equal_folders
from converters.conversion import Request
from converters.errors import ConfigRefused, Refused, UnsafeFile
from converters.plan.options import Options
from converters.sample import write_sample


@pytest.fixture
def source(tmp_path):
    return write_sample(tmp_path / "source")


@pytest.fixture
def ours(source, tmp_path):
    return convert(source, output=tmp_path / "ours").output


def config(folder, change):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


F32 = {"dtype": "F32", "hex": "0000803f"}
SPOILED = {
    "buffer over a weight": {"buffers": [{**F32, "keys": ["model.norm.weight"]}]},
    "buffer named as metadata": {"buffers": [{**F32, "keys": ["__metadata__"]}]},
    "buffer with a path": {"buffers": [{**F32, "keys": ["../x"]}]},
    "buffer keys a string": {"buffers": [{**F32, "keys": "ab"}]},
    "buffer of 3 bytes": {"buffers": [{"dtype": "F32", "hex": "000080", "keys": ["rotary_emb.inv_freq"]}]},
    "buffers a number": {"buffers": 3},
    "head unknown": {"head": {"kind": []}},
    "head without sense": {"head": {"kind": "own", "said": "banana"}},
    "bare a word": {"keys": {"bare": "no"}},
    "prefix of pieces": {"keys": {"prefix": "mod_orig_mod.ule."}},
    "no model_type": {"absent": ["model_type"]},
    "an unknown field": {"fields": {"frobnicate": 3}},
    "a nested residue": {"fields": {"converted_from": 3}},
    "an activation list": {"fields": {"hidden_act": []}},
    "absent a number": {"absent": [3]},
    "fields a list": {"fields": []},
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_residue_never_makes_an_output_that_cannot_be_read(case, source, ours, tmp_path):
    config(ours, lambda c: c["converted_from"].update(SPOILED[case]))
    try:
        back = convert(ours, to="llama", output=tmp_path / "back").output
    except Refused:
        assert not (tmp_path / "back").exists()
        return
    assert load_file(back / "model.safetensors").keys() == load_file(source / "model.safetensors").keys()
    convert(back, output=tmp_path / "again")


HEAD_DIM = 16  # of the sample
TABLE = "model.layers.{}.self_attn.rotary_emb.inv_freq"


def with_tables(source):
    tensors = load_file(source / "model.safetensors")
    table = 1.0 / 10000.0 ** (torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM)
    tensors |= {TABLE.format(i): table.clone() for i in range(3)}
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})


def test_tables_that_no_longer_hold_are_left_out_with_a_note(source, tmp_path):
    with_tables(source)
    ours = convert(source, output=tmp_path / "ours").output
    config(ours, lambda c: c["architecture"]["mixer"].update(rotary_base=500000.0))
    report = convert(ours, to="llama", output=tmp_path / "back")
    assert len(report.notes) == 3 and TABLE.format(1) in report.notes[1]
    assert not any("inv_freq" in key for key in load_file(report.output / "model.safetensors"))


def test_rope_spellings_that_contradict_are_refused_and_equal_ones_are_not(source, tmp_path):
    config(source, lambda c: c.update(rope_scaling={"type": "linear", "factor": 8.0}))
    with pytest.raises(ConfigRefused, match="they differ"):
        convert(source, output=tmp_path / "ours")
    linear = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 8.0}
    config(source, lambda c: c.update(rope_parameters=linear))
    ours = convert(source, output=tmp_path / "ours").output
    back = convert(ours, to="llama", output=tmp_path / "back").output
    assert equal_folders(source, back) == []


def test_a_contradiction_in_one_field_leaves_the_others_as_they_were(source, tmp_path):
    def change(c):
        c["torch_dtype"] = "float32"
        for name in ("attention_bias", "mlp_bias", "attention_dropout", "initializer_range"):
            del c[name]

    config(source, change)
    ours = convert(source, output=tmp_path / "ours").output
    config(ours, lambda c: c.update(dtype="bfloat16"))
    back = json.loads((convert(ours, to="llama", output=tmp_path / "back").output / "config.json").read_text())
    before = json.loads((source / "config.json").read_text())
    assert {n for n in before.keys() | back.keys() if before.get(n, 0) != back.get(n, 0)} <= {"dtype", "torch_dtype"}
    assert back["dtype"] == "bfloat16"


ODD = {
    "dotted name": lambda c: c.update({"architecture.mixer.rotary_base": 500.0}),
    "dotted name inside": lambda c: c["architecture"].update({"mixer.rotary_base": 500.0}),
    "no mixer_cls": lambda c: c["architecture"]["mixer"].pop("mixer_cls"),
    "norm a number": lambda c: c.update(architecture=[{"norm": 5}] * 3),
    "activation a list": lambda c: c["architecture"]["mlp"].update(act_fn=[]),
    "a million layers": lambda c: c.update(n_layer=10**6),
    "very many layers": lambda c: c.update(n_layer=10**25),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_configs_of_ours_are_refused_in_a_sentence(case, ours, tmp_path):
    config(ours, ODD[case])
    with pytest.raises(Refused):
        convert(ours, to="llama", output=tmp_path / "back")


def test_numbers_and_characters_that_no_json_can_hold_are_refused(source, tmp_path):
    path = source / "config.json"
    text = path.read_text()
    for bad in ('"temperature": 1e999', '"_name_or_path": "\\ud800"'):
        path.write_text(text.replace("{", "{" + bad + ",", 1))
        with pytest.raises(Refused):
            convert(source, output=tmp_path / "ours")
        assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("said", ["banana", 1, [], "false", None])
def test_a_tie_that_is_no_boolean_is_refused(said, source, tmp_path):
    tensors = load_file(source / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, source / "model.safetensors")
    config(source, lambda c: c.update(tie_word_embeddings=said))
    with pytest.raises(ConfigRefused, match="tie_word_embeddings"):
        convert(source, output=tmp_path / "ours")


def test_diff_calls_a_cast_a_difference(source, tmp_path):
    cast = convert(source, output=tmp_path / "cast", request=Request(options=Options(dtype="bfloat16"))).output
    assert any("BF16" in line for line in equal_folders(source, cast))


def test_weights_that_are_not_cast_are_refused_by_name(source, tmp_path):
    tensors = {k: v.to(torch.float8_e4m3fn) for k, v in load_file(source / "model.safetensors").items()}
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(Refused, match="F8_E4M3; --dtype can cast"):
        convert(source, output=tmp_path / "ours", request=Request(options=Options(dtype="bfloat16")))
    ours = convert(source, output=tmp_path / "ours").output
    assert equal_folders(source, convert(ours, to="llama", output=tmp_path / "back").output) == []


def test_a_refused_field_can_be_waived_and_a_converted_one_cannot(source, tmp_path):
    config(source, lambda c: c.update(auto_map={"AutoModel": "x.Y"}))
    ours = convert(source, output=tmp_path / "ours", request=Request(options=Options(waive=("auto_map",)))).output
    back = convert(ours, to="llama", output=tmp_path / "back").output
    assert equal_folders(source, back) == []
    with pytest.raises(ConfigRefused, match="hidden_act: it is converted"):
        convert(source, output=tmp_path / "x", request=Request(options=Options(waive=("auto_map", "hidden_act"))))


def test_a_waived_path_of_ours_is_passed_over(ours, tmp_path):
    config(ours, lambda c: c.update(resid_pdrop=0.1))
    options = Options(waive=("resid_pdrop",))
    back = convert(ours, to="llama", output=tmp_path / "back", request=Request(options=options)).output
    assert (back / "model.safetensors").is_file()


def test_further_templates_and_licences_of_any_case_are_carried(source, tmp_path):
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool.jinja").write_text("{{ tool }}")
    (source / "license.txt").write_text("free")
    (source / "tokenizer_files").mkdir()
    ours = convert(source, output=tmp_path / "ours").output
    assert (ours / "additional_chat_templates" / "tool.jinja").read_text() == "{{ tool }}"
    back = convert(ours, to="llama", output=tmp_path / "back").output
    assert equal_folders(source, back) == []
    (back / "license.txt").write_text("not free")
    assert equal_folders(source, back) == ["license.txt differs"]


def test_a_stale_index_of_the_form_that_is_not_read_does_no_harm(source, tmp_path):
    (source / "pytorch_model.bin.index.json").write_text('{"weight_map": {"x": "pytorch_model-1.bin"}}')
    assert convert(source, output=tmp_path / "ours").notes


def test_a_tied_head_of_another_dtype_is_a_head_of_its_own(source, tmp_path):
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].half()
    save_file(tensors, source / "model.safetensors")
    config(source, lambda c: c.update(tie_word_embeddings=True))
    ours = convert(source, output=tmp_path / "ours").output
    assert load_file(ours / "model.safetensors")["layers.4.linear.weight"].dtype is torch.float16


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_beside_a_nested_state_dict_are_refused(legacy, source, tmp_path):
    state = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    content = {"state_dict": state, "ema": state}
    torch.save(content, source / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeFile, match="'ema' beside its state_dict"):
        convert(source, output=tmp_path / "ours")


def test_a_sign_that_torch_keeps_aside_is_not_lost(source, tmp_path):
    state = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    weight = state["lm_head.weight"]
    state["lm_head.weight"] = torch.conj(torch.complex(torch.zeros_like(weight), weight)).imag
    torch.save(state, source / "pytorch_model.bin")
    with pytest.raises(UnsafeFile, match="sign"):
        convert(source, output=tmp_path / "ours")


def test_a_pipe_in_place_of_weights_is_refused(source, tmp_path):
    import os

    (source / "model.safetensors").unlink()
    os.mkfifo(source / "model.safetensors")
    with pytest.raises(UnsafeFile, match="expected a regular file"):
        convert(source, output=tmp_path / "ours")

"""Options that lose something by name: tensors left out, rows of the vocabulary cut off; and rows that are padded."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2DoubleHeadsModel

import mixformer  # noqa: F401  registers the Auto classes
from cli.parity import judged
from converters import convert
from converters.alignment import equal_folders
from converters.conversion import Request
from converters.errors import ConfigRefused, CoverageRefused, NotInvertible, UsageError
from converters.plan.options import Options
from golden.models.hot import heat, hot_config, make_hot

VOCAB, PADDED = 331, 384


def asked(**options):
    return Request(options=Options(**options))


def verdict(candidate, reference):
    return judged(candidate, reference, device="cpu", quiet=True, levels=["L0", "L1", "L2", "L4"])


def passes(candidate, reference):
    found = verdict(candidate, reference)
    assert found.verdict == "PASS", [(level.name, level.detail) for level in found.levels]
    return found


def steps(folder):
    return json.loads((folder / "conversion.json").read_text())["lossy_steps"]


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def logits(folder, ids):
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()(ids).logits


IDS = torch.randint(0, VOCAB, (2, 20), generator=torch.Generator().manual_seed(5))


# --- tensors that are no part of the model


def with_heads(place):
    """A GPT2DoubleHeadsModel with the value head of a trainer beside."""
    model = GPT2DoubleHeadsModel(hot_config("gpt2"))
    heat(model, 0)
    model.float().save_pretrained(place)
    tensors = load_file(place / "model.safetensors")
    tensors |= {"v_head.summary.weight": torch.ones(1, 48), "v_head.summary.bias": torch.ones(1)}
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    return place


BOTH = ("multiple_choice_head.*", "v_head.*")


def test_tensors_of_other_heads_are_refused_with_the_words_that_leave_them_out(tmp_path):
    source = with_heads(tmp_path / "source")
    with pytest.raises(CoverageRefused) as refused:
        convert(source, output=tmp_path / "ours")
    assert str(refused.value).endswith("leave them out: --drop 'multiple_choice_head.*' --drop 'v_head.*'")


def test_tensors_of_other_heads_are_left_out_recorded_and_judged(tmp_path):
    source = with_heads(tmp_path / "source")
    report = convert(source, output=tmp_path / "ours", request=asked(drop=BOTH))
    keys = ["multiple_choice_head.summary.bias", "multiple_choice_head.summary.weight"]
    keys += ["v_head.summary.bias", "v_head.summary.weight"]
    (step,) = steps(report.output)
    assert step == {"step": "drop tensors", "keys": step["keys"]} and sorted(step["keys"]) == keys
    assert any("--drop, recorded" in note for note in report.notes)
    passes(report.output, source)
    back = convert(report.output, to="gpt2", output=tmp_path / "back").output
    assert sorted(line.split()[0] for line in equal_folders(source, back)) == keys
    passes(back, report.output)


def test_the_same_leaves_tensors_of_a_mixformer_out(tmp_path):
    ours = convert(make_hot("llama", tmp_path / "source"), output=tmp_path / "ours").output
    tensors = load_file(ours / "model.safetensors")
    save_file({**tensors, "v_head.weight": torch.ones(1, 48)}, ours / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CoverageRefused, match=r"--drop 'v_head\.\*'"):
        convert(ours, to="llama", output=tmp_path / "back")
    back = convert(ours, to="llama", output=tmp_path / "back", request=asked(drop=("v_head.*",))).output
    assert equal_folders(tmp_path / "source", back) == []
    passes(back, ours)


def test_a_tensor_inside_the_model_is_no_other_head(tmp_path):
    source = make_hot("llama", tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.1.self_attn.q_norm.weight"] = torch.ones(20)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CoverageRefused, match="q_norm") as refused:
        convert(source, output=tmp_path / "ours")
    assert "--drop" not in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("model.norm.*", "model.norm.weight is a part of the model"),
        ("*", "is a part of the model"),
        ("lm_head.weight", "lm_head.weight is a part of the model"),
        ("nothing.*", "there is no such tensor"),
    ],
)
def test_parts_of_the_model_cannot_be_left_out(pattern, why, tmp_path):
    source = make_hot("llama", tmp_path / "source")
    with pytest.raises(CoverageRefused, match=why):
        convert(source, output=tmp_path / "ours", request=asked(drop=(pattern,)))
    assert not (tmp_path / "ours").exists()


# --- rows of the vocabulary


def trained(ours, place):
    """The model after one step of training, which changes padded rows too."""
    model = AutoModelForCausalLM.from_pretrained(ours)
    step = torch.optim.SGD(model.parameters(), lr=0.05)
    model(IDS, labels=IDS).loss.backward()
    step.step()
    model.save_pretrained(place)
    return place


@pytest.mark.parametrize("family", ["gpt2", "llama", "phi"])
def test_a_padded_model_that_was_trained_comes_back_without_its_padding(family, tmp_path):
    source = make_hot(family, tmp_path / "source")
    ours = convert(source, output=tmp_path / "ours", request=asked(pad_vocab=64)).output
    tuned = trained(ours, tmp_path / "tuned")
    with pytest.raises(NotInvertible, match=f"rows {VOCAB}..{PADDED - 1} are padding.*--crop-vocab {VOCAB}"):
        convert(tuned, to=family, output=tmp_path / "back")
    report = convert(tuned, to=family, output=tmp_path / "back", request=asked(crop_vocab=VOCAB))
    assert steps(report.output) == [{"step": "crop vocabulary", "rows": VOCAB, "of": PADDED}]
    assert any(f"rows {VOCAB}..{PADDED - 1} of the vocabulary were cut off" in note for note in report.notes)
    assert config_of(report.output)["vocab_size"] == VOCAB
    assert (logits(report.output, IDS) - logits(tuned, IDS)[..., :VOCAB]).abs().max() < 1e-4
    passes(report.output, tuned)


def test_a_row_that_is_kept_and_wrong_fails(tmp_path):
    ours = convert(make_hot("llama", tmp_path / "source"), output=tmp_path / "ours", request=asked(pad_vocab=64)).output
    tuned = trained(ours, tmp_path / "tuned")
    back = convert(tuned, to="llama", output=tmp_path / "back", request=asked(crop_vocab=VOCAB)).output
    tensors = load_file(back / "model.safetensors")
    tensors["lm_head.weight"][VOCAB - 1] += 0.5
    save_file(tensors, back / "model.safetensors", metadata={"format": "pt"})
    assert verdict(back, tuned).verdict == "FAIL"


def test_a_record_cannot_have_rows_passed_over_that_are_there(tmp_path):
    source = make_hot("llama", tmp_path / "source")
    ours = convert(source, output=tmp_path / "ours").output
    tensors = load_file(ours / "model.safetensors")
    tensors["layers.0.wte.weight"][200] += 1.0
    save_file(tensors, ours / "model.safetensors", metadata={"format": "pt"})
    record = json.loads((ours / "conversion.json").read_text())
    record["lossy_steps"] = [{"step": "crop vocabulary", "rows": 100, "of": VOCAB}]
    (ours / "conversion.json").write_text(json.dumps(record))
    found = verdict(ours, source)
    assert found.verdict == "FAIL" and found.level("L2").status == "FAIL"


def test_rows_can_be_cut_off_on_the_way_to_a_mixformer_too(tmp_path):
    source = make_hot("gptj", tmp_path / "source")
    ours = convert(source, output=tmp_path / "ours", request=asked(crop_vocab=300)).output
    assert load_file(ours / "model.safetensors")["layers.4.linear.bias"].shape == (300,)
    passes(ours, source)
    back = convert(ours, to="gptj", output=tmp_path / "back").output
    assert config_of(back)["vocab_size"] == 300
    passes(back, ours)


def test_between_two_families_rows_are_cut_off_as_well(tmp_path):
    source = make_hot("llama", tmp_path / "source")
    other = convert(source, to="mistral", output=tmp_path / "other", request=asked(crop_vocab=300)).output
    assert load_file(other / "model.safetensors")["lm_head.weight"].shape == (300, 48)
    passes(other, source)


def test_as_many_rows_as_there_are_is_no_step(tmp_path):
    source = make_hot("llama", tmp_path / "source")
    ours = convert(source, output=tmp_path / "ours", request=asked(crop_vocab=VOCAB)).output
    assert steps(ours) == []
    assert equal_folders(source, convert(ours, to="llama", output=tmp_path / "back").output) == []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"crop_vocab": VOCAB + 1}, f"expected at most {VOCAB}"),
        ({"crop_vocab": 0}, "--crop-vocab is 0"),
        ({"crop_vocab": 300, "pad_vocab": 64}, "cannot go together"),
        ({"pad_low": True}, "goes with --pad-vocab"),
    ],
)
def test_requests_that_contradict_themselves(options, why, tmp_path):
    with pytest.raises(UsageError, match=why):
        convert(make_hot("llama", tmp_path / "source"), output=tmp_path / "ours", request=asked(**options))


def test_padding_warns_of_ids_that_can_win(tmp_path):
    for family, low in (("llama", False), ("phi", True)):
        report = convert(
            make_hot(family, tmp_path / family), output=tmp_path / f"ours-{family}", request=asked(pad_vocab=64)
        )
        (note,) = [note for note in report.notes if "padding" in note]
        assert note.startswith(f"the ids {VOCAB}..{PADDED - 1} are padding with the logit 0")
        assert ("--pad-low" in note) is low


@pytest.mark.parametrize("family", ["phi", "gptj", "codegen"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_padded_ids_with_a_low_bias_never_win_and_come_back(family, dtype, tmp_path):
    source = make_hot(family, tmp_path / "source")
    if dtype is not torch.float32:
        AutoModelForCausalLM.from_pretrained(source, dtype=dtype).save_pretrained(source)
    report = convert(source, output=tmp_path / "ours", request=asked(pad_vocab=64, pad_low=True))
    assert not any("logit 0" in note for note in report.notes)
    bias = load_file(report.output / "model.safetensors")["layers.4.linear.bias"]
    assert bias.dtype is dtype and bool((bias[VOCAB:].float() < -29000).all())
    found = logits(report.output, IDS)
    assert bool((found.argmax(-1) < VOCAB).all()) and torch.isfinite(found).all()
    assert equal_folders(source, convert(report.output, to=family, output=tmp_path / "back").output) == []
    if dtype is torch.float32:
        passes(report.output, source)
        passes(tmp_path / "back", report.output)


def test_a_head_without_a_bias_has_no_low_padding(tmp_path):
    with pytest.raises(ConfigRefused, match="--pad-low: the head of this model has no bias"):
        convert(
            make_hot("llama", tmp_path / "source"), output=tmp_path / "ours", request=asked(pad_vocab=64, pad_low=True)
        )


def test_low_padding_that_was_trained_away_is_refused(tmp_path):
    source = make_hot("phi", tmp_path / "source")
    ours = convert(source, output=tmp_path / "ours", request=asked(pad_vocab=64, pad_low=True)).output
    tensors = load_file(ours / "model.safetensors")
    tensors["layers.4.linear.bias"][-1] = 0.0
    save_file(tensors, ours / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotInvertible, match="padding and should be -30000"):
        convert(ours, to="phi", output=tmp_path / "back")

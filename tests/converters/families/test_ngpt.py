"""nGPT's dialects: equal in every byte on the way back, one function, and refused in a sentence where unsound.

Files and functions come from `tests/ngpt_makers.py`, which shares nothing with the converters.
"""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import mixformer  # noqa: F401  transformers learns of our model
from converters import convert
from converters import family as registry
from converters.algebra.moves import Rows
from converters.algebra.views import Each, Same, Then
from converters.alignment import equal_folders
from converters.checkpoint.users_word import HEADS
from converters.conversion import Request
from converters.errors import ConfigRefused, CoverageRefused, NotInvertible, Refused, ShapeMismatch, UsageError
from converters.plan.options import Options
from converters.plan.plan import make_plan
from golden.conformance.planting import plant_family

NATIVE = Request(native=True)
IDS = torch.randint(0, 37, (40,), generator=torch.Generator().manual_seed(1))
FIXED = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])
SIZES = [(24, 4), (60, 6), (128, 2)]  # width and heads: head_dim 6, 10, 64
TUTORIAL = {
    "rates": {},
    "no rates": {"rates": False},
    "torch.compile": {"prefix": "_orig_mod."},
    "no rates, wrapped twice": {"rates": False, "prefix": "module._orig_mod."},
}
NVIDIA = {
    "ngpt": {},
    "ngpt with biases": {"bias": True},
    "ngpt in float32": {"half": False},
    "wrapped": {"prefix": "_orig_mod."},
    "plain": {"use_nGPT": 0, "base_scale": 0.02},
    "plain with biases": {"use_nGPT": 0, "bias": True, "dropout": 0.1},
    "plain in float32, wrapped": {"use_nGPT": 0, "half": False, "prefix": "_orig_mod.", "block_size": 128},
}


def said(n_head):
    """A request with a user's number of heads."""
    return Request(Options(n_head=n_head))


def saved(path):
    """The content of a file of torch, as its own programs load it."""
    return torch.load(path, weights_only=False)


def equal(one, other):
    """Whether two state dicts are equal in keys, dtypes, shapes and bits."""
    return one.keys() == other.keys() and all(
        one[key].dtype == t.dtype
        and one[key].shape == t.shape
        and torch.equal(one[key].contiguous().view(torch.uint8), t.contiguous().view(torch.uint8))
        for key, t in other.items()
    )


def logits(folder, ids=IDS, dtype=torch.float64):
    """(tokens, vocab) of a MixFormer."""
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)(ids[None]).logits[0]


def distance(found, wanted):
    """Root mean square of the difference, by the deviation of what is wanted."""
    return float((found - wanted).square().mean().sqrt() / wanted.std())


def in_float64(weights):
    return {key: tensor.double() for key, tensor in weights.items()}


@pytest.mark.parametrize(("d", "n_head"), SIZES)
@pytest.mark.parametrize("case", TUTORIAL)
def test_a_tutorials_file_returns_equal_and_is_one_function(case, d, n_head, ngpt, tmp_path):
    weights = ngpt.write_tutorial(tmp_path / "model.pt", d=d, **TUTORIAL[case])
    ours = convert(tmp_path / "model.pt", "ngpt", output=tmp_path / "ours", request=said(n_head)).output
    assert distance(logits(ours), ngpt.tutorial_logits(in_float64(weights), n_head, IDS)) <= 1e-13
    back = convert(ours, to="ngpt", output=tmp_path / "back", request=NATIVE).output
    assert equal(saved(back / "model.pt"), saved(tmp_path / "model.pt"))
    folder = convert(ours, to="ngpt", output=tmp_path / "folder").output
    assert equal(load_file(folder / "model.safetensors"), saved(tmp_path / "model.pt"))
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["n_head"]) == ("ngpt-tutorial", n_head)
    again = convert(folder, "ngpt", output=tmp_path / "again").output
    assert equal(load_file(again / "model.safetensors"), load_file(ours / "model.safetensors"))
    with HEADS.said(n_head):
        assert equal_folders(tmp_path / "model.pt", folder) == []


@pytest.mark.parametrize(("d", "n_head"), SIZES)
@pytest.mark.parametrize("case", NVIDIA)
def test_nvidias_file_returns_equal_and_is_one_function(case, d, n_head, ngpt, tmp_path):
    options = {"base_scale": d**-0.5, "n_embd": d, "n_head": n_head} | NVIDIA[case]
    weights = ngpt.write_nvidia(tmp_path / "ckpt.pt", **options)
    args = ngpt.nvidia_args(**{name: value for name, value in options.items() if name not in ("prefix", "half")})
    ours = convert(tmp_path / "ckpt.pt", "ngpt", output=tmp_path / "ours").output
    assert distance(logits(ours), ngpt.nvidia_logits(in_float64(weights), args, IDS)) <= 1e-13
    back = convert(ours, to="ngpt", output=tmp_path / "back", request=NATIVE).output
    was, now = _file_of_nvidia(tmp_path / "ckpt.pt", ngpt), saved(back / "ckpt.pt")
    assert equal(now["model"], was["model"])
    assert now["model_args"] == args == was["model_args"] and now["iter_num"] == was["iter_num"]
    assert now.keys() == {"model", "model_args", "iter_num"}
    assert ngpt.GPTConfig(**now["model_args"]).n_embd == d
    assert equal_folders(tmp_path / "ckpt.pt", back) == []
    folder = convert(ours, to="ngpt", output=tmp_path / "folder").output
    assert json.loads((folder / "config.json").read_text())["model_type"] == "ngpt-nvidia"
    assert equal_folders(tmp_path / "ckpt.pt", folder) == []


def _file_of_nvidia(path, ngpt):
    with ngpt.model_module():
        return saved(path)


def test_numbers_that_anybody_can_rebuild(ngpt, tmp_path):
    """Published with the formulas: sums of all logits in float32, and the beginning of the last row."""
    weights = ngpt.by_sines(ngpt.tutorial_shapes(16, 32, 2))
    torch.save(weights, tmp_path / "model.pt")
    ours = convert(tmp_path / "model.pt", "ngpt", output=tmp_path / "tutorial", request=said(2)).output
    found = logits(ours, FIXED, torch.float32)
    assert len(weights) == 23 and abs(float(found.sum()) + 8.075249) < 1e-4
    assert torch.allclose(found[-1, :4], torch.tensor([-0.991338, -0.613009, 1.065004, 0.598687]), atol=1e-5, rtol=0)
    args = ngpt.nvidia_args(n_embd=16, n_head=2, vocab_size=32, base_scale=0.25)
    ngpt.save_nvidia(tmp_path / "ckpt.pt", ngpt.by_sines(ngpt.nvidia_shapes(args)), args)
    found = logits(convert(tmp_path / "ckpt.pt", output=tmp_path / "nvidia").output, FIXED, torch.float32)
    assert abs(float(found.sum()) + 3.764602) < 1e-4
    assert torch.allclose(found[-1, :4], torch.tensor([8.247917, -8.185532, -11.077988, 2.739567]), atol=1e-5, rtol=0)


def _without_rows(move):
    """A move that leaves rows where they are."""
    if isinstance(move, Rows):
        return Same()
    return type(move)(tuple(map(_without_rows, move.moves))) if isinstance(move, Each | Then) else move


@pytest.mark.parametrize(
    ("keys", "least"),
    [("qk_scale", 1e-2), ("Wqkv", 1e-2), ("", 1e-2), ("fc1", 0.0)],
    ids=["scale", "q, k", "all", "none"],
)
def test_rows_and_their_scale_move_together(keys, least, ngpt, tmp_path, monkeypatch):
    """A conversion that left some of them where they are would come back equal, and compute something else."""
    family = registry.get_family("ngpt-tutorial")

    def unmoved(ours):
        found = family.rules(ours)
        return [replace(r, move=_without_rows(r.move)) if any(keys in key for key in r.ours) else r for r in found]

    weights = ngpt.write_tutorial(tmp_path / "model.pt")
    plant_family(monkeypatch, replace(family, rules=unmoved))
    ours = convert(tmp_path / "model.pt", output=tmp_path / "ours", request=said(4)).output
    back = convert(ours, to=family.name, output=tmp_path / "back", request=NATIVE).output
    assert equal(saved(back / "model.pt"), weights)
    found = distance(logits(ours), ngpt.tutorial_logits(in_float64(weights), 4, IDS))
    assert found > least if least else found <= 1e-13


@pytest.mark.parametrize("change", ["one rate", "another dtype", "nothing"])
def test_rates_that_were_trained_are_written(change, ngpt, tmp_path):
    ngpt.write_tutorial(tmp_path / "model.pt", rates=False)
    ours = convert(tmp_path / "model.pt", output=tmp_path / "ours", request=said(4)).output
    weights = load_file(ours / "model.safetensors")
    rates = [key for key in weights if "alpha" in key]
    assert len(rates) == 4 and all((weights[key] == 1).all() for key in rates)
    if change == "one rate":
        weights[rates[0]][3] = 0.5
    elif change == "another dtype":
        weights |= {key: weights[key].double() for key in rates}
    save_file(weights, ours / "model.safetensors")
    report = convert(ours, to="ngpt", output=tmp_path / "back", request=NATIVE)
    back = saved(report.output / "model.pt")
    wanted = ngpt.tutorial_shapes(24, 37, 2, rates=change != "nothing")
    assert {key: tuple(tensor.shape) for key, tensor in back.items()} == wanted
    assert any("were trained" in note for note in report.notes) == (change != "nothing")
    if change == "one rate":
        assert float(back[f"decoders.0.{'lr_atten' if 'attn' in rates[0] else 'lr_mlp'}"][3]) == 0.5


def test_tensors_without_effect_are_carried_and_change_nothing(ngpt, tmp_path):
    weights = ngpt.write_tutorial(tmp_path / "a.pt")
    other = weights | {"decoders.0.mlp.S_uv": weights["decoders.0.mlp.S_uv"] * -3}
    torch.save(other, tmp_path / "b.pt")
    ours = [convert(tmp_path / f"{k}.pt", output=tmp_path / k, request=said(4)).output for k in "ab"]
    assert torch.equal(logits(ours[0]), logits(ours[1]))
    back = convert(ours[1], to="ngpt", output=tmp_path / "back", request=NATIVE).output
    assert equal(saved(back / "model.pt"), other)


def test_a_users_word_is_recorded_and_told(ngpt, tmp_path):
    ngpt.write_tutorial(tmp_path / "model.pt")
    report = convert(tmp_path / "model.pt", output=tmp_path / "ours", request=said(2))
    assert any("n_head 2 is your word" in note for note in report.notes)
    config, record = (json.loads((report.output / f"{n}.json").read_text()) for n in ("config", "conversion"))
    assert config["converted_from"]["fields"]["user_said"] == ["n_head"] and record["options"]["n_head"] == 2
    other = convert(tmp_path / "model.pt", output=tmp_path / "other", request=said(4)).output
    assert distance(logits(report.output), logits(other)) > 1e-2  # and a wrong one is another function


@pytest.mark.parametrize(
    ("n_head", "words"),
    [
        (None, "nothing in model.pt says how many heads the model has: say it with --n-head"),
        (5, "n_embd 24, n_head 5: expected sizes for which n_embd / n_head is"),
        (8, "n_head 8 gives heads of width 3; pairs need an even one"),
        (24, "heads of width 1"),
        (48, "n_head 48: expected sizes"),
    ],
)
def test_numbers_of_heads_that_cannot_be(n_head, words, ngpt, tmp_path):
    ngpt.write_tutorial(tmp_path / "model.pt")
    with pytest.raises(ConfigRefused, match=words):
        convert(tmp_path / "model.pt", output=tmp_path / "ours", request=said(n_head))
    assert not (tmp_path / "ours").exists()


def test_a_number_of_heads_that_contradicts_the_file(ngpt, tmp_path):
    ngpt.write_nvidia(tmp_path / "ckpt.pt")
    with pytest.raises(UsageError, match=r"--n-head 2: .*ckpt\.pt says n_head 4"):
        convert(tmp_path / "ckpt.pt", output=tmp_path / "ours", request=said(2))
    assert convert(tmp_path / "ckpt.pt", output=tmp_path / "ours", request=said(4)).family == "ngpt-nvidia"


@pytest.mark.parametrize(
    ("changes", "words", "kind"),
    [
        ({"more.weight": torch.ones(2)}, "no rule knows the tensor more.weight", CoverageRefused),
        ({"decoders.0.atten.k.weight": None}, "the tensor decoders.0.atten.k.weight is missing", CoverageRefused),
        ({"decoders.0.lr_mlp": None}, "the tensor decoders.0.lr_mlp is missing", CoverageRefused),
        (
            {"decoders.0.lr_mlp": None, "decoders.1.lr_mlp": None},
            "the first is decoders.0.lr_mlp",
            CoverageRefused,
        ),
        ({"decoders.3.atten.S_qk": torch.ones(24)}, "missing, the first is decoders.2", CoverageRefused),
        ({"decoders.999999999.atten.S_qk": torch.ones(24)}, "1000000000 layers", ConfigRefused),
        ({"embedding_layer.weight": None}, "embedding_layer.weight is missing", ConfigRefused),
        ({"embedding_layer.weight": torch.ones(37)}, "embedding_layer.weight has the shape", ConfigRefused),
        ({"embedding_layer.weight": torch.ones(37, 32)}, "expected", ShapeMismatch),
        ({"outlayer.weight": None}, "this one is stored without", ConfigRefused),
        ({"outlayer.weight": torch.ones(36, 24)}, "outlayer.weight has shape", ShapeMismatch),
        ({"decoders.1.mlp.fc1.weight": torch.ones(96, 24)}, "decoders.1.mlp.fc1.weight has shape", ShapeMismatch),
        ({"decoders.1.mlp.S_uv": torch.ones(192, dtype=torch.int64)}, "I64", CoverageRefused),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unsound_files_of_the_tutorial(changes, words, kind, ngpt, tmp_path):
    ngpt.write_tutorial(tmp_path / "model.pt", changes=changes)
    with pytest.raises(kind, match=words):
        convert(tmp_path / "model.pt", "ngpt", output=tmp_path / "ours", request=said(4))
    assert not (tmp_path / "ours").exists()


def test_a_layer_without_its_tensors(ngpt, tmp_path):
    weights = ngpt.write_tutorial(tmp_path / "model.pt", layers=3)
    torch.save({key: t for key, t in weights.items() if "decoders.1." not in key}, tmp_path / "model.pt")
    with pytest.raises(CoverageRefused, match=r"missing, the first is decoders\.1\."):
        convert(tmp_path / "model.pt", output=tmp_path / "ours", request=said(4))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"use_nGPT": 2}, "use_nGPT is 2, expected 1 or 0"),
        ({"use_nGPT": None}, "use_nGPT is None"),
        ({"use_nGPT": 0}, "no rule knows 9 tensors, the first is sz"),
        ({"n_embd": 48}, "expected"),
        ({"n_layer": 3}, "transformer.h.2"),
        ({"n_layer": 1}, "no rule"),
        ({"n_head": 5}, "n_head 5"),
        ({"n_head": 8}, "heads of width 3"),
        ({"vocab_size": 38}, "vocab_size = 38"),
        ({"base_scale": 0.0}, "base_scale is 0.0, expected a positive number"),
        ({"base_scale": "x"}, "base_scale is 'x'"),
        ({"bias": True}, "bias"),
        ({"bias": 1}, "bias is 1"),
        ({"block_size": -1}, "block_size is -1"),
        ({"dropout": 2.0}, "dropout is 2.0"),
        ({"n_head": "4"}, "n_head is '4'"),
        ({"n_kv_head": 2}, "n_kv_head"),
    ],
    ids=str,
)
def test_model_args_that_cannot_be(args, words, ngpt, tmp_path):
    weights, sound = ngpt.write_nvidia(tmp_path / "ckpt.pt"), ngpt.nvidia_args()
    given = {name: value for name, value in (sound | args).items() if value is not None}
    entries = {"model_args": given, "config": ngpt.GPTConfig()}
    ngpt.save_nvidia(tmp_path / "ckpt.pt", weights, sound, entries)
    with pytest.raises(Refused, match=words):
        convert(tmp_path / "ckpt.pt", "ngpt", output=tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("name", ["n_layer", "n_head", "n_embd", "vocab_size", "base_scale", "use_nGPT"])
def test_model_args_that_lack_a_size(name, ngpt, tmp_path):
    weights, sound = ngpt.write_nvidia(tmp_path / "ckpt.pt"), ngpt.nvidia_args()
    ngpt.save_nvidia(tmp_path / "ckpt.pt", weights, sound, {"model_args": {k: sound[k] for k in sound if k != name}})
    with pytest.raises(ConfigRefused, match=name):
        make_plan(tmp_path / "ckpt.pt")


@pytest.mark.parametrize("key", ["transformer.h.1.sqk", "sz", "lm_head.weight", "transformer.h.0.query.weight"])
def test_tensors_that_nvidias_file_lacks(key, ngpt, tmp_path):
    weights = ngpt.write_nvidia(tmp_path / "ckpt.pt")
    ngpt.save_nvidia(tmp_path / "ckpt.pt", {k: t for k, t in weights.items() if k != key}, ngpt.nvidia_args())
    with pytest.raises(Refused, match=key.replace("lm_head.weight", "stored without").replace(".", r"\.")):
        make_plan(tmp_path / "ckpt.pt")


def test_model_type_ngpt_of_others_is_not_taken_for_ours(ngpt, tmp_path):
    weights = ngpt.write_tutorial(tmp_path / "model.pt")
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "ngpt", "n_head": 4, "n_embd": 24, "n_layer": 2}))
    with pytest.raises(ConfigRefused, match="model_type 'ngpt'"):
        make_plan(tmp_path, "ngpt")


def test_a_model_that_came_from_no_dialect_has_to_name_one(ngpt, llama, tmp_path):
    ours = convert(llama("mha"), output=tmp_path / "llama").output
    with pytest.raises(UsageError, match="--dialect evintunador or joeli or"):
        make_plan(ours, to="ngpt")
    for name in ("ngpt-tutorial", "ngpt-nvidia"):
        with pytest.raises(ConfigRefused, match="cannot hold this model"):
            make_plan(ours, to=name)


def test_a_model_whose_origin_was_forgotten_returns_to_a_dialect_that_is_named(ngpt, tmp_path):
    for path, name in ((tmp_path / "model.pt", "ngpt-tutorial"), (tmp_path / "ckpt.pt", "ngpt-nvidia")):
        write = ngpt.write_tutorial if "tutorial" in name else ngpt.write_nvidia
        weights = write(path)
        ours = convert(path, output=tmp_path / name, request=said(4)).output
        config = json.loads((ours / "config.json").read_text())
        config.pop("converted_from", None)
        (ours / "config.json").write_text(json.dumps(config))
        back = convert(ours, to=name, output=tmp_path / f"{name}-back").output
        assert equal(load_file(back / "model.safetensors"), weights)
        other = "ngpt-nvidia" if "tutorial" in name else "ngpt-tutorial"
        with pytest.raises(ConfigRefused, match="cannot hold this model"):
            make_plan(ours, to=other)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("residual",), "add"),
        (("attn_alpha", "init"), 0.1),
        (("mixer", "qk_scale", "scaling"), 0.5),
        (("mlp", "uv_scale", "init"), 1.0),
        (("mlp", "uv_scale", "used"), False),
        (("mixer", "softmax_scale"), 1.0),
        (("mixer", "rotary_style"), "half"),
        (("mixer", "rotary_formula"), "pow"),
        (("mixer", "qk_l2_norm"), False),
        (("mixer", "attn_fn"), "masked_linear"),
        (("mlp", "bias"), True),
        (("head", "use_norm"), True),
    ],
    ids=str,
)
def test_an_edit_that_changes_the_function_does_not_go_back(path, value, ngpt, tmp_path):
    ngpt.write_nvidia(tmp_path / "ckpt.pt")
    ours = convert(tmp_path / "ckpt.pt", output=tmp_path / "ours").output
    config = json.loads((ours / "config.json").read_text())
    place = config["architecture"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (ours / "config.json").write_text(json.dumps(config))
    with pytest.raises(Refused) as caught:
        make_plan(ours, to="ngpt")
    assert "--waive" not in str(caught.value)
    with pytest.raises(Refused):
        make_plan(ours, to="ngpt", options=Options(waive=(f"architecture.{'.'.join(path)}",)))


def test_a_padded_vocabulary_is_cropped_again(ngpt, tmp_path):
    weights = ngpt.write_nvidia(tmp_path / "ckpt.pt")
    request = Request(Options(pad_vocab=64))
    ours = convert(tmp_path / "ckpt.pt", output=tmp_path / "ours", request=request).output
    assert load_file(ours / "model.safetensors")["layers.3.logit_scale.weight"].shape == (64,)
    args = ngpt.nvidia_args()
    assert distance(logits(ours)[:, :37], ngpt.nvidia_logits(in_float64(weights), args, IDS)) <= 1e-13
    back = convert(ours, to="ngpt", output=tmp_path / "back", request=NATIVE).output
    assert equal(saved(back / "ckpt.pt")["model"], weights)


def test_ones_that_stand_for_rates_are_cast_too(ngpt, tmp_path):
    ngpt.write_tutorial(tmp_path / "model.pt", rates=False)
    request = Request(Options(n_head=4, dtype="bfloat16"))
    ours = convert(tmp_path / "model.pt", output=tmp_path / "ours", request=request).output
    rate = load_file(ours / "model.safetensors")["layers.1.attn_alpha.weight"]
    assert rate.dtype == torch.bfloat16 and (rate == 1).all()


def test_other_constants_are_still_refused_where_no_field_speaks_of_them(ngpt, tmp_path):
    """Padding that training moved is no constant that a source left out."""
    ngpt.write_tutorial(tmp_path / "model.pt", rates=False)
    request = Request(Options(n_head=4, pad_vocab=64))
    ours = convert(tmp_path / "model.pt", output=tmp_path / "ours", request=request).output
    weights = load_file(ours / "model.safetensors")
    weights["layers.0.wte.weight"][60] = 1.0
    save_file(weights, ours / "model.safetensors")
    with pytest.raises(NotInvertible, match="padding"):
        convert(ours, to="ngpt", output=tmp_path / "back")

"""A MixFormer of every generation converts to its function, however its keys are wrapped and its files are kept."""

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import PhiForCausalLM

from cli.plain_folders import plain_folders
from converters import convert
from converters.alignment import align, equal_folders
from converters.checkpoint.opening import open_checkpoint
from converters.errors import CoverageRefused, NotInvertible, UnsafeFile
from golden import compare
from golden.models.hot import make_hot

L, V = 2, 64
TABLE = json.loads((Path(__file__).parents[2] / "generations.json").read_text())
CONFIGS = {name: row["config"] for name, row in TABLE.items()}
SIZES = {"vocab_size": V, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": L}
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
REST = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64, "layer_norm_eps": 1e-3}


@pytest.fixture(scope="module")
def phi(tmp_path_factory):
    """The function that all generations of the table are: a small phi-1.5, hot, in float32."""
    folder = make_hot("phi", tmp_path_factory.mktemp("phi"), **SIZES, **REST, rope_parameters=ROPE)
    return PhiForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def weights(phi):
    """Its tensors under the names of today, by hand."""
    theirs, ours = phi.state_dict(), {}
    ours["layers.0.wte.weight"] = theirs["model.embed_tokens.weight"]
    for kind in ("weight", "bias"):
        for i in range(L):
            source, target = f"model.layers.{i}.", f"layers.{i + 1}."
            ours[f"{target}ln.{kind}"] = theirs[f"{source}input_layernorm.{kind}"]
            parts = [theirs[f"{source}self_attn.{x}_proj.{kind}"] for x in "qkv"]
            ours[f"{target}mixer.Wqkv.{kind}"] = torch.cat(parts)
            ours[f"{target}mixer.out_proj.{kind}"] = theirs[f"{source}self_attn.dense.{kind}"]
            for name in ("fc1", "fc2"):
                ours[f"{target}mlp.{name}.{kind}"] = theirs[f"{source}mlp.{name}.{kind}"]
        ours[f"layers.{L + 1}.ln.{kind}"] = theirs[f"model.final_layernorm.{kind}"]
        ours[f"layers.{L + 1}.linear.{kind}"] = theirs[f"lm_head.{kind}"]
    return {key: tensor.clone() for key, tensor in ours.items()}


def logits(model):
    ids = torch.randint(0, V, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return copy.deepcopy(model).double()(ids).logits


def distance(folder, phi):
    """Root mean square of the logits' difference by their deviation, in float64."""
    truth = logits(phi)
    found = logits(PhiForCausalLM.from_pretrained(folder, dtype=torch.float64))
    return float((found - truth).pow(2).mean().sqrt() / truth.std())


def keep(folder, config, tensors, name="model.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if name.endswith(".safetensors"):
        save_file({k: v.clone() for k, v in tensors.items()}, folder / name, metadata={"format": "pt"})
    else:
        torch.save(tensors, folder / name)
    return folder


def frequencies(dtype=torch.float32, base=10000.0):
    table = (base ** (-torch.arange(0, 32, 2, dtype=torch.float64) / 32)).to(dtype)
    return {f"layers.{i + 1}.mixer.rotary_emb.inv_freq": table.clone() for i in range(L)}


def as_first(weights):
    old = {key.replace("fc1", "fc_in").replace("fc2", "fc_out"): tensor for key, tensor in weights.items()}
    return old | frequencies()


def as_msft(weights):
    tops = {"0": "transformer.embd.", str(L + 1): "lm_head."}
    named = {}
    for key, tensor in weights.items():
        number, rest = re.fullmatch(r"layers\.(\d+)\.(.*)", key).groups()
        named[tops.get(number, f"transformer.h.{int(number) - 1}.") + rest] = tensor
    return named


SPELT = {
    "first": as_first,
    "first without rotary_dim": dict,
    "first under its first names": dict,
    "first with a list": as_first,
    "second": dict,
    "second without rotary_dim": lambda weights: weights | frequencies(torch.float16),
    "second under names of transformers": dict,
    "second, its last code": dict,
    "phi-msft": as_msft,
    "phi-msft without rotary_dim": as_msft,
    "sdk": dict,
}


@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("name", SPELT)
def test_every_generation_converts_to_its_function(name, form, phi, weights, tmp_path):
    source = keep(tmp_path / "source", CONFIGS[name], SPELT[name](weights), form)
    report = convert(source, to="phi", output=tmp_path / "phi")
    assert distance(report.output, phi) <= 1e-12
    assert any("generation" in note for note in report.notes) == (name != "sdk")
    assert align(report.output, source).problems == ()


def test_another_eps_or_rotary_dim_would_be_seen(phi, weights, tmp_path):
    for field, value, least in (("layer_norm_epsilon", 1e-5, 1e-4), ("rotary_dim", 64, 1e-2)):
        source = keep(tmp_path / field, {**CONFIGS["first"], field: value}, weights)
        assert distance(convert(source, to="phi", output=tmp_path / f"{field}-phi").output, phi) > least


@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("name", ["first", "phi-msft"])
def test_a_verdict_asks_the_model_as_it_was_stored(name, form, weights, tmp_path):
    """The plain copy keeps config and names of its generation, so the reference is read by the model's own code."""
    source = keep(tmp_path / "source", CONFIGS[name], SPELT[name](weights), form)
    right = convert(source, to="phi", output=tmp_path / "phi").output
    other = keep(tmp_path / "other", {**CONFIGS[name], "layer_norm_epsilon": 1e-5}, SPELT[name](weights))
    wrong = convert(other, to="phi", output=tmp_path / "wrong").output
    for candidate, expected in ((right, "PASS"), (wrong, "FAIL")):
        with plain_folders(candidate, source) as (one, reference):
            assert one == candidate
            assert json.loads((reference / "config.json").read_text()) == CONFIGS[name]
            assert compare(one, reference, levels=["L2"]).level("L2").status == expected
    with plain_folders(source, right) as (candidate, reference):
        assert reference == right
        assert compare(candidate, reference, levels=["L1", "L2"]).verdict == "PASS"


WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_forward_module.", "_checkpoint_wrapped_module.")
WRAPPED = {
    **{f"{wrapper} in front": {"": wrapper} for wrapper in WRAPPERS},
    **{f"{wrapper} inside": {"layers.1": wrapper, "layers.2": wrapper} for wrapper in WRAPPERS},
    "several": {"": "module._orig_mod.", "layers.1": "_fsdp_wrapped_module._checkpoint_wrapped_module."},
}


def wrapped(tensors, at):
    """Keys with a wrapper behind each path of `at`."""
    named = {}
    for key, tensor in tensors.items():
        for path in sorted(at, key=len, reverse=True):
            if not path or key.startswith(f"{path}."):
                start = len(path) + 1 if path else 0
                key = key[:start] + at[path] + key[start:]
        named[key] = tensor
    return named


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_keys_of_ours_are_unwrapped(name, phi, weights, tmp_path):
    source = keep(tmp_path / "source", CONFIGS["sdk"], wrapped(weights, WRAPPED[name]))
    output = convert(source, to="phi", output=tmp_path / "phi").output
    assert distance(output, phi) <= 1e-12
    assert align(output, source).problems == ()


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_keys_of_theirs_come_back(name, phi, tmp_path):
    at = {path.replace("layers.2", "model.layers.0").replace("layers.1", "model.layers.1"): wrapper
          for path, wrapper in WRAPPED[name].items()}  # fmt: skip
    phi.save_pretrained(tmp_path / "plain")
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    source = keep(tmp_path / "source", config, wrapped(phi.state_dict(), at))
    ours = convert(source, output=tmp_path / "ours").output
    back = convert(ours, to="phi", output=tmp_path / "back").output
    assert equal_folders(source, back) == []
    assert any(wrapper in key for key in open_checkpoint(back).tensors for wrapper in WRAPPERS)
    plain = convert(tmp_path / "plain", output=tmp_path / "plain-ours").output
    assert align(ours, plain).problems == ()


def test_a_wrapper_that_only_some_keys_have_is_no_wrapper(weights, tmp_path):
    key = "layers.1.mlp.fc1.weight"
    tensors = {name: tensor for name, tensor in weights.items() if name != key}
    source = keep(tmp_path / "source", CONFIGS["sdk"], tensors | {f"module.{key}": weights[key]})
    with pytest.raises(CoverageRefused, match=r"module\.layers\.1\.mlp\.fc1\.weight"):
        convert(source, to="phi", output=tmp_path / "phi")


def test_one_tensor_under_two_names_is_refused(weights, tmp_path):
    double = weights | {"layers.1.mlp.fc_in.weight": weights["layers.1.mlp.fc1.weight"]}
    with pytest.raises(CoverageRefused, match=r"fc_in\.weight are both|fc1\.weight are both|are both"):
        convert(keep(tmp_path / "source", CONFIGS["first"], double), to="phi", output=tmp_path / "phi")


def test_a_rotary_table_that_no_formula_gives_is_refused(phi, weights, tmp_path):
    source = keep(tmp_path / "source", CONFIGS["first"], weights | frequencies(base=9000.0))
    with pytest.raises(NotInvertible, match=r"inv_freq\[1\].*--drop-buffers"):
        convert(source, to="phi", output=tmp_path / "phi")
    from converters.conversion import Request
    from converters.plan.options import Options

    request = Request(Options(drop_buffers=True))
    output = convert(source, to="phi", output=tmp_path / "phi", request=request).output
    assert distance(output, phi) <= 1e-12


def deepspeed(place, config, tensors, layout, tagged):
    """A folder as DeepSpeed leaves it."""
    step = place / "global_step3" if tagged else place
    step.mkdir(parents=True)
    if layout == "whole":
        beside = {"global_steps": 3, "ds_config": {"zero": [1, 2.0]}, "param_shapes": None, "shape": torch.Size([2])}
        named = {f"module.{key}": tensor for key, tensor in tensors.items()}
        torch.save({"module": named, **beside}, step / "mp_rank_00_model_states.pt")
    for number in range(L + 2) if layout == "layers" else ():
        prefix = f"layers.{number}."
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        torch.save(part, step / f"layer_{number:02d}-model_states.pt")
    (place / "config.json").write_text(json.dumps(config))
    if tagged:
        (place / "latest").write_text("global_step3\n")
    return place


@pytest.mark.parametrize("tagged", [True, False], ids=["above", "step"])
@pytest.mark.parametrize("layout", ["whole", "layers"])
def test_a_deepspeed_folder_converts(layout, tagged, phi, weights, tmp_path):
    source = deepspeed(tmp_path / "source", CONFIGS["second"], weights, layout, tagged)
    output = convert(source, to="phi", output=tmp_path / "phi").output
    assert distance(output, phi) <= 1e-12
    with plain_folders(output, source) as (candidate, reference):
        assert compare(candidate, reference, levels=["L0", "L1", "L2"]).verdict == "PASS"
    if tagged:
        again = convert(source / "global_step3", to="phi", output=tmp_path / "again").output
        assert distance(again, phi) <= 1e-12


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["zero_pp_rank_0_mp_rank_00_model_states.pt"], "sharded over processes .zero_pp_rank_0"),
        (["mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"], "sharded over processes .mp_rank_01"),
        (["layer_00-model_01-model_states.pt"], "sharded over processes .layer_00-model_01"),
        (["mp_rank_00_model_states.pt"], 'has no weights under "module", only .*optimizer'),
        (["other_model_states.pt"], "has no mp_rank_00_model_states.pt"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_a_deepspeed_folder_without_whole_weights_is_refused(files, message, tmp_path):
    for file in files:
        torch.save({"optimizer": 1}, tmp_path / file)
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["sdk"]))
    with pytest.raises(CoverageRefused, match=message):
        open_checkpoint(tmp_path)


def test_a_deepspeed_file_with_code_in_it_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"module": Evil()}, tmp_path / "mp_rank_00_model_states.pt")
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["sdk"]))
    with pytest.raises(UnsafeFile, match="cannot be unpickled safely"):
        open_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_files_of_transformers_beside_those_of_deepspeed_are_the_model(phi, weights, tmp_path):
    other = {key: tensor + 1 for key, tensor in weights.items()}
    source = deepspeed(tmp_path / "source", CONFIGS["sdk"], other, "whole", tagged=True)
    keep(source, CONFIGS["sdk"], weights)
    assert distance(convert(source, to="phi", output=tmp_path / "phi").output, phi) <= 1e-12
    from mixformer import MixFormerSequentialForCausalLM

    model = MixFormerSequentialForCausalLM.from_pretrained(source)
    assert torch.equal(model.layers[0].wte.weight, weights["layers.0.wte.weight"])

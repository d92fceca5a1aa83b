"""The later dialects of nGPT in their own files: told apart, equal on the way back, refused where unsound."""

import json
from itertools import combinations, permutations

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import mixformer  # noqa: F401  transformers learns of our model
from converters import convert
from converters.alignment import equal_folders
from converters.checkpoint.opening import open_checkpoint
from converters.checkpoint.users_word import HEADS, VALUES
from converters.conversion import Request
from converters.errors import ConfigRefused, CoverageRefused, HeadDiffers, Refused, UnsafeFile, UsageError
from converters.family import get_family
from converters.family_of import family_of
from converters.plan.options import Options
from golden import Status, compare
from golden.models.hot import make_hot

NATIVE = Request(native=True)
LATER = ("joeli", "olmo", "modded-nanogpt", "evintunador", "lucidrains")
ALL = ("tutorial", "nvidia", *LATER)
SAID = Request(Options(value_residual=True))


@pytest.fixture(scope="module")
def hot(tmp_path_factory):
    """Makes a hot model of a dialect once, as a folder."""
    made = {}

    def make(dialect):
        if dialect not in made:
            made[dialect] = make_hot(f"ngpt-{dialect}", tmp_path_factory.mktemp(dialect), seed=2)
        return made[dialect]

    return make


def tensors(folder):
    return {key: tensor for file in sorted(folder.glob("*.safetensors")) for key, tensor in load_file(file).items()}


def native(dialect, folder, place):
    """The file that the dialect's own programs write, from its tensors in a folder."""
    weights, config = tensors(folder), json.loads((folder / "config.json").read_text())
    place.mkdir(parents=True, exist_ok=True)
    if dialect == "modded-nanogpt":
        wrapped = {f"_orig_mod.{key}": tensor for key, tensor in weights.items()}
        content = {"step": 4578, "code": "import torch", "model": wrapped, "optimizer": [{"state": {}}]}
        torch.save(content, place / "state_step004578.pt")
        return place / "state_step004578.pt"
    if dialect == "evintunador":
        said = {name: value for name, value in config.items() if name not in ("model_type", "dtype")}
        (place / "model_config.json").write_text(json.dumps(said))
        torch.save(weights, place / "model.pth")
        return place / "model.pth"
    if dialect in ("olmo", "joeli"):
        (place / "config.json").write_text(json.dumps(config))
    torch.save(weights, place / "model.pt")
    return place / "model.pt"


def equal(one, other):
    return one.keys() == other.keys() and all(
        one[key].dtype == t.dtype and one[key].shape == t.shape and torch.equal(one[key], t) for key, t in other.items()
    )


@pytest.mark.parametrize("dialect", LATER)
def test_a_file_of_each_dialect_returns_equal_and_is_one_function(dialect, hot, tmp_path):
    source = native(dialect, hot(dialect), tmp_path / "native")
    with VALUES.said(True if dialect == "lucidrains" else None):
        ours = convert(source, "ngpt", output=tmp_path / "ours").output
        verdict = compare(ours, source, levels=["L0", "L1", "L2"])
        assert verdict.verdict is Status.PASS and (verdict.level("L2").number or 0.0) < 1e-14
        folder = convert(ours, to="ngpt", output=tmp_path / "folder").output
        assert equal_folders(source, folder) == []
    stored = {key.removeprefix("_orig_mod."): tensor for key, tensor in tensors(folder).items()}
    assert equal(stored, tensors(hot(dialect)))
    if dialect in ("olmo", "joeli"):
        assert json.loads((folder / "config.json").read_text()) == json.loads(
            (hot(dialect) / "config.json").read_text()
        )
        return
    back = convert(ours, to="ngpt", output=tmp_path / "back", request=NATIVE).output
    (file,) = [path for path in back.iterdir() if path.suffix in (".pt", ".pth")]
    was, now = (torch.load(path, weights_only=True) for path in (source, file))
    if dialect == "modded-nanogpt":
        assert now["step"] == was["step"] == 4578
        was, now = was["model"], now["model"]
    assert equal(now, was)
    if dialect == "evintunador":
        said = [json.loads((path.parent / "model_config.json").read_text()) for path in (source, file)]
        assert said[0] == said[1]


def test_a_copy_of_the_embedding_returns_and_one_that_differs_is_refused(tmp_path):
    source = make_hot("ngpt-joeli", tmp_path / "hot", tie_word_embeddings=True)
    ours = convert(source, "ngpt", output=tmp_path / "ours").output
    back = convert(ours, to="ngpt", output=tmp_path / "back").output
    assert "lm_head.weight" in tensors(back) and equal_folders(source, back) == []
    weights = tensors(source)
    weights["lm_head.weight"][0, 0] += 1
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(HeadDiffers, match="copies of one tensor"):
        convert(source, "ngpt", output=tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("dialect", ALL)
def test_each_dialects_own_file_is_told(dialect, hot, tmp_path):
    source = native(dialect, hot(dialect), tmp_path) if dialect in LATER else tmp_path / "model.pt"
    if dialect not in LATER:
        torch.save(tensors(hot(dialect)), source)
    if dialect == "nvidia":  # as a bare state dict it lacks base_scale
        with pytest.raises(Refused, match="base_scale"):
            convert(source, "ngpt", output=tmp_path / "ours", request=Request(Options(n_head=4)))
        return
    with HEADS.said(4), VALUES.said(True):
        assert family_of(open_checkpoint(source).config) == f"ngpt-{dialect}"


@pytest.mark.parametrize(("one", "other"), list(combinations(ALL, 2)))
def test_tensors_of_two_dialects_in_one_file_are_no_model(one, other, hot, tmp_path):
    torch.save({**tensors(hot(one)), **tensors(hot(other))}, tmp_path / "model.pt")
    with pytest.raises(ConfigRefused, match="tensors of"), HEADS.said(4), VALUES.said(True):
        open_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize(("one", "other"), list(permutations(ALL, 2)))
def test_no_state_dict_of_one_dialect_is_taken_for_another(one, other, hot):
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors(hot(one)).items()}
    assert get_family(f"ngpt-{other}").told(shapes) is None


@pytest.mark.parametrize(("one", "other"), list(permutations(ALL, 2)))
def test_dialects_whose_functions_differ_are_refused_with_the_field(one, other, hot, tmp_path):
    with pytest.raises(ConfigRefused, match=f"ngpt-{other} cannot hold this model.*architecture\\.|embd_layer"):
        convert(hot(one), "ngpt", f"ngpt-{other}", tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_nvidias_plain_model_is_no_llama(tmp_path):
    source = make_hot("ngpt-nvidia", tmp_path / "hot", use_nGPT=0)
    with pytest.raises(ConfigRefused, match=r"architecture\.mixer\.rotary_style"):
        convert(source, "ngpt", "llama", tmp_path / "never")


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["NGPTForCausalLM"], "Normalized-Nemotron is not converted"),
        (["nGPTForCausalLM"], "lm-engine is not converted"),
        (["SomeNGPT"], "which several programs use"),
        (None, "which several programs use"),
    ],
)
def test_a_config_of_an_unknown_code_is_refused_with_what_is_known(classes, words, hot, tmp_path):
    config = json.loads((hot("joeli") / "config.json").read_text())
    config["architectures"] = classes
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors(hot("joeli")), tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigRefused, match=words):
        convert(tmp_path, "ngpt", output=tmp_path / "never")


def test_shards_of_torch_distributed_are_refused_with_the_way_out(hot, tmp_path):
    (tmp_path / "model_and_optim").mkdir()
    (tmp_path / "config.json").write_bytes((hot("olmo") / "config.json").read_bytes())
    (tmp_path / "model_and_optim" / "__0_0.distcp").write_bytes(b"\0" * 16)
    for folder in (tmp_path, tmp_path / "model_and_optim"):
        with pytest.raises(UnsafeFile, match="unshard_checkpoint"):
            convert(folder, "ngpt", output=tmp_path / "never")


def _olmo(**changes):
    def change(config):
        for path, value in changes.items():
            place = config["model"]
            *parents, name = path.split("__")
            for parent in parents:
                place = place[parent]
            place[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_olmo(block__sequence_mixer__qk_norm=None), "qk_norm.name is null, expected 'l2_norm'"),
        (_olmo(block__sequence_mixer__rope=None), "rope.theta is missing"),
        (_olmo(block__sequence_mixer__gate={"granularity": "headwise"}), "gate.granularity"),
        (_olmo(block__sequence_mixer__name="default"), "sequence_mixer.name is 'default'"),
        (_olmo(block__feed_forward__activation="gelu_tanh"), "activation"),
        (_olmo(block_overrides={"0": {"name": "default"}}), "block_overrides"),
        (_olmo(block__sequence_mixer__n_heads=5), "expected sizes"),
        (_olmo(tie_word_embeddings=True), "tie_word_embeddings"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_configs_of_olmo_that_cannot_be(change, words, hot, tmp_path):
    config = json.loads((hot("olmo") / "config.json").read_text())
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors(hot("olmo")), tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigRefused, match=words):
        convert(tmp_path, "ngpt", output=tmp_path / "never")


def test_configs_of_olmo_from_before_read_the_same(hot, tmp_path):
    config = json.loads((hot("olmo") / "config.json").read_text())
    block, source = config["model"]["block"], tmp_path / "source"
    block["attention"] = block.pop("sequence_mixer")
    source.mkdir()
    (source / "config.json").write_text(json.dumps(config))
    save_file(tensors(hot("olmo")), source / "model.safetensors", {"format": "pt"})
    ours = convert(source, "ngpt", output=tmp_path / "ours").output
    assert compare(ours, source, levels=["L0", "L1", "L2"]).verdict is Status.PASS
    back = convert(ours, to="ngpt", output=tmp_path / "back").output
    assert json.loads((back / "config.json").read_text()) == config


@pytest.mark.parametrize("dialect", ["olmo", "evintunador"])
def test_tensors_whose_config_is_missing_say_what_is(dialect, hot, tmp_path):
    torch.save(tensors(hot(dialect)), tmp_path / "model.pt")
    with pytest.raises(ConfigRefused, match=r"put (its|OLMo-core's)? ?.*config\.json beside"):
        convert(tmp_path / "model.pt", "ngpt", output=tmp_path / "never")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hyperspheres": 2}, "num_hyperspheres is 2"),
        ({"norm_eps": 0.1}, "norm_eps is 0.1"),
        ({"attn_norm_qk": False}, "attn_norm_qk is false"),
        ({"value_residual": None}, "value_residual is null"),
        ({"parametrized": False}, "parametrizations.weight.original"),
        ({"head_dim": 8}, "its formula gives"),
    ],
    ids=str,
)
def test_configs_of_lucidrains_that_cannot_be(changes, words, hot, tmp_path):
    config = json.loads((hot("lucidrains") / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors(hot("lucidrains")), tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(Refused, match=words):
        convert(tmp_path, "ngpt", output=tmp_path / "never")


def test_first_values_have_to_be_said_and_another_word_is_another_function(hot, tmp_path):
    source = native("lucidrains", hot("lucidrains"), tmp_path / "native")
    with pytest.raises(ConfigRefused, match="say it with --value-residual or --no-value-residual"):
        convert(source, "ngpt", output=tmp_path / "never")
    wrong = convert(source, "ngpt", output=tmp_path / "wrong", request=Request(Options(value_residual=False)))
    assert any("value_residual false is your word (--no-value-residual)" in note for note in wrong.notes)
    with VALUES.said(True):
        level = compare(wrong.output, source, levels=["L2"]).level("L2")
    assert level.status is Status.FAIL and (level.number or 0.0) > 1e-2
    with pytest.raises(UsageError, match=r"--no-value-residual: .* says value_residual true"):
        convert(hot("lucidrains"), output=tmp_path / "never", request=Request(Options(value_residual=False)))


def test_versions_before_and_files_without_frequencies_are_refused(hot, tmp_path):
    weights = tensors(hot("lucidrains"))
    older = {key.replace("fn.qk_scale", "fn.q_scale"): tensor for key, tensor in weights.items()}
    bare = {key: tensor for key, tensor in weights.items() if "freqs" not in key}
    for stored, words in ((older, "before 0.2"), (bare, r"rotary_embed\.freqs or layer 0 is missing")):
        torch.save(stored, tmp_path / "model.pt")
        with pytest.raises(ConfigRefused, match=words):
            convert(tmp_path / "model.pt", "ngpt", output=tmp_path / "never", request=SAID)


def test_baking_is_recorded_judged_and_written_in_the_other_form(hot, tmp_path):
    source = native("lucidrains", hot("lucidrains"), tmp_path / "native")
    baked = convert(source, "ngpt", output=tmp_path / "ours", request=Request(Options(value_residual=True, bake=True)))
    assert any("lossy step: 23 parametrised matrices" in note for note in baked.notes)
    record = json.loads((baked.output / "conversion.json").read_text())
    assert record["lossy_steps"] == [{"step": "bake", "tensors": 23}]
    rows = tensors(baked.output)["layers.1.attn.Wqkv.weight"].norm(dim=1)
    assert torch.allclose(rows, torch.ones_like(rows), atol=1e-6)
    with VALUES.said(True):
        verdict = compare(baked.output, source, levels=["L0", "L1", "L2"])
    assert verdict.verdict is Status.PASS and (verdict.level("L2").number or 0.0) < 1e-13
    back = convert(baked.output, to="ngpt", output=tmp_path / "back").output
    assert "layers.0.0.fn.to_q.linear.weight" in tensors(back)
    plain = convert(source, "ngpt", output=tmp_path / "plain", request=SAID).output
    models = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64) for folder in (baked.output, plain)]
    with torch.no_grad():
        one, other = (model(torch.arange(40)[None]).logits for model in models)
    assert 0.0 < float((one - other).abs().max()) < 1e-5  # one rounding of the matrices, and nothing else


def test_there_is_nothing_to_bake_elsewhere(hot, tmp_path):
    with pytest.raises(UsageError, match=r"--bake: .* holds no parametrised matrices"):
        convert(hot("olmo"), "ngpt", output=tmp_path / "never", request=Request(Options(bake=True)))


def test_a_tensor_with_two_axes_of_another_shape_is_refused(hot, tmp_path):
    source = native("evintunador", hot("evintunador"), tmp_path)
    weights = tensors(hot("evintunador"))
    weights["layers.1.alpha_A.s"] = weights["layers.1.alpha_A.s"].flatten()
    torch.save(weights, source)
    with pytest.raises(Refused, match=r"layers\.1\.alpha_A\.s has shape"):
        convert(source, "ngpt", output=tmp_path / "never")
    del weights["layers.1.alpha_A.s"]
    torch.save(weights, source)
    with pytest.raises(CoverageRefused, match=r"layers\.1\.alpha_A\.s is missing"):
        convert(source, "ngpt", output=tmp_path / "never")

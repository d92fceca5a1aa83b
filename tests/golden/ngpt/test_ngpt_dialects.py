"""The later dialects of nGPT judged: odd sizes, padding, caches, controls, and their own programs as oracles."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from converters import convert
from golden import Status, compare
from golden.evidence.live import open_reference
from golden.evidence.prompts import reference_prompts
from golden.faults.catalogue import catalogue
from golden.faults.model_copy import admit, discharge
from golden.faults.self_testing import judge_alone
from golden.models.anatomy import read_anatomy
from golden.models.folders import read_config
from golden.models.hot import make_hot
from golden.models.loading import load_model
from golden.references import ngpt_lucidrains, ngpt_olmo

ODD: dict[str, dict[str, Any]] = {
    "joeli": {"n_embd": 60, "n_head": 6, "n_inner": 52},
    "olmo": {"d_model": 60, "n_heads": 6, "n_kv_heads": 3, "hidden_size": 52},
    "modded-nanogpt": {"n_embd": 60, "n_head": 6, "n_inner": 52},
    "evintunador": {"dim": 60, "num_heads": 6},
    "lucidrains": {"n_embd": 36, "n_head": 6, "head_dim": 14, "n_inner": 52},
}
IDS = torch.randint(0, 257, (2, 24), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Makes (hot model of odd sizes, the MixFormer that it became) of a dialect once."""
    known: dict[str, tuple[Path, Path]] = {}

    def make(dialect: str) -> tuple[Path, Path]:
        if dialect not in known:
            place = tmp_path_factory.mktemp(dialect)
            source = make_hot(f"ngpt-{dialect}", place / "source", seed=5, **ODD[dialect])
            known[dialect] = source, convert(source, "ngpt", output=place / "ours").output
        return known[dialect]

    return make


@pytest.mark.parametrize("dialect", ODD)
def test_a_whole_verdict_on_odd_sizes_is_pass(dialect: str, made: Callable[[str], tuple[Path, Path]]) -> None:
    source, ours = made(dialect)
    verdict = compare(ours, source)
    assert [verdict.level(name).status for name in ("L0", "L1", "L2", "L3", "L4")] == [Status.PASS] * 5
    assert (verdict.level("L2").number or 0.0) < 1e-13


@pytest.mark.parametrize("dialect", ODD)
def test_padding_caches_and_backends_change_nothing(dialect: str, made: Callable[[str], tuple[Path, Path]]) -> None:
    model = load_model(made(dialect)[1], torch.float64).model.eval()

    def run(ids: Tensor, **more: Any) -> Any:
        with torch.no_grad():
            return model(input_ids=ids, **more)

    full = run(IDS).logits
    model.set_attn_implementation("eager")
    assert float((run(IDS).logits - full).abs().max()) < 1e-12
    padded, mask = torch.cat((torch.zeros_like(IDS[:, :3]), IDS), 1), torch.ones(2, 27)
    mask[:, :3] = 0
    assert float((run(padded, attention_mask=mask).logits[:, 3:] - full).abs().max()) < 1e-12
    cache, parts = None, []
    for start, stop in ((0, 9), (9, 10), (10, 24)):
        output = run(IDS[:, start:stop], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits)
    assert float((torch.cat(parts, 1) - full).abs().max()) < 1e-12


CONTROLS = [
    ("joeli", "q and k permuted without their scale", 1e-4),
    ("joeli", "init of the gate 1 % off", 1e-4),
    ("olmo", "the length of each head for that of all", 1e-3),
    ("olmo", "heads turned before they are scaled", 1e-3),
    ("olmo", "gate and up swapped", 1e-2),
    ("modded-nanogpt", "tables in float32 for bfloat16", 1e-4),
    ("modded-nanogpt", "heads turned before they are scaled", 1e-3),
    ("modded-nanogpt", "the length of the stream divided out", 1e-3),
    ("evintunador", "rates without their signs", 1e-1),
    ("lucidrains", "first values left out of later layers", 1e-2),
    ("lucidrains", "keys scaled as queries are", 1e-3),
    ("lucidrains", "rates without their signs", 1e-1),
    ("lucidrains", "matrices of attention as they are stored", 1e-3),
]


@pytest.mark.parametrize(("dialect", "name", "least"), CONTROLS)
def test_another_function_fails_l2(
    dialect: str, name: str, least: float, made: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    source, ours = made(dialect)
    evidence = open_reference(source, lambda r, used: reference_prompts(source, r.model.config, used), torch.float64)
    patient = admit(ours)
    (fault,) = [fault for fault in catalogue(patient) if fault.name == name]
    fault.plant(patient, random.Random(0))
    level = judge_alone(discharge(patient, ours, tmp_path), evidence)
    assert level.status is Status.FAIL and level.number is not None and level.number > least


EDITS = [
    ("joeli", ("mixer", "softmax_scale"), 10**0.5, 1e-3),
    ("olmo", ("mixer", "rotary_base"), 10000.0, 1e-4),
    ("evintunador", ("mixer", "rotary_formula"), "exp", 1e-10),
    ("evintunador", ("head", "logit_scale", "used"), True, 1e-2),
    ("evintunador", ("mixer", "softmax_scale"), 10**-0.5, 1e-3),
    ("lucidrains", ("mixer", "rotary_style"), "ngpt_nvidia", 1e-2),
]


@pytest.mark.parametrize(("dialect", "path", "value", "least"), EDITS, ids=str)
def test_another_config_fails_l2(
    dialect: str,
    path: tuple[str, ...],
    value: Any,
    least: float,
    made: Callable[[str], tuple[Path, Path]],
    tmp_path: Path,
) -> None:
    source, ours = made(dialect)
    shutil.copytree(ours, tmp_path / "edited", ignore=shutil.ignore_patterns("conversion.json"))
    config = read_config(ours)
    place: Any = config["architecture"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (tmp_path / "edited" / "config.json").write_text(json.dumps(config))
    level = compare(tmp_path / "edited", source, levels=["L2"]).level("L2")
    assert level.status is Status.FAIL and level.number is not None and level.number > least


@pytest.mark.parametrize("dialect", ODD)
def test_parts_of_both_sides_are_found(dialect: str, made: Callable[[str], tuple[Path, Path]]) -> None:
    """Every matrix of a layer, under the dialect's names and under ours, with equal sums of squares."""
    found = []
    for folder in made(dialect):
        weights = load_file(folder / "model.safetensors")
        anatomy = read_anatomy(read_config(folder), weights)
        roles = ("q", "k", "v", "o", "up", "gate", "down")
        found.append([float(anatomy.parts[f"1.{role}"].view(weights).double().square().sum()) for role in roles])
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_lucidrains_own_program_computes_the_same() -> None:
    """The package from PyPI; in float64 both agree to the last bits."""
    pytest.importorskip("nGPT_pytorch", reason="the oracle is optional: pip install nGPT-pytorch==0.2.16")
    theirs = import_module("nGPT_pytorch.nGPT")
    theirs = sys.modules["nGPT_pytorch.nGPT"]  # the package has a class of the same name
    for name in ("NormLinear", "Attention", "FeedForward", "nGPT", "Scale"):
        getattr(theirs, name).__hash__ = torch.nn.Module.__hash__  # 0.2.16 defines __eq__ alone
    options: list[dict[str, Any]] = [{}, {"tied_embedding": True, "add_value_residual": False}]
    for more in (*options, {"manual_norm_weights": True}):
        torch.manual_seed(0)
        model = theirs.nGPT(num_tokens=61, dim=48, depth=3, dim_head=10, heads=4, **more)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "freqs" not in key:
                    parameter.mul_(1 + 0.3 * torch.randn_like(parameter))
        model = model.double()
        stored = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        ours = ngpt_lucidrains.built({"value_residual": more.get("add_value_residual", True)}, stored, torch.float64)
        with torch.no_grad():
            assert float((model(IDS % 61) - ours(IDS % 61).logits).abs().max()) < 1e-14


@pytest.mark.parametrize("n_kv_heads", [None, 2])
def test_olmo_cores_own_program_computes_the_same(n_kv_heads: int | None) -> None:
    """The package from PyPI; it takes lengths in float32, so no more than that can agree."""
    why = "the oracle is optional: pip install ai2-olmo-core==3.0.0"
    found = pytest.importorskip("olmo_core.nn.transformer.config", reason=why, exc_type=ImportError)
    config_class = found.TransformerConfig
    sizes = {"d_model": 48, "vocab_size": 259, "n_layers": 3, "n_heads": 4, "n_kv_heads": n_kv_heads}
    config = config_class.ngpt_like(**sizes)
    model = config.build(init_device="cpu")
    torch.manual_seed(0)
    model.init_weights(device=torch.device("cpu"), max_seq_len=64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.3 * torch.randn_like(parameter))
        ours = ngpt_olmo.built({"model": config.as_config_dict()}, model.state_dict(), torch.float32)
        assert float((model(IDS) - ours(IDS).logits).abs().max()) < 1e-6

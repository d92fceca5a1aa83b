"""Families of other packages: found by their entry points, tested by the same suite, with nothing central edited."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parent.parent
PLUGINS = Path(__file__).parent / "plugins"


def installed(name: str, place: Path, code: Path | None = None) -> dict[str, str]:
    """An environment in which a plugin is installed: its folder, or `code` in its place, and its metadata are on the
    path, and this repository behind them."""
    project = tomllib.loads((PLUGINS / name / "pyproject.toml").read_text())["project"]
    metadata = place / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    named = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(named)
    groups = ([f"[{group}]", *(f"{k} = {v}" for k, v in found.items())] for group, found in
              project["entry-points"].items())  # fmt: skip
    (metadata / "entry_points.txt").write_text("\n".join(line for group in groups for line in group) + "\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (place, code or PLUGINS / name, ROOT)))}


def changed(name: str, folder: Path, changes: dict[str, str]) -> Path:
    """A copy of a plugin's code, with lines of its family changed: `old` becomes `new`, each found once."""
    shutil.copytree(PLUGINS / name, folder)
    file = folder / f"mixformer_{name}" / "family.py"
    text = file.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file.write_text(text)
    return folder


def run(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run([sys.executable, "-c", "from cli.start import main; main()", *map(str, words)],
                          cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


def conformance(name: str, env: dict[str, str], *options: str, where: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The suite for one family, in a process of its own."""
    plain = ["-q", "-rs", "-m", "not slow", "-p", "no:cacheprovider"]
    suite = ["-p", "golden.conformance.plugin", "--pyargs", "golden.conformance", "--family", name, *options]
    return subprocess.run([sys.executable, "-m", "pytest", *plain, *suite],
                          cwd=where, env=env, capture_output=True, text=True, timeout=600)  # fmt: skip


def test_jais2_passes_the_conformance_suite_as_a_plugin(place):
    done = conformance("jais2", installed("jais2", place))
    assert done.returncode == 0, done.stdout
    assert "9 passed" in done.stdout  # five variants, switches, the laws, the wrong tables, fine-tuning
    assert "warning" not in done.stdout


def test_a_block_with_no_attention_passes_the_suite(place):
    done = conformance("whirl", installed("whirl", place))
    assert done.returncode == 0, done.stdout
    assert "9 passed" in done.stdout


def test_a_block_with_attention_and_a_parallel_gated_mlp_passes_the_suite(place, tmp_path):
    done = conformance("duet", installed("duet", place), where=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "8 passed, 1 skipped" in done.stdout and "warning" not in done.stdout
    assert "duet refuses this on purpose: an odd number of rotating dimensions" in done.stdout


def test_the_same_with_gate_and_up_exchanged_fails_by_its_function(place, tmp_path):
    code = changed("duet", tmp_path / "code", {'("up", "gate")]': '("gate", "up")]'})
    done = conformance("duet", installed("duet", place, code), "-k", "0 and variant")
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout
    levels = dict(re.findall(r"^E +(L\d) +\w+ +(PASS|FAIL|NOT RUN)", done.stdout, re.MULTILINE))
    assert levels == {"L0": "PASS", "L1": "PASS", "L2": "FAIL", "L3": "NOT RUN", "L4": "NOT RUN"}
    assert "first divergence: layer 0, mlp" in done.stdout


@pytest.mark.parametrize("inside", [True, False], ids=["in this repository", "elsewhere"])
def test_a_refusal_without_a_name_fails_and_a_switch_that_is_never_on_is_told(inside, place, tmp_path):
    changes = {'"an odd number of rotating dimensions": "expected an even number"': "",
               '"branch_scales": (True, False),': ""}  # fmt: skip
    env = installed("duet", place, changed("duet", tmp_path / "code", changes))
    done = conformance("duet", env, "-k", "variant", where=ROOT if inside else tmp_path)
    assert "1 failed, 5 passed, 4 deselected" in done.stdout, done.stdout
    assert "partial_rotary_factor 0.25 of head_dim 20 is 5 rotating dimensions, expected an even number" in done.stdout
    assert "NeverDrawn: duet: no variant has branch_scales = true; nothing was tested of it" in done.stdout


def test_a_wrong_table_is_harmless_only_where_it_is(place, tmp_path):
    known = '("layers.{b}.attn.out_proj.bias for layers.{b}.mlp.fc2.bias",)'
    other = "rows of layers.{b}.ln_1.weight shuffled"
    env = installed("duet", place, changed("duet", tmp_path / "code", {known: f'("{other}",)'}))
    done = conformance("duet", env, "-k", "wrong_table")
    assert "1 failed" in done.stdout and f"AssertionError: {other}" in done.stdout, done.stdout


MAKE_HOT = """
import sys
from pathlib import Path
from golden.models.hot import make_hot
make_hot(sys.argv[1], Path(sys.argv[2]))
"""


def test_a_family_that_transformers_does_not_know_is_judged_by_its_own_reference(place, tmp_path):
    env = installed("duet", place)
    source, ours = tmp_path / "source", tmp_path / "ours"
    made = subprocess.run([sys.executable, "-c", MAKE_HOT, "duet", str(source)],
                          cwd=ROOT, env=env, capture_output=True, text=True)  # fmt: skip
    assert made.returncode == 0, made.stderr
    done = run("duet", source, "--to", "mixformer", "-o", ours, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads((ours / "conversion.json").read_text())["verdict"] == "PASS"


def test_a_plugin_is_listed_and_is_a_verb(place):
    env = installed("jais2", place)
    listed = json.loads(run("families", "--json", env=env).stdout)["families"]
    assert "jais2" in [family["name"] for family in listed]
    assert "jais2" not in run("families", env={**os.environ}).stdout
    assert "Convert a jais2 checkpoint" in run("jais2", "--help", env=env).stdout


@pytest.mark.parametrize(
    ("family", "sentence"),
    [
        ("raise RuntimeError('no such luck')", "cannot be imported (no such luck)"),
        ("FAMILY = 3", "has no FAMILY"),
        ("from converters.families.llama import FAMILY", "that name is taken"),
        (
            "from dataclasses import replace\nfrom converters.families.llama import FAMILY as F\n"
            "FAMILY = replace(F, name='push')",
            "'push', but that name is taken",
        ),
    ],
)
def test_a_broken_plugin_is_refused_by_the_name_of_its_package(family, sentence, place, tmp_path):
    package = tmp_path / "mixformer_jais2"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "family.py").write_text(family)
    env = {**installed("jais2", place), "PYTHONPATH": os.pathsep.join([str(place), str(tmp_path)])}
    done = run("families", env=env)
    assert done.returncode == 3 and sentence in done.stderr and "mixformer-jais2" in done.stderr
    assert run("convert-nothing", env=env).returncode == 3


def test_a_config_that_fits_two_families_is_refused_until_one_is_chosen(place, tmp_path):
    package = tmp_path / "mixformer_jais2"
    package.mkdir()
    (package / "__init__.py").write_text("")
    double = "from converters.families.llama import FAMILY as F\nFAMILY = replace(F, name='lama')\n"
    (package / "family.py").write_text("from dataclasses import replace\n" + double)
    env = {**installed("jais2", place), "PYTHONPATH": os.pathsep.join([str(place), str(tmp_path)])}
    from converters.sample import write_sample

    source = write_sample(tmp_path / "source")
    done = run("diff", source, source, env=env)
    assert done.returncode == 3 and "fits lama and llama; say which it is" in done.stderr
    for name in ("lama", "llama"):
        words = (name, source, "--to", "mixformer", "-o", tmp_path / f"{name}-out", "--no-parity")
        assert run(*words, env=env).returncode == 0
    assert run("diff", source, tmp_path / "lama-out", env=env).returncode == 0  # its residue says which it was
    record = json.loads((tmp_path / "lama-out" / "config.json").read_text())
    assert record["converted_from"]["family"] == "lama"


WIDTH, ROWS, DEPTH = 6, 11, 2


def whirl(folder: Path) -> dict[str, torch.Tensor]:
    """A Whirl checkpoint with random weights; gives them."""
    draw = torch.Generator().manual_seed(3)
    shapes = {"embedding": (ROWS, WIDTH), "head": (ROWS, WIDTH), "norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    shapes |= {f"gates.{i}.weight": (WIDTH, WIDTH) for i in range(DEPTH)}
    shapes |= {f"gates.{i}.bias": (WIDTH,) for i in range(DEPTH)}
    weights = {key: torch.randn(shape, generator=draw) for key, shape in shapes.items()}
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    config = {"model_type": "whirl", "vocab_size": ROWS, "width": WIDTH, "depth": DEPTH, "eps": 1e-3}
    (folder / "config.json").write_text(json.dumps(config))
    return weights


def whirls_logits(weights: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """Its function in float64, (S, ROWS), written from its description."""
    w = {key: tensor.double() for key, tensor in weights.items()}
    x = w["embedding"][ids]
    for i in range(DEPTH):
        means = torch.stack([x[: t + 1].mean(0) for t in range(len(x))])
        x = x + torch.sigmoid(x @ w[f"gates.{i}.weight"].T + w[f"gates.{i}.bias"]) * means
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-3).sqrt()
    return (x * w["norm.weight"] + w["norm.bias"]) @ w["head"].T


RUN_OURS = """
import sys, torch, mixformer
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float64).eval()
with torch.no_grad():
    torch.save(model(torch.arange(9)[None], use_cache=False).logits[0], sys.argv[2])
"""


def test_a_block_of_a_plugin_converts_both_ways_and_asks_for_its_package(place, tmp_path):
    env = installed("whirl", place)
    weights = whirl(tmp_path / "source")
    ours, back, logits = tmp_path / "ours", tmp_path / "back", tmp_path / "logits.pt"
    assert run("whirl", tmp_path / "source", "--to", "mixformer", "-o", ours, "--no-parity", env=env).returncode == 0
    assert run("mixformer", ours, "--to", "whirl", "-o", back, "--no-parity", env=env).returncode == 0
    assert run("diff", tmp_path / "source", back, env=env).returncode == 0
    load = [sys.executable, "-c", RUN_OURS, str(ours), str(logits)]
    done = subprocess.run(load, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = whirls_logits(weights, torch.arange(9))
    assert (torch.load(logits, weights_only=True) - expected).abs().max() <= 1e-10 * expected.std()
    without = subprocess.run(load, cwd=ROOT, env={**os.environ}, capture_output=True, text=True)
    assert without.returncode != 0
    assert "a part of the package mixformer-whirl, which is not installed here" in without.stderr

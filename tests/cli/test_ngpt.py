"""nGPT on the command line: dialects, a number of heads that no file says, lengths of rows, refusals in a sentence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

CONVERT = [sys.executable, "-c", "from cli.main import main; main()"]


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CONVERT, *map(str, words)], capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory, ngpt) -> Path:
    """A folder with a file of each dialect, both converted to a MixFormer without judging."""
    folder = tmp_path_factory.mktemp("ngpt")
    ngpt.write_tutorial(folder / "t.pt")
    ngpt.write_nvidia(folder / "nvidia" / "ckpt.pt")
    for words in (["t.pt", "--n-head", 4, "-o", "tutorial-ours"], ["nvidia", "-o", "nvidia-ours"]):
        done = run("ngpt", *words, "--to", "mixformer", "--no-parity", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_the_family_takes_every_dialect_and_says_whose_word_it_takes(place):
    done = run("ngpt", "t.pt", "--to", "mixformer", "--n-head", 4, "-o", "again", "--no-parity", cwd=place)
    assert "ngpt-tutorial -> mixformer" in done.stdout and "n_head 4 is your word (--n-head)" in done.stdout
    assert "--reference t.pt --n-head 4)" in done.stdout


def test_the_way_back_is_the_dialect_it_came_from(place):
    for name, file, source in (("tutorial", "model.pt", "t.pt"), ("nvidia", "ckpt.pt", "nvidia/ckpt.pt")):
        words = (f"{name}-ours", "--to", "ngpt", "--format", "native", "-o", f"{name}-back", "--no-parity")
        done = run("mixformer", *words, cwd=place)
        assert done.returncode == 0 and f"mixformer -> ngpt-{name}" in done.stdout, done.stderr
        assert f"not in {file}" in done.stdout
        done = run("diff", source, f"{name}-back/{file}", "--n-head", 4, cwd=place)
        assert done.returncode == 0, done.stdout
    assert "optimizer" in run("mixformer", "nvidia-ours", *words[1:], "--force", cwd=place).stdout


def test_a_dialect_is_named_where_nothing_tells(place):
    done = run("mixformer", "--to", "ngpt", "-o", "never", cwd=place)
    assert done.returncode == 2 and "--dialect evintunador or joeli" in done.stderr
    words = ("mixformer", "nvidia-ours", "--to", "ngpt", "-o", "never", "--no-parity")
    done = run(*words, "--dialect", "tutorial", cwd=place)
    assert done.returncode == 3 and "cannot hold this model" in done.stderr
    done = run(*words, "--dialect", "gemma", cwd=place)
    assert done.returncode == 2 and "the dialects of ngpt are evintunador, joeli" in done.stderr
    assert not (place / "never").exists()
    assert run("plan", "mixformer", "nvidia-ours", "--to", "ngpt", "--dialect", "nvidia", cwd=place).returncode == 0


@pytest.mark.parametrize("dialect", [None, "tutorial", "nvidia"])
def test_samples_come_from_the_family(dialect, ngpt, tmp_path):
    words = [] if dialect is None else ["--dialect", dialect]
    dialect = dialect or "nvidia"
    done = run("ngpt", "--to", "mixformer", "--no-parity", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name = f"ngpt-{dialect}-sample"
    weights = load_file(tmp_path / name / "model.safetensors")
    back = run("mixformer", f"{name}-mixformer", "--to", "ngpt", "-o", "back", "--no-parity", cwd=tmp_path)
    assert back.returncode == 0 and run("diff", name, "back", cwd=tmp_path).returncode == 0
    rates, unit = ("attn_alpha", 0.05 / 0.125) if dialect == "nvidia" else ("lr_atten", 1.0)
    rate = torch.cat([t for key, t in weights.items() if rates in key]) * unit
    if dialect == "nvidia":  # trained: each rate has left its start, 0.05
        assert 0.02 < float(rate.std()) and float((rate - 0.05).abs().min()) > 0
    else:
        assert 0.25 < float(rate.abs().min()) and float(rate.abs().max()) < 0.55
        assert {-1.0, 1.0} == set(rate.sign().tolist())
    kinds = {tensor.dtype for tensor in weights.values()}
    assert kinds == ({torch.bfloat16, torch.float32} if dialect == "nvidia" else {torch.float32})


def test_plan_inspect_and_diff_take_the_number_of_heads(place):
    done = run("plan", "ngpt", "t.pt", "--to", "mixformer", "--n-head", 4, "--json", cwd=place)
    assert json.loads(done.stdout)["config"]["n_head"] == 4
    assert "your word" in " ".join(json.loads(done.stdout)["notes"])
    assert run("plan", "ngpt", "t.pt", "--to", "mixformer", cwd=place).returncode == 3
    content = json.loads(run("inspect", "t.pt", "--json", cwd=place).stdout)
    assert content["family"] == "ngpt-tutorial" and "n_head" not in content["config"]
    assert json.loads(run("inspect", "t.pt", "--n-head", 4, "--json", cwd=place).stdout)["config"]["n_head"] == 4
    assert run("diff", "tutorial-ours", "t.pt", "--n-head", 4, cwd=place).returncode == 0
    done = run("diff", "tutorial-ours", "t.pt", "--n-head", 2, cwd=place)
    assert done.returncode == 4 and "head_dim" in done.stdout
    done = run("diff", "tutorial-ours", "t.pt", cwd=place)
    assert done.returncode == 3 and "say it with --n-head" in done.stderr


def test_lengths_are_measured_where_asked_for(place, ngpt, tmp_path):
    weights = ngpt.write_tutorial(tmp_path / "model.pt")
    lengths = {
        key: t.double().norm(dim=1 - int(".o." in key or "fc2" in key)) for key, t in weights.items() if t.ndim > 1
    }
    found = json.loads(run("inspect", "model.pt", "--norms", "--json", cwd=tmp_path).stdout)["norms"]
    assert {one["key"] for one in found} == lengths.keys()
    for one in found:
        wanted = lengths[one["key"]]
        assert one["count"] == len(wanted) and one["axis"] == (
            "columns" if ".o." in one["key"] or "fc2" in one["key"] else "rows"
        )
        for name, value in (("least", wanted.min()), ("most", wanted.max()), ("off", (wanted - 1).abs().max())):
            assert abs(one[name] - float(value)) < 1e-6
    before = (tmp_path / "model.pt").read_bytes()
    assert "furthest from length 1" in run("inspect", "model.pt", "--norms", cwd=tmp_path).stdout
    assert (tmp_path / "model.pt").read_bytes() == before
    assert "norms" not in json.loads(run("inspect", "model.pt", "--json", cwd=tmp_path).stdout)


def test_lengths_of_ours_are_those_of_theirs(place):
    theirs, ours = (
        json.loads(run("inspect", path, "--norms", "--json", cwd=place).stdout)["norms"]
        for path in ("nvidia", "nvidia-ours")
    )
    named = {one["key"]: one for one in theirs}
    out = next(one for one in ours if one["key"] == "layers.1.mlp.fc2.weight")
    assert out == named["transformer.h.0.mlp_c_proj.weight"] | {"key": out["key"]}
    worst = max(named[f"transformer.h.0.{name}.weight"]["off"] for name in ("query", "key", "value"))
    assert next(one for one in ours if one["key"] == "layers.1.attn.Wqkv.weight")["off"] == worst


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ngpt", "t.pt", "--to", "mixformer"], 3, "say it with --n-head"),
        (["ngpt", "t.pt", "--to", "mixformer", "--n-head", "5"], 3, "n_head 5"),
        (["ngpt", "t.pt", "--to", "mixformer", "--n-head", "8"], 3, "even"),
        (["ngpt", "t.pt", "--to", "mixformer", "--n-head", "0"], 2, "--n-head"),
        (["ngpt", "nvidia", "--to", "mixformer", "--n-head", "2"], 2, "says n_head 4"),
        (["ngpt", "t.pt", "--to", "mixformer", "--n-head", "4", "--dialect", "nvidia"], 2, "not ngpt-nvidia"),
        (["ngpt", "t.pt", "--to", "mixformer", "--n-head", "4", "--dialect", "x"], 2, "nvidia, olmo, tutorial"),
        (["llama", "t.pt", "--to", "mixformer", "--n-head", "4"], 2, "not llama"),
        (["llama", "t.pt", "--to", "mixformer", "--dialect", "meta"], 2, "neither llama nor mixformer has dialects"),
        (["llama", "--to", "mixformer", "--n-head", "4"], 2, "says its number of heads itself"),
        (["ngpt", "t.pt", "--to", "llama", "--n-head", "4"], 3, "cannot hold this model"),
        (["ngpt", "nvidia", "--to", "ngpt"], 2, "already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_a_sentence(words, code, said, place, tmp_path):
    (tmp_path / "t.pt").write_bytes((place / "t.pt").read_bytes())
    (tmp_path / "nvidia").mkdir()
    (tmp_path / "nvidia" / "ckpt.pt").write_bytes((place / "nvidia" / "ckpt.pt").read_bytes())
    done = run(*words, "-o", "out", "--no-parity", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_family_is_listed_above_its_dialects(place):
    listed = json.loads(run("families", "--json", cwd=place).stdout)["families"]
    names = [f["name"] for f in listed]
    at = names.index("ngpt")
    later = ["ngpt-evintunador", "ngpt-joeli", "ngpt-lucidrains", "ngpt-modded-nanogpt"]
    assert names[at : at + 8] == ["ngpt", *later, "ngpt-nvidia", "ngpt-olmo", "ngpt-tutorial"]
    assert {f["dialect_of"] for f in listed if f["name"].startswith("ngpt-")} == {"ngpt"}
    assert "  ngpt  " in run("--help", cwd=place).stdout


@pytest.mark.parametrize("dialect", ["joeli", "olmo", "modded-nanogpt", "evintunador", "lucidrains"])
def test_samples_of_the_later_dialects_return_equal(dialect, tmp_path):
    done = run("ngpt", "--to", "mixformer", "--no-parity", "--dialect", dialect, "-o", "ours", cwd=tmp_path)
    assert done.returncode == 0 and f"ngpt-{dialect} -> mixformer" in done.stdout, done.stderr
    done = run("mixformer", "ours", "--to", "ngpt", "-o", "back", "--no-parity", cwd=tmp_path)
    assert done.returncode == 0 and run("diff", f"ngpt-{dialect}-sample", "back", cwd=tmp_path).returncode == 0
    assert ("programs for" in done.stdout) == (dialect not in ("joeli", "olmo"))


def test_first_values_are_said_on_the_command_line(tmp_path):
    run("ngpt", "--to", "mixformer", "--no-parity", "--dialect", "lucidrains", "-o", "ours", cwd=tmp_path)
    words = ("mixformer", "ours", "--to", "ngpt", "--format", "native", "-o", "native", "--no-parity")
    assert run(*words, cwd=tmp_path).returncode == 0
    words = ("ngpt", "native", "--to", "mixformer", "--n-head", 4, "-o", "again", "--no-parity")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 3 and "rotary_embed.freqs or layer 0 is missing" in done.stderr  # the sample has none
    weights = load_file(tmp_path / "ngpt-lucidrains-sample" / "model.safetensors")
    freqs = 1.0 / 10000 ** (torch.arange(0, 16, 2).float() / 16)
    torch.save({**weights, "rotary_embed.freqs": freqs}, tmp_path / "l.pt")
    words = ("ngpt", "l.pt", "--to", "mixformer", "-o", "again", "--no-parity")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 3 and "--value-residual or --no-value-residual" in done.stderr
    done = run(*words, "--value-residual", "--bake", cwd=tmp_path)
    assert done.returncode == 0 and "--reference l.pt --value-residual)" in done.stdout, done.stderr
    assert "lossy step: 23 parametrised matrices" in done.stdout
    options = json.loads((tmp_path / "again" / "conversion.json").read_text())["options"]
    assert (options["value_residual"], options["bake"]) == (True, True)
    assert run("plan", "ngpt", "l.pt", "--to", "mixformer", "--no-value-residual", cwd=tmp_path).returncode == 0

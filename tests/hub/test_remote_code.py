"""A MixFormer that is loaded from the Hub where this package is not: by the code that a conversion writes beside it."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from commands import convert_sample, held, run
from transformers import AutoModelForCausalLM

from converters.sample import write_sample
from golden.faults.self_testing import known_families

IDS = list(range(3, 40))

# `-I -S`: neither PYTHONPATH nor the .pth of the editable package counts; the site-packages are put on the path here.
LOADING = f"""
import sys
sys.path.append({sysconfig.get_path("purelib")!r})
try:
    import mixformer
except ImportError:
    pass
else:
    raise SystemExit("the package is here")
import torch
from transformers import AutoModelForCausalLM
place, out, saved, revision = sys.argv[1:]
def load(place, **more):
    return AutoModelForCausalLM.from_pretrained(place, trust_remote_code=True, **more).eval()
model = load(place, **({{"revision": revision}} if revision else {{}}))
assert type(model).__module__.startswith("transformers_modules."), type(model)
ids = torch.tensor([{IDS}])
with torch.no_grad():
    logits = model(ids).logits
    stepwise = model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=True)
    assert torch.equal(stepwise, model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=False))
    torch.save(logits, out)
    if saved:
        model.save_pretrained(saved)
        assert torch.equal(load(saved)(ids).logits, logits)
"""


@pytest.fixture(autouse=True)
def place(client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def elsewhere(
    environment: dict[str, str], model: object, *, revision: str = "", saved: str = "", **more: str
) -> torch.Tensor:
    """Logits of a model in an environment without the package."""
    out = Path.cwd() / "logits.pt"
    words = [sys.executable, "-I", "-S", "-c", LOADING, str(model), str(out), saved, revision]
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    done = subprocess.run(
        words, env={**kept, "OMP_NUM_THREADS": "1", **environment, **more}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out, weights_only=True)


def golden_logits(folder: Path) -> torch.Tensor:
    """What transformers' own class of the source computes."""
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder).eval()(torch.tensor([IDS])).logits


def packages_logits(folder: Path) -> torch.Tensor:
    import mixformer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert type(model) is mixformer.MixFormerSequentialForCausalLM
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits


def test_a_model_from_the_hub_runs_without_the_package_from_main_pinned_offline_and_from_the_folder(
    hub, environment, place
):
    source = write_sample(place / "source")
    hub.upload("hub/tiny", source)
    done = run("llama", "hub/tiny", "--to", "mixformer", "--push", "me/tiny-mixformer", "-o", "ours")
    assert done.code == 0, done.error
    golden, ours = golden_logits(source), packages_logits(Path("ours"))
    assert (ours - golden).abs().max() <= 1e-5 * golden.std()
    commit = hub.store.repos["me/tiny-mixformer"].heads["main"]
    found = {
        "main": elsewhere(environment, "me/tiny-mixformer"),
        "pinned": elsewhere(environment, "me/tiny-mixformer", revision=commit),
        "offline": elsewhere(environment, "me/tiny-mixformer", HF_HUB_OFFLINE="1"),
        "the folder": elsewhere(environment, place / "ours", saved=str(place / "saved")),
    }
    assert [name for name, logits in found.items() if not torch.equal(logits, ours)] == []
    for name in ("configuration_mixformer_sequential.py", "modeling_mixformer_sequential.py"):
        assert (place / "saved" / name).read_bytes() == (place / "ours" / name).read_bytes()
    assert "mixformer_sequential.py" not in (told := run("diff", "ours", "saved").out) and "auto_map" not in told


# All folders in one process: loading torch takes longer than running a sample.
ALL = (
    LOADING.split("place, out")[0]
    + f"""
ids = torch.tensor([{IDS}])
for place in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(place, trust_remote_code=True).eval()
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    with torch.no_grad():
        torch.save(model(ids).logits, place + ".pt")
"""
)


@pytest.mark.slow
def test_every_familys_remote_logits_are_those_of_the_package_bit_by_bit(environment, place):
    folders = [_converted(name, place) for name in known_families()[0]]
    words = [sys.executable, "-I", "-S", "-c", ALL, *map(str, folders)]
    done = subprocess.run(words, env={"OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for folder in folders:
        assert torch.equal(torch.load(f"{folder}.pt", weights_only=True), packages_logits(folder)), folder


def _converted(family: str, place: Path) -> Path:
    """The family's sample as a MixFormer; its ids are below 40 at least."""
    done = run(family, "--to", "mixformer", "--no-parity", "-o", place / family)
    assert done.code == 0, (family, done.error)
    return place / family


def test_the_check_would_notice_a_folder_without_code(sample, environment, place):
    bare = convert_sample(sample, place / "bare", "--no-code")
    with pytest.raises(AssertionError, match="mixformer"):
        elsewhere(environment, bare)


def test_with_the_package_the_files_do_not_run(sample, place):
    ours = convert_sample(sample, place / "ours")
    for path in ours.glob("*.py"):
        path.write_text("raise SystemExit('this ran')\n")
    assert torch.equal(packages_logits(ours), packages_logits(convert_sample(sample, place / "bare", "--no-code")))


def test_a_push_goes_with_the_code_and_refuses_other_code(hub, sample, place):
    ours = convert_sample(sample, place / "ours")
    (ours / "modeling_mixformer_sequential.py").write_text("print('other')\n")
    writes = len(hub.writes())
    assert run("push", ours, "me/m").code == 5
    for more in ((), ("--dry-run",)):
        done = run("push", ours, "me/m", "--allow-unverified", *more)
        assert done.code == 3 and "modeling_mixformer_sequential.py differs from what this version writes" in done.error
    assert len(hub.writes()) == writes
    whole = convert_sample(sample, place / "whole")
    assert run("push", whole, "me/m").code == 0
    assert {"configuration_mixformer_sequential.py", "modeling_mixformer_sequential.py"} <= held(hub)

"""Two tensors of a converted SmolLM2 exchanged by hand: told on the terminal, on the page, from a golden, in CI."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from converters import convert
from golden import compare, record

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]

LEVELS = ["L0", "L1", "L2"]
PAIRS = {
    "in one layer": ("layers.6.ln_1.weight", "layers.6.ln_2.weight", "layer 5"),
    "in two": ("layers.4.attn.out_proj.weight", "layers.10.attn.out_proj.weight", "layer 3"),
    "far apart": ("layers.8.mlp.fc2.weight", "layers.21.mlp.fc2.weight", "layer 7"),
}


@pytest.fixture(scope="module")
def ours(smollm2, tmp_path_factory) -> Path:
    return convert(smollm2, output=tmp_path_factory.mktemp("explained") / "ours").output


@pytest.fixture(scope="module", params=PAIRS)
def exchanged(request, ours, tmp_path_factory) -> tuple[Path, str]:
    """The model with two tensors exchanged, and the layer of the first."""
    one, other, place = PAIRS[request.param]
    folder = shutil.copytree(ours, tmp_path_factory.mktemp("pair") / "bad")
    tensors = load_file(folder / "model.safetensors")
    tensors[one], tensors[other] = tensors[other].clone(), tensors[one].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder, place


def test_the_exchange_is_named_on_the_terminal_and_on_the_page(exchanged, smollm2, tmp_path):
    bad, place = exchanged
    command = [sys.executable, "-c", "from cli.start import main; main()", "parity", bad, "--reference", smollm2]
    command += ["--levels", ",".join(LEVELS), "--report", tmp_path / "page.html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 4
    for page in (done.stdout, (tmp_path / "page.html").read_text()):
        text = " ".join(page.split())
        assert place in text and "are exchanged" in text and "applying the swap makes it pass" in text


def test_a_golden_with_hidden_states_tells_the_layer_and_one_without_says_why_not(exchanged, smollm2, tmp_path):
    bad, place = exchanged
    for hidden in (True, False):
        golden = record(smollm2, tmp_path / f"{hidden}.golden", dtypes=(), hidden=hidden)
        verdict = compare(bad, golden=golden, levels=LEVELS)
        print(verdict.first_divergence, "|", verdict.hypothesis)
        assert verdict.verdict == "FAIL"
        assert str(verdict.first_divergence).startswith(place if hidden else "not known: the golden file holds no")


def test_the_steps_of_the_action_fail_for_it_with_4(exchanged, smollm2, tmp_path):
    spec = importlib.util.spec_from_file_location("action", Path(__file__).parents[1] / "test_action.py")
    action = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(action)
    runner = action.Runner(tmp_path)
    bad, place = exchanged
    assert runner.run(candidate=str(bad), reference=str(smollm2), levels="L0,L1,L2") == 4, runner.told
    assert place in runner.summary and "are exchanged" in runner.summary

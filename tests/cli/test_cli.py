"""The command line as a person or a script meets it: exit codes, streams, JSON, and the main job end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONVERT = [sys.executable, "-c", "from cli.main import main; main()"]


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120"}
    command = [*CONVERT, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder in which the sample was converted there and back, without judging."""
    folder = tmp_path_factory.mktemp("cli")
    assert run("llama", "--to", "mixformer", "--no-parity", cwd=folder).returncode == 0
    done = run("mixformer", "llama-sample-mixformer", "--to", "llama", "-o", "back", "--no-parity", cwd=folder)
    assert done.returncode == 0
    return folder


def test_the_main_job_ends_in_a_verdict(tmp_path):
    done = run("llama", "--to", "mixformer", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["verdict"]["verdict"] == "PASS"
    statuses = {level["name"]: level["status"] for level in content["verdict"]["levels"]}
    assert {statuses[name] for name in ("L0", "L1", "L2")} == {"PASS"}
    record = json.loads((tmp_path / "llama-sample-mixformer" / "conversion.json").read_text())
    assert record["verdict"] == "PASS"
    again = run("llama", "--to", "mixformer", cwd=tmp_path)
    assert again.returncode == 0 and "up to date" in again.stdout and "verdict: PASS" in again.stdout


def test_a_round_trip_is_equal_and_a_difference_is_exit_code_4(place):
    assert run("diff", "llama-sample", "back", cwd=place).returncode == 0
    assert run("diff", "llama-sample", "llama-sample-mixformer", cwd=place).returncode == 0
    config = place / "back" / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"silu"', '"gelu"'))
    done = run("diff", "llama-sample", "back", "--json", cwd=place)
    config.write_text(text)
    assert done.returncode == 4
    assert any("hidden_act" in line for line in json.loads(done.stdout)["differences"])


def test_a_failed_parity_is_exit_code_4_and_a_report_is_written(place, tmp_path):
    import shutil

    shutil.copytree(place / "llama-sample-mixformer", tmp_path / "bad")
    file = tmp_path / "bad" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5000] ^= 0x80
    file.write_bytes(data)
    report = tmp_path / "report.json"
    words = ("parity", tmp_path / "bad", "--reference", "llama-sample", "--report", report, "--json")
    done = run(*words, cwd=place)
    assert done.returncode == 4
    assert json.loads(done.stdout) == json.loads(report.read_text())
    assert json.loads(done.stdout)["verdict"] == "FAIL"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["frobnicate"], 2, "frobnicate"),
        (["llama", "llama-sample"], 2, "--to"),
        (["llama", "nowhere", "--to", "mixformer"], 2, "does not exist"),
        (["llama", "llama-sample", "--to", "gpt9"], 2, "gpt9"),
        (["llama", "llama-sample", "--to", "mixformer", "--max-shard-size", "big"], 2, "not a size"),
        (["mixformer", "llama-sample", "--to", "llama"], 2, "is a llama checkpoint"),
        (["llama", "llama-sample", "--to", "mixformer", "-o", "."], 3, "lie in one another"),
        (["llama", "llama-sample", "--to", "mixformer", "-o", "back"], 3, "--force"),
        (["llama", "llama-sample", "--to", "mixformer", "--waive", "x"], 3, "nothing to waive"),
        (["parity", "back"], 2, "--reference"),
        (["parity", "nowhere", "--reference", "llama-sample"], 2, "does not exist"),
        (["inspect", "nowhere"], 2, "does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_have_their_exit_code_and_a_sentence_on_stderr(words, code, sentence, place):
    done = run(*words, cwd=place)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(place):
    assert "Traceback" in run("inspect", "nowhere", "--debug", cwd=place).stderr


def test_plan_tells_all_and_writes_nothing(place):
    before = sorted(place.iterdir())
    text = run("plan", "llama", "llama-sample", "--to", "mixformer", "--all", cwd=place)
    assert text.returncode == 0 and "proved" in text.stdout and "layers.1.attn.Wqkv.weight" in text.stdout
    content = json.loads(run("plan", "llama", "llama-sample", "--to", "mixformer", "--json", cwd=place).stdout)
    wqkv = next(t for t in content["tensors"] if t["key"] == "layers.1.attn.Wqkv.weight")
    assert wqkv["pieces"] == 3 and wqkv["shape"] == [128, 96]
    assert sorted(place.iterdir()) == before


def test_inspect_and_families_tell_what_there_is(place):
    content = json.loads(run("inspect", "llama-sample-mixformer", "--json", cwd=place).stdout)
    assert content["family"] == "mixformer" and content["dtypes"] == {"F32": 21}
    assert content["conversion"]["family"] == "llama"
    one = run("inspect", "llama-sample/model.safetensors", cwd=place)
    assert one.returncode == 0 and "lm_head.weight" in one.stdout
    names = [f["name"] for f in json.loads(run("families", "--json", cwd=place).stdout)["families"]]
    assert names[-1] == "mixformer" and "llama" in names


def test_quiet_prints_nothing(place):
    done = run("families", "--quiet", cwd=place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_shards_of_a_given_size_hold_the_same_tensors(place):
    words = ("llama", "llama-sample", "--to", "mixformer", "-o", "shards", "--max-shard-size", "200KB", "--no-parity")
    assert run(*words, cwd=place).returncode == 0
    files = sorted(path.name for path in (place / "shards").glob("*.safetensors"))
    assert len(files) > 3 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert run("diff", "llama-sample-mixformer", "shards", cwd=place).returncode == 0


def test_the_sample_of_mixformer_is_a_conversion_too(tmp_path):
    assert run("mixformer", "--to", "llama", "--no-parity", cwd=tmp_path).returncode == 0
    assert run("diff", "llama-sample", "mixformer-sample-llama", cwd=tmp_path).returncode == 0


def test_every_help_ends_with_a_line_to_paste(place):
    for verb in ("llama", "mixformer", "plan", "parity", "push", "inspect", "diff", "families"):
        done = run(verb, "--help", cwd=place)
        assert done.returncode == 0 and "For example: convert " in done.stdout


def test_a_golden_judges_alone_with_the_reference_deleted(place, tmp_path):
    import shutil

    golden = tmp_path / "sample.golden.safetensors"
    assert run("golden", "record", "llama-sample", "-o", golden, cwd=place).returncode == 0
    shown = json.loads(run("golden", "show", golden, "--json", cwd=place).stdout)
    assert shown["family"] == "llama" and shown["cannot_see"]
    assert run("parity", "llama-sample-mixformer", "--golden", golden, cwd=place).returncode == 0
    shutil.copytree(place / "llama-sample-mixformer", tmp_path / "bad")
    config = tmp_path / "bad" / "config.json"
    config.write_text(config.read_text().replace('"eps": 1e-05', '"eps": 1e-06'))
    assert run("parity", tmp_path / "bad", "--golden", golden, cwd=place).returncode == 4


@pytest.mark.parametrize(("suffix", "start"), [(".md", "# ✓ PASS"), (".xml", "<?xml"), (".html", "<!doctype html>")])
def test_reports_come_in_the_form_that_their_suffix_names(suffix, start, place, tmp_path):
    import xml.etree.ElementTree as ElementTree

    report = tmp_path / f"report{suffix}"
    words = ("parity", "llama-sample-mixformer", "--reference", "llama-sample", "--levels", "L0,L2", "--report", report)
    assert run(*words, cwd=place).returncode == 0
    assert report.read_text().startswith(start)
    if suffix == ".xml":
        suite = ElementTree.parse(report).getroot()
        assert suite.get("failures") == "0" and len(suite.findall("testcase")) == int(suite.get("tests", 0)) > 2
    assert run(*words[:-1], tmp_path / "report.pdf", cwd=place).returncode == 2


def test_a_torch_file_with_wrapped_keys_is_judged_too(place, tmp_path):
    import torch
    from safetensors.torch import load_file

    from converters.sample import write_sample

    source = write_sample(tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save({f"module.{key}": value for key, value in tensors.items()}, source / "pytorch_model.bin")
    done = run("llama", source, "--to", "mixformer", "-o", tmp_path / "ours", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"]["verdict"] == "PASS"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "source"]


def test_flash_without_a_gpu_is_unverified_and_never_a_pass(place):
    words = ("parity", "llama-sample-mixformer", "--reference", "llama-sample", "--attn", "flash", "--levels", "L3")
    done = run(*words, cwd=place)
    assert done.returncode == 5 and "PASS" not in done.stdout

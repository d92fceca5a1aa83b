"""The action: its steps run as a shell of a CI runs them, and the exit code is the verdict's."""

import json
import os
import re
import stat
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from converters.family import list_families, umbrellas
from converters.sample import write_sample

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "parity.yml").read_text())
OTHERS = {"actions/setup-python@v5", "actions/cache@v4"}
STARTER = f"#!{sys.executable}\nfrom cli.start import main\nmain()\n"


def wanted(condition, inputs):
    """Whether a step's `if` holds: comparisons of inputs with texts, joined by &&."""
    for part in condition.split(" && "):
        name, sign, text = re.fullmatch(r"inputs\.([\w-]+) (==|!=) '(.*)'", part).groups()
        if (inputs[name] == text) != (sign == "=="):
            return False
    return True


def filled(text, inputs):
    return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], text)


class Runner:
    """A machine of a CI: it runs the action's own steps in order, until one fails."""

    def __init__(self, folder):
        self.folder, self.told = folder, ""
        program = folder / "bin" / "mixformer"
        program.parent.mkdir()
        program.write_text(STARTER)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        (program.parent / "python").symlink_to(sys.executable)

    def run(self, **given):
        """The exit code of the first step that fails, else 0; outputs and the job's summary are kept."""
        known = {name: value.get("default", "") for name, value in ACTION["inputs"].items()}
        inputs = {**known, "install": "false", "cache": "false", **given}
        files = {name: self.folder / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        code = 0
        for step in ACTION["runs"]["steps"]:
            if not code and wanted(step.get("if", "inputs.candidate != ''"), inputs):
                code = self.step(step, inputs, {name: str(file) for name, file in files.items()})
        self.outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
        self.summary = files["GITHUB_STEP_SUMMARY"].read_text()
        return code

    def step(self, step, inputs, files):
        assert step["shell"] == "bash"
        given = {name: filled(text, inputs) for name, text in step.get("env", {}).items()}
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, **given, **files, "PATH": path, "PYTHONPATH": str(ROOT)}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)
        self.told += done.stdout + done.stderr
        return done.returncode


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """A runner with a LLaMA, a MixFormer made from it, one with two tensors exchanged, and a golden file."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("action")
    made = Runner(folder)
    write_sample(folder / "theirs")
    for words in (
        ["llama", "theirs", "--to", "mixformer", "-o", "ours", "--no-parity"],
        ["llama", "theirs", "--to", "mixformer", "-o", "bad", "--no-parity"],
        ["golden", "record", "theirs", "-o", "theirs.golden"],
    ):
        subprocess.run([sys.executable, "-c", STARTER, *words], cwd=folder, check=True, capture_output=True)
    tensors = load_file(folder / "bad" / "model.safetensors")
    one, other = "layers.2.mlp.fc1.weight", "layers.3.mlp.fc1.weight"
    tensors[one], tensors[other] = tensors[other].clone(), tensors[one].clone()
    save_file(tensors, folder / "bad" / "model.safetensors", {"format": "pt"})
    return made


def test_a_sound_model_passes_and_leaves_reports_a_summary_and_outputs(runner):
    assert runner.run(candidate="ours", reference="theirs", levels="L0,L1,L2") == 0, runner.told
    assert runner.outputs["verdict"] == "PASS"
    assert runner.summary.startswith("# ✓ PASS: ours")
    suite = ElementTree.parse(runner.folder / runner.outputs["junit"]).getroot()
    assert suite.get("failures") == "0"
    assert json.loads((runner.folder / runner.outputs["json"]).read_text())["verdict"] == "PASS"
    assert (runner.folder / runner.outputs["page"]).read_text().startswith("<!doctype html>")


def test_two_exchanged_tensors_end_with_4(runner):
    assert runner.run(candidate="bad", reference="theirs", reports="of-bad") == 4
    assert runner.outputs["verdict"] == "FAIL" and runner.summary.startswith("# ✗ FAIL: bad")
    assert "layer 1, mlp" in runner.summary
    assert int(ElementTree.parse(runner.folder / "of-bad" / "parity.xml").getroot().get("failures")) >= 2


def test_a_golden_file_judges_alone(runner):
    assert runner.run(candidate="ours", golden="theirs.golden", levels="L2") == 0, runner.told
    assert runner.run(candidate="bad", golden="theirs.golden", levels="L2") == 4


def test_a_golden_file_of_another_reference_blames_no_candidate(runner):
    write_sample(runner.folder / "other", "mistral")
    assert runner.run(candidate="ours", golden="theirs.golden", reference="other") == 5
    assert "::error::The golden file was recorded from another reference" in runner.told and not runner.outputs


def test_no_verdict_is_5_and_an_error_in_junit(runner):
    (runner.folder / "hidden").mkdir(exist_ok=True)
    config = json.loads((runner.folder / "ours" / "config.json").read_text())
    (runner.folder / "hidden" / "config.json").write_text(json.dumps({**config, "hidden_act_of_tomorrow": 3}))
    (runner.folder / "hidden" / "model.safetensors").write_bytes(
        (runner.folder / "ours" / "model.safetensors").read_bytes()
    )
    code = runner.run(candidate="hidden", reference="theirs", levels="L0,L2", reports="of-hidden")
    suite = ElementTree.parse(runner.folder / "of-hidden" / "parity.xml").getroot()
    assert {"PASS": 0, "FAIL": 4, "UNVERIFIED": 5}[runner.outputs["verdict"]] == code != 0
    assert int(suite.get("errors")) + int(suite.get("failures")) > 0


@pytest.mark.parametrize("name", ["--debug", "$(touch harm)", "a; touch harm", "`touch harm`"])
def test_a_name_is_a_name_and_never_a_command(name, runner):
    assert runner.run(candidate=name, reference="theirs") == 2
    assert not (runner.folder / "harm").exists() and "does not exist" in runner.told


def test_the_package_is_installed_from_the_action_itself(runner, tmp_path):
    (step,) = (step for step in ACTION["runs"]["steps"] if step["name"] == "Install")
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@" > asked\n')
    (tmp_path / "python").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]],
        env={**os.environ, "PATH": path, "PACKAGE": str(ROOT)}, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert (tmp_path / "asked").read_text().split() == ["-m", "pip", "install", "--quiet", str(ROOT)]
    assert step["env"] == {"PACKAGE": "${{ github.action_path }}"}


def test_inputs_reach_a_shell_as_variables_alone():
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), "a value in the text of a script would be run"
    assert {step["uses"] for step in ACTION["runs"]["steps"] if "uses" in step} == OTHERS


def test_outputs_are_those_that_the_step_writes(runner):
    runner.run(candidate="ours", reference="theirs", levels="L0")
    named = {
        re.fullmatch(r"\$\{\{ steps\.judge\.outputs\.(\w+) \}\}", o["value"])[1] for o in ACTION["outputs"].values()
    }
    assert named == set(runner.outputs) == set(ACTION["outputs"])


def test_our_own_workflow_judges_every_family(runner):
    """A new family needs no line there: the first job asks the command."""
    jobs = WORKFLOW["jobs"]
    (step,) = (step for step in jobs["list"]["steps"] if step.get("id") == "list")
    files = {"GITHUB_OUTPUT": str(runner.folder / "listed")}
    assert runner.step({**step, "shell": "bash"}, {}, files) == 0, runner.told
    name, _, listed = (runner.folder / "listed").read_text().partition("=")
    families = {family.name for family in list_families() if not family.dialect_of} | set(umbrellas())
    assert name == "families" and set(json.loads(listed)) == families
    assert jobs["families"]["strategy"]["matrix"]["family"] == "${{ fromJSON(needs.list.outputs.families) }}"
    assert jobs["list"]["outputs"]["families"] == "${{ steps.list.outputs.families }}"


def test_flash_is_run_where_a_gpu_is_and_said_not_to_be_elsewhere():
    jobs = WORKFLOW["jobs"]
    assert "gpu" in jobs["flash"]["runs-on"] and jobs["flash"]["if"] == "vars.GPU_RUNNER == 'true'"
    assert jobs["flash-not-run"]["if"] == "vars.GPU_RUNNER != 'true'"
    assert "NOT RUN" in jobs["flash-not-run"]["steps"][0]["run"]

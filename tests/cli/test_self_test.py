"""`convert parity --self-test NAME`: one family in place of all."""

import json
import subprocess
import sys

from golden import self_test

COMMAND = [sys.executable, "-c", "from cli.start import main; main()", "parity", "--self-test"]


def test_the_family_that_is_named_is_tried_and_no_other():
    done = subprocess.run([*COMMAND, "gpt2", "--json", "--jobs", "1"], capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    assert done.returncode == 0 and said["passed"] and said["caught"] == said["faults"] > 40
    assert {trial["family"] for trial in said["trials"]} == {"gpt2"}
    assert said["trials"] == self_test(["gpt2"]).to_json()["trials"]


def test_a_family_that_is_not_known_is_a_usage_error():
    done = subprocess.run([*COMMAND, "gemmaa"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "there is no family 'gemmaa' (did you mean gemma?)" in done.stderr

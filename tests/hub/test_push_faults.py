"""Pushes where something goes wrong: nothing is sent twice, no answer that was lost is a failure, nothing hangs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import HUB, HUB_1, NOT_1, TOKEN, convert_sample, held, run
from huggingface_hub import constants

CONVERT = [sys.executable, "-c", "from cli.start import main; main()"]
SLEEP = time.sleep


@pytest.fixture(autouse=True)
def place(client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; nobody waits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return tmp_path


@pytest.fixture
def passed(sample: Path, place: Path) -> Path:
    """A conversion in shards with a recorded PASS."""
    return convert_sample(sample, place / "ours")


CROWD = "Cannot create repo: another conflicting operation is in progress"

LOST = {
    "busy before the commit": {"status": 503},
    "busy after the commit": {"status": 503, "landed": True},
    "no answer": {"drop": True},
    "no answer after the commit": {"drop": True, "landed": True},
    "too slow": {"delay": 1.0, "status": 500},
    "too slow after the commit": {"delay": 1.0, "landed": True, "status": 500},
    "cut while it was sent": {"cut": 10},
    "an answer that is none": {"status": 200, "body": "<html>", "landed": True},
    "told to wait": {"status": 429, "headers": {"Retry-After": "3"}},
}


@pytest.mark.parametrize("fault", LOST)
def test_a_commit_that_fails_or_whose_answer_is_lost_is_one_commit(fault, hub, passed):
    met = hub.fail("POST", "/commit/main", **LOST[fault])
    done = run("push", passed, "me/m", "--timeout", "0.4", "--json")
    assert done.code == 0, done.error
    repo, told = hub.store.repos["me/m"], json.loads(done.out)
    assert met.met == 1 and len(repo.commits) == 2 and "config.json" in held(hub)
    assert told["commit"] == repo.heads["main"] and not told["up_to_date"]


def test_a_pull_request_whose_answer_is_lost_is_one_pull_request(hub, passed):
    hub.add("me/m", {"notes.txt": b"x"})
    hub.fail("POST", "/commit/main", drop=True, landed=True)
    done = run("push", passed, "me/m", "--create-pr")
    assert done.code == 0 and "/discussions/1" in done.out
    assert len(hub.store.repos["me/m"].pulls) == 1


def test_a_wait_that_the_server_asks_for_is_kept(hub, passed, monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    hub.fail("POST", "/commit/main", status=429, headers={"ratelimit": '"api";r=0;t=7'})
    assert run("push", passed, "me/m").code == 0
    assert 8.0 in waited


def test_a_commit_of_somebody_else_is_read_again_once(hub, passed):
    run("push", passed, "me/m")
    (passed / "config.json").write_text((passed / "config.json").read_text() + " ")
    hub.fail("POST", "/commit/main", meanwhile=lambda: hub.add("me/m", {"theirs.txt": b"x"}))
    done = run("push", passed, "me/m", "--allow-unverified")
    assert done.code == 0, done.error
    assert hub.store.read("me/m", "theirs.txt") == b"x"
    assert hub.store.read("me/m", "config.json") == (passed / "config.json").read_bytes()


def test_a_repo_that_does_not_come_to_rest_is_an_error(hub, passed):
    hub.store.create("me/m")
    numbers = iter(range(9))
    hub.fail("POST", "/commit/main", times=9, meanwhile=lambda: hub.add("me/m", {f"{next(numbers)}": b"x"}))
    done = run("push", passed, "me/m")
    assert done.code == 6 and "somebody else committed" in done.error
    assert len(hub.asked("POST", "/commit/")) == 2


@pytest.mark.parametrize("fault", [{"delay": 1.0}, {"cut": 20_000}, {"status": 500}], ids=["stuck", "cut", "500"])
def test_an_upload_that_stands_still_is_given_up_and_tried_again(fault, hub, passed):
    """People complain of uploads that are stuck at 100 %."""
    if "cut" in fault and HUB_1:
        pytest.skip(f"huggingface_hub {HUB} does not try an upload again that was cut")
    met = hub.fail("PUT", "/upload/", **fault)
    done = run("push", passed, "me/m", "--timeout", "0.4")
    assert done.code == 0, done.error
    assert met.met == 1 and "config.json" in held(hub)


def test_an_upload_that_never_ends_is_an_error_in_bounded_time(hub, passed):
    hub.fail("PUT", "/upload/", delay=1.0, times=999)
    begin = time.monotonic()
    done = run("push", passed, "me/m", "--timeout", "0.2")
    assert done.code == 6 and "did not answer in time" in done.error
    assert time.monotonic() - begin < 10 and held(hub) == set()


def test_the_default_client_would_wait_for_ever_and_ours_does_not(hub, passed):
    from huggingface_hub.utils import get_session

    run("push", passed, "me/m")
    hub.fail("GET", "/api/models/me/m$", delay=2.0)
    assert run("push", passed, "me/m", "--timeout", "0.2").code == 0
    assert get_session().timeout.read == 0.2


def test_after_one_shard_failed_only_that_one_is_sent_again(hub, passed):
    """People complain that one shard fails and all starts anew."""
    shards = sorted(passed.glob("*.safetensors"), key=lambda path: path.name)
    last = json.loads((passed / "conversion.json").read_text())["files"][shards[-1].name]
    fault = hub.fail("PUT", last, status=500, times=6)
    assert run("push", passed, "me/m").code == 6 and held(hub) == set()
    before = sum(seen.received for seen in hub.seen)
    assert fault.met == 6 and run("push", passed, "me/m").code == 0
    again, missing = sum(seen.received for seen in hub.seen) - before, shards[-1].stat().st_size
    assert len([seen for seen in hub.asked("PUT", last) if seen.status == 200]) == 1
    assert missing + in_a_commit(passed) <= again < missing + in_a_commit(passed) + LISTS
    assert min(path.stat().st_size for path in shards) > LISTS  # one more would be seen


LISTS = 25_000  # bytes that name the files, and the first 512 of each, which the Hub asks for


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def in_a_commit(folder: Path) -> int:
    """Bytes that the files of a folder take in a commit, which holds all but the weights, in base64."""
    return sum(-(-path.stat().st_size // 3) * 4 for path in folder.iterdir() if path.suffix != ".safetensors")


def test_a_killed_push_leaves_nothing_and_the_next_sends_what_is_missing(hub, sample, place, environment):
    folder = convert_sample(sample, place / "ours", "--max-shard-size", "60KB")
    hub.fail("PUT", "/upload/", delay=60, skip=8, times=99)
    environment = {**os.environ, **environment}
    child = subprocess.Popen([*CONVERT, "push", folder, "me/m"], env=environment, stderr=subprocess.PIPE, text=True)
    while len(hub.asked("PUT")) < 10 and child.poll() is None:
        SLEEP(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    hub.faults.clear()
    assert held(hub) == set()
    names = json.loads((folder / "conversion.json").read_text())["files"]
    late = {sha: folder / name for name, sha in names.items() if sha not in hub.store.objects}
    sizes = [path.stat().st_size for path in late.values() if path.suffix == ".safetensors"]
    asked, missing = len(hub.seen), sum(sizes) + in_a_commit(folder)
    assert run("push", folder, "me/m").code == 0
    again = sum(seen.received for seen in hub.seen[asked:])
    assert sum(sizes) < total(folder) * 0.6 and again < missing + LISTS < missing + min(sizes)
    assert {seen.path.rpartition("/")[2] for seen in hub.seen[asked:] if seen.method == "PUT"} < set(late)
    assert run("diff", "me/m", folder).code == 0


@pytest.mark.parametrize(
    ("method", "pattern", "fault", "words"),
    [
        ("POST", "/commit/main", {"status": 503, "times": 9}, "busy (503)"),
        ("POST", "/commit/main", {"status": 413}, "too large"),
        ("POST", "/commit/main", {"status": 403, "body": "no"}, "--create-pr"),
        ("POST", "/commit/main", {"status": 409}, "something else happens"),
        ("POST", "/commit/main", {"status": 400, "body": "odd"}, "(it says: odd)"),
        ("POST", "/repos/create", {"status": 403}, "may not write"),
        ("POST", "/repos/create", {"status": 409, "body": CROWD, "times": 99}, "busy with another repo"),
        ("POST", "/preupload/", {"status": 429, "times": 9}, "too many requests"),
        ("POST", "/preupload/", {"status": 200, "body": "<html>", "times": 9}, "not what a Hub answers"),
        ("GET", "/whoami", {"status": 401, "body": "Invalid credentials"}, "the token from HF_TOKEN was refused"),
        ("GET", "/tree/", {"status": 200, "body": "[]", "skip": 1}, "is not what was sent"),
    ],
)
def test_errors_of_a_push_name_the_cause_and_what_to_do(method, pattern, fault, words, hub, passed):
    hub.fail(method, pattern, **fault)
    done = run("push", passed, "me/m")
    assert done.code == 6 and words in done.error, done.error


def test_without_a_token_it_is_said_how_to_get_one(hub, passed, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    done = run("push", passed, "me/m")
    assert done.code == 6 and "hf auth login" in done.error and hub.seen == []


def test_a_token_that_is_not_to_be_sent_is_not_blamed(hub, passed, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    done = run("push", passed, "me/m")
    assert done.code == 6 and "HF_HUB_DISABLE_IMPLICIT_TOKEN" in done.error and hub.seen == []


def test_a_token_of_the_file_is_named_as_that(hub, passed, client, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    (client / "token").write_text("hf_wrong\n")
    assert f"the file {client / 'token'} was refused" in run("push", passed, "me/m").error


def test_a_gitignore_that_keeps_a_file_out_is_noticed(hub, passed):
    hub.add("me/m", {".gitignore": b"tokenizer.json\n"})
    done = run("push", passed, "me/m")
    assert done.code == 6 and "tokenizer.json" in done.error and ".gitignore" in done.error


def test_metadata_that_the_hub_does_not_take_are_told_before_the_upload(hub, passed):
    (passed / "README.md").write_text("---\nlicense: mit\n")
    done = run("push", passed, "me/m")
    assert done.code == 6 and "metadata of README.md" in done.error
    assert not hub.asked("PUT")


@NOT_1
def test_a_hub_without_xet_is_told_with_its_remedy(hub, passed, monkeypatch):
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    done = run("push", passed, "me/m")
    assert done.code == 6 and "HF_HUB_DISABLE_XET=1" in done.error


@NOT_1
def test_xet_goes_there_in_one_commit_and_back(hub, passed, sample, monkeypatch, tmp_path):
    hf_xet = pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.xet = tmp_path / "cas"
    hub.xet.mkdir()
    done = run("push", passed, "me/m")
    if done.code == 6 and "HF_HUB_DISABLE_XET" in done.error:
        pytest.skip(f"this hf_xet takes no local store: {done.error}")
    assert done.code == 0, done.error
    assert len(hub.store.repos["me/m"].commits) == 2 and not hub.asked("PUT")
    assert "up to date" in run("push", passed, "me/m").out
    for name, blob in hub.store.repos["me/m"].files().items():
        if blob.lfs:
            hub.xet_hashes[blob.sha256] = hf_xet.hash_files([str(passed / name)])[0].hash
            hub.store.put((passed / name).read_bytes())  # for headers by range, which come over HTTP
    assert run("mixformer", "me/m", "--to", "llama", "--no-parity", "-o", "back").code == 0
    assert hub.asked("GET", "xet-read-token") and run("diff", "back", sample).code == 0


def test_in_a_process_of_its_own_the_token_is_not_shown_even_with_debug(hub, passed, environment):
    hub.fail("POST", "/commit/", status=400, body=f"Bearer {TOKEN}", times=9)
    words = [*CONVERT, "push", passed, "me/m", "--debug"]
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 6 and "Traceback" in done.stderr and "***" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_no_option_takes_a_token(passed):
    assert run("push", passed, "me/m", "--token", "x").code == 2

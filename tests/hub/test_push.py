"""`convert push`: what goes, in one commit; what stays; and what is refused before anything is written."""

import json
import socket
from pathlib import Path

import pytest
from commands import READER, TOKEN, convert_sample, flip, held, run, write_verdict

from converters.card_marks import without_ours


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


def test_a_push_is_one_commit_of_a_private_repo_and_comes_back_equal(hub, passed, place):
    done = run("push", passed, "me/m", "--json")
    assert done.code == 0, done.error
    told, repo = json.loads(done.out), hub.store.repos["me/m"]
    assert repo.private and told["private"] and told["created"] and told["verdict"] == "PASS"
    assert told["commit"] == repo.heads["main"] and len(repo.commits) == 2
    assert "verified: PASS" in repo.at("main").title
    assert held(hub) == {path.name for path in passed.iterdir()}
    for path in passed.iterdir():
        if path.name not in ("conversion.json", "README.md"):  # made anew for the repo
            assert hub.store.read("me/m", path.name) == path.read_bytes()
    assert run("diff", "me/m", passed).code == 0


def test_a_second_push_is_up_to_date_and_writes_nothing(hub, passed):
    run("push", passed, "me/m")
    writes = len(hub.writes())
    done = run("push", passed, "me/m")
    assert done.code == 0 and "is up to date" in done.out
    assert hub.writes()[writes:] == [] and len(hub.store.repos["me/m"].commits) == 2


def test_the_index_is_uploaded_with_the_shards_and_its_lack_is_told(hub, passed):
    """People complain of shards without their index."""
    run("push", passed, "me/m")
    assert "model.safetensors.index.json" in held(hub)
    (passed / "model.safetensors.index.json").unlink()
    done = run("push", passed, "me/n", "--allow-unverified")
    assert done.code == 3 and "model.safetensors" in done.error
    assert "me/n" not in hub.store.repos


def test_a_stale_set_of_shards_goes_in_the_same_commit_and_all_else_stays(hub, passed, sample, place):
    """People complain of a second, stale set of shards that is loaded in place of the new one."""
    run("push", passed, "me/m")
    hub.add("me/m", {"notes.txt": b"mine", "adapter.safetensors": b"mine", "README.md": b"# Mine\n"})
    before = len(hub.store.repos["me/m"].commits)
    whole = convert_sample(sample, place / "whole", "--max-shard-size", "1GB")
    done = run("push", whole, "me/m")
    assert done.code == 0, done.error
    assert len(hub.store.repos["me/m"].commits) == before + 1
    assert held(hub) == {path.name for path in whole.iterdir()} | {"notes.txt", "adapter.safetensors"}
    assert "delete" in done.out and "model-00001-of-" in done.out
    assert without_ours(hub.store.read("me/m", "README.md")).endswith(b"---\n\n# Mine\n")


def test_a_card_that_is_there_stays_byte_for_byte(hub, passed):
    """People complain of a hand-written card that was overwritten."""
    mine = b"---\nlicense: mit\n---\n\n# By hand\r\n\xc3\xa4 \n"
    hub.store.create("me/m")
    hub.add("me/m", {"README.md": mine})
    (passed / "README.md").write_text("# Another\n")
    assert run("push", passed, "me/m").code == 0
    assert without_ours(hub.store.read("me/m", "README.md")) == mine


def test_the_folders_card_goes_along_where_there_is_none(hub, passed):
    (passed / "README.md").write_text("# By hand\n")
    assert run("push", passed, "me/m").code == 0
    assert without_ours(hub.store.read("me/m", "README.md")).endswith(b"---\n\n# By hand\n")
    (passed / "README.md").write_text("# Another\n")
    assert "up to date" in run("push", passed, "me/m").out


def test_public_is_said_and_a_hub_that_makes_it_public_is_not_trusted(hub, passed):
    """People complain of weights that were public by accident."""
    assert run("push", passed, "me/open", "--public").code == 0
    assert not hub.store.repos["me/open"].private
    hub.always_public, sent = True, len(hub.asked("PUT"))
    done = run("push", passed, "me/m")
    assert done.code == 6 and "made it public" in done.error
    assert held(hub) == set() and len(hub.asked("PUT")) == sent


def test_the_visibility_of_a_repo_that_is_there_is_left_and_told(hub, passed):
    hub.store.create("me/m", private=False)
    assert "me/m (public) got" in run("push", passed, "me/m").out
    assert not hub.store.repos["me/m"].private


CHANGES = {
    "a flipped byte in a shard": lambda f: flip(next(f.glob("model-00001*"))),
    "an edited config": lambda f: (f / "config.json").write_text((f / "config.json").read_text() + "\n"),
    "a file more": lambda f: (f / "vocab.json").write_text("{}"),
    "a secret more": lambda f: (f / ".env").write_text("SECRET=1"),
    "a file less": lambda f: (f / "tokenizer.json").unlink(),
    "a link": lambda f: (f / "merges.txt").symlink_to("/etc/hostname"),
    "an edited verdict": lambda f: write_verdict(f, "FAIL"),
    "no verdict": lambda f: write_verdict(f, "UNVERIFIED"),
    "no record": lambda f: (f / "conversion.json").unlink(),
    "a broken record": lambda f: (f / "conversion.json").write_text("{"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_not_passed_as_it_is_now_is_refused_before_any_request(change, hub, passed):
    CHANGES[change](passed)
    done = run("push", passed, "me/m")
    assert done.code == 5, done.error
    assert "--judge-again" in done.error and hub.seen == []


def test_unverified_weights_are_marked_in_the_commit_and_in_front_of_the_card(hub, passed):
    write_verdict(passed, "FAIL")
    hub.add("me/m", {"README.md": b"---\nlicense: mit\n---\n# Mine\n"})
    done = run("push", passed, "me/m", "--allow-unverified")
    assert done.code == 0 and "UNVERIFIED" in done.out
    assert hub.store.repos["me/m"].at("main").title.startswith("UNVERIFIED: ")
    card = without_ours(hub.store.read("me/m", "README.md")).decode()
    assert card.startswith("---\nlicense: mit\n---\n**UNVERIFIED") and card.endswith("# Mine\n")
    write_verdict(passed, "PASS")
    assert run("push", passed, "me/m").code == 0
    assert without_ours(hub.store.read("me/m", "README.md")) == b"---\nlicense: mit\n---\n# Mine\n"


def test_only_files_of_the_list_leave_and_links_never(hub, passed, place):
    for name in (".env", "train.py", "optimizer.pt", "notes.txt", "events.out.tfevents", "pytorch_model.bin.bak"):
        (passed / name).write_text("private")
    (passed / "__pycache__").mkdir()
    (passed / "__pycache__" / "x.pyc").write_text("private")
    done = run("push", passed, "me/m", "--allow-unverified", "--json")
    assert done.code == 0, done.error
    assert "train.py" in json.loads(done.out)["left_out"] and "__pycache__/x.pyc" in json.loads(done.out)["left_out"]
    assert all(b"private" not in hub.store.read("me/m", name) for name in held(hub) if name.endswith(".json"))
    assert held(hub) & {".env", "train.py", "optimizer.pt", "notes.txt"} == set()
    secret = place / "secret"
    secret.write_text("private")
    (passed / "LICENSE").symlink_to(secret)
    assert "link" in run("push", passed, "me/n", "--allow-unverified").error


def test_the_published_record_says_nothing_of_this_machine(hub, passed, sample, place):
    run("push", passed, "me/m")
    text = hub.store.read("me/m", "conversion.json").decode()
    found = json.loads(text)
    assert found["verdict"] == "PASS" and found["parity"]["levels"][0]["number"] == 1e-15
    assert found["files"].keys() == {path.name for path in passed.iterdir()} - {"conversion.json", "README.md"}
    states = [path.stat() for folder in (passed, sample) for path in folder.iterdir()]
    local = (
        {str(s.st_ino) for s in states} | {str(s.st_mtime_ns) for s in states} | {str(s.st_ctime_ns) for s in states}
    )
    for word in {str(place), "/tmp", socket.gethostname(), "written", *local}:
        assert word not in text
    again = convert_sample(sample, place / "again")
    run("push", again, "me/again")
    assert hub.store.read("me/again", "conversion.json").decode() == text


def test_the_local_record_does_say_such_things(passed):
    """The control of the test above."""
    record = json.loads((passed / "conversion.json").read_text())
    assert record["written"] and "detail" in record["parity"]["levels"][0]
    assert any(isinstance(state, list) and len(state) == 4 for state in record["source"]["files"].values())


def test_files_that_were_not_hashed_are_hashed_before_a_push(hub, sample, place):
    folder = convert_sample(sample, place / "quick", "--no-hash")
    assert set(json.loads((folder / "conversion.json").read_text())["files"].values()) == {None}
    assert run("push", folder, "me/m").code == 0
    flip(next(folder.glob("model-00001*")))
    assert run("push", folder, "me/m").code == 5


def test_a_dry_run_needs_no_token_and_asks_nothing_that_writes(hub, passed, monkeypatch):
    hub.add("me/m", {"model-00001-of-00009.safetensors": b"old", "config.json": b"{}", "notes.txt": b"x"})
    monkeypatch.delenv("HF_TOKEN")
    done = run("push", passed, "me/m", "--dry-run", "--json")
    assert done.code == 0, done.error
    actions = {change["path"]: change["action"] for change in json.loads(done.out)["changes"]}
    assert actions["model-00001-of-00009.safetensors"] == "delete" and actions["config.json"] == "replace"
    assert actions["notes.txt"] == "keep" and actions["tokenizer.json"] == "create"
    assert {seen.method for seen in hub.seen} == {"GET"} and not any(seen.authorised for seen in hub.seen)
    new = run("push", passed, "me/new", "--dry-run")
    assert "me/new (private) would get" in new.out and "would be created" in new.out and "me/new" not in hub.store.repos


def test_a_branch_is_made_and_main_is_left(hub, passed):
    hub.add("me/m", {"notes.txt": b"x"})
    assert run("push", passed, "me/m", "--revision", "next").code == 0
    assert "config.json" in held(hub, revision="next") and held(hub) == {"notes.txt"}
    assert "up to date" in run("push", passed, "me/m@next").out


def test_a_token_that_can_only_read_opens_a_pull_request_once(hub, passed, monkeypatch):
    hub.add("me/m", {"notes.txt": b"x"})
    monkeypatch.setenv("HF_TOKEN", READER)
    done = run("push", passed, "me/m", "--create-pr")
    assert done.code == 0 and "/discussions/1" in done.out
    assert "config.json" in held(hub, revision="refs/pr/1") and held(hub) == {"notes.txt"}
    again = run("push", passed, "me/m", "--create-pr")
    assert "up to date" in again.out and len(hub.store.repos["me/m"].pulls) == 1


def test_judging_again_trusts_nothing_and_needs_the_recorded_source(hub, sample, place):
    hub.upload("hub/tiny", sample)
    assert run("llama", "hub/tiny", "--to", "mixformer", "--no-parity").code == 0
    done = run("push", "tiny-mixformer", "me/m", "--judge-again")
    assert done.code == 0, done.error
    assert json.loads((place / "tiny-mixformer" / "conversion.json").read_text())["verdict"] == "PASS"
    flip(next((place / "tiny-mixformer").glob("model-00001*")))
    assert run("push", "tiny-mixformer", "me/n", "--judge-again").code == 5
    assert "me/n" not in hub.store.repos


def test_judging_again_against_another_reference_is_refused(hub, passed, place):
    from converters.sample import write_sample

    assert "--reference" in run("push", passed, "me/m", "--judge-again").error
    done = run("push", passed, "me/m", "--judge-again", "--reference", write_sample(place / "other", "gpt2"))
    assert done.code == 5 and "is not the source" in done.error


def test_a_conversion_asks_whether_it_may_push_before_it_begins(hub, sample, place, monkeypatch):
    """People complain of a 403 after an hour."""
    hub.upload("hub/tiny", sample)
    monkeypatch.setenv("HF_TOKEN", READER)
    for repo, words in {"hub/tiny": "may not write", "reader/new": "can only read", "team/new": "reader only"}.items():
        done = run("llama", "hub/tiny", "--to", "mixformer", "--push", repo)
        assert done.code == 6 and words in done.error
    assert not hub.asked("GET", "/resolve/") and list(place.iterdir()) == []


def test_one_line_converts_judges_and_pushes(hub, sample):
    hub.upload("hub/tiny", sample)
    done = run("llama", "hub/tiny", "--to", "mixformer", "--push", "me/tiny-mixformer", "--json")
    assert done.code == 0, done.error
    told = json.loads(done.out)
    assert told["verdict"]["verdict"] == "PASS" and told["push"]["repo"] == "me/tiny-mixformer"
    assert "model.safetensors.index.json" in held(hub, "me/tiny-mixformer")
    source = json.loads(hub.store.read("me/tiny-mixformer", "conversion.json"))["source"]
    assert source["repo"] == "hub/tiny" and len(source["commit"]) == 40
    again = run("llama", "hub/tiny", "--to", "mixformer", "--push", "me/tiny-mixformer")
    assert again.code == 0 and again.out.count("is up to date") == 2


def test_without_a_verdict_nothing_is_pushed_in_one_line_either(hub, sample):
    done = run("llama", sample, "--to", "mixformer", "--no-parity", "--push", "me/m")
    assert done.code == 5 and "me/m" not in hub.store.repos
    assert "llama -> mixformer" in done.out


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["nowhere", "me/m"], 2, "no folder"),
        (["ours", "m"], 2, "org/name"),
        (["ours", "me/m@a", "--revision", "b"], 2, "names one branch"),
        (["ours", "me/m", "--revision", "b", "--create-pr"], 2, "main branch"),
        (["ours", "me/m", "--create-pr"], 6, "does not exist"),
        (["ours", "you/m"], 6, "me, team only"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_told(words, code, sentence, passed):
    done = run("push", *words)
    assert done.code == code and sentence in done.error


def test_the_token_is_in_no_output_no_file_and_no_command_line(hub, passed, place, client):
    outputs = [run("push", passed, "me/m"), run("push", passed, "me/m", "--json"), run("inspect", "me/m")]
    hub.fail("GET", "/api/models/", status=500, times=99, body=f"you sent Bearer {TOKEN}")
    outputs += [run("push", passed, "me/m"), run("llama", "me/m", "--to", "mixformer")]
    assert outputs[-1].code == 6 and "***" in outputs[-1].error
    assert all(TOKEN not in done.out + done.error for done in outputs)
    for path in (path for root in (place, client) for path in root.rglob("*") if path.is_file()):
        assert TOKEN.encode() not in path.read_bytes(), path
    for blob in hub.store.folder.iterdir():
        assert TOKEN.encode() not in blob.read_bytes()

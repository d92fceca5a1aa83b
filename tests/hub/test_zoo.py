"""`convert zoo`: a list converted, judged and pushed; what fails stops nothing, and a new run does what is missing."""

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from commands import TOKEN, flip, held, run
from loopback import Hub

from cli.zoo.entries import read_zoo
from cli.zoo.outcome import Outcome
from cli.zoo.report import html, markdown
from cli.zoo.running import Share
from converters.errors import UsageError
from converters.sample import write_sample
from converters.verdict_record import obstacle
from golden.models.memory import SHARE, available_bytes


@pytest.fixture
def place(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and processes that know no other Hub."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return tmp_path


QUICK = "options = { parity = false }"


def zoo_file(place: Path, *models: str, head: str = "") -> Path:
    path = place / "zoo.toml"
    path.write_text(head + "".join(f"[[model]]\n{model}\n" for model in models))
    return path


def report(place: Path, name: str = "zoo-report") -> dict[str, dict]:
    found = json.loads((place / f"{name}.json").read_text())["models"]
    return {model["output"]: model for model in found}


def test_a_list_is_converted_judged_and_pushed_and_a_failure_does_not_stop_it(hub: Hub, sample: Path, place: Path):
    hub.upload("hub/tiny", sample)
    write_sample(place / "phi", "phi")
    (place / "broken").mkdir()
    (place / "broken" / "config.json").write_text("{}")
    zoo_file(
        place,
        "source = 'broken'\nfamily = 'llama'",
        "source = 'hub/tiny'\npush = 'me/tiny'",
        f"source = './phi'\nfamily = 'phi'\nto = 'mixformer'\n{QUICK}",
        head="output = 'made'\n",
    )
    done = run("zoo", "zoo.toml", "--jobs", "2")
    assert done.code == 3 and "3 models: 1 ERROR, 1 PASS, 1 UNVERIFIED" in done.out, done
    found = report(place)
    assert [model["status"] for model in found.values()] == ["ERROR", "PASS", "UNVERIFIED"]
    bad, tiny, phi = found.values()
    assert "broken" in bad["error"] and bad["code"] == 3
    assert tiny["family"] == "llama" and {level["name"] for level in tiny["levels"]} >= {"L0", "L1", "L2", "L3", "L4"}
    assert tiny["url"].startswith(hub.endpoint) and "config.json" in held(hub, "me/tiny")
    assert obstacle(place / "made" / "tiny-mixformer") is None
    assert phi["code"] == 0 and (place / "made" / "phi-mixformer" / "config.json").is_file()
    texts = [path.read_text() for path in place.glob("zoo-report.*")]
    assert len(texts) == 3 and all("hub/tiny" in text and TOKEN not in text for text in texts)


NAMES = ("one", "two")


def test_a_new_run_does_what_is_missing_or_has_changed_and_nothing_else(place: Path):
    import shutil

    for name in NAMES:
        write_sample(place / name)
    zoo_file(place, *(f"source = '{name}'\nfamily = 'llama'\n{QUICK}" for name in NAMES))
    assert run("zoo", "zoo.toml").code == 0
    assert run("zoo", "zoo.toml").code == 0
    assert all(model["up_to_date"] for model in report(place).values())
    inodes = {path.name: path.stat().st_ino for path in place.glob("*-mixformer")}
    shutil.rmtree(place / "two-mixformer")
    done = run("zoo", "zoo.toml", "--json")
    assert done.code == 0, done.error
    told = {model["source"]: model["up_to_date"] for model in json.loads(done.out)["models"]}
    assert told == {"one": True, "two": False}
    assert (place / "one-mixformer").stat().st_ino == inodes["one-mixformer"]


def test_an_output_that_somebody_changed_is_not_replaced(place: Path):
    write_sample(place / "one")
    zoo_file(place, f"source = 'one'\nfamily = 'llama'\n{QUICK}")
    assert run("zoo", "zoo.toml").code == 0
    note = place / "one-mixformer" / "my_notes.txt"
    note.write_text("mine")
    flip(place / "one" / "model.safetensors")
    assert run("zoo", "zoo.toml").code == 3
    assert note.read_text() == "mine" and "--force" in report(place)["one-mixformer"]["error"]
    note.unlink()
    assert run("zoo", "zoo.toml").code == 0
    assert not report(place)["one-mixformer"]["up_to_date"] and run("diff", "one", "one-mixformer").code == 0


def test_what_is_not_verified_is_not_pushed(hub: Hub, place: Path):
    write_sample(place / "one")
    zoo_file(place, f"source = 'one'\nfamily = 'llama'\npush = 'me/one'\n{QUICK}")
    assert run("zoo", "zoo.toml").code == 5
    assert report(place)["one-mixformer"]["status"] == "UNVERIFIED"
    assert "me/one" not in hub.store.repos


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no models"),
        ("[[model]]\nto = 'llama'", "source is missing"),
        ("[[model]]\nsource = 'a'\nsorce = 'b'", "'sorce' (did you mean source?)"),
        ("modle = 1", "did you mean model?"),
        ("[[model]]\nsource = 1", "source is 1, expected text"),
        ("[[model]]\nsource = 'a'\noptions = { dtyp = 'x' }", "did you mean dtype?"),
        ("[[model]]\nsource = 'a'\noptions = { force = true }", "none of `convert`"),
        ("[[model]]\nsource = 'a'\noptions = { stream = false }", "expected true"),
        ("[[model]]\nsource = 'a'\noptions = { parity = 'no' }", "expected true or false"),
        ("[[model]]\nsource = 'a'\noptions = { dtype = true }", "expected a value"),
        ("[[model]]\nsource = 'a'\noptions = { waive = [1] }", "expected a value"),
        ("[[model]]\nsource = 'a'\n[[model]]\nsource = './a'", "models 1 and 2 would both write a-mixformer"),
        ("[[model", "cannot be read"),
    ],
)
def test_a_file_that_says_something_else_is_refused_before_anything_is_done(text: str, words: str, place: Path):
    (place / "zoo.toml").write_text(text)
    done = run("zoo", "zoo.toml")
    assert done.code == 2 and words in done.error, done.error
    assert [path.name for path in place.iterdir()] == ["zoo.toml"]


def test_options_become_words_of_the_command_line(place: Path):
    more = "{ dtype = 'bfloat16', parity = false, stream = true, waive = ['a', '-b'], pad-vocab = 64 }"
    (entry,) = read_zoo(zoo_file(place, f"source = 'org/name@v1'\noptions = {more}"))
    assert entry.output == "name-mixformer"
    assert entry.words() == [
        "--dtype=bfloat16", "--no-parity", "--stream", "--waive=a", "--waive=-b", "--pad-vocab=64",
    ]  # fmt: skip
    with pytest.raises(UsageError):
        read_zoo(place / "none.toml")


def test_each_process_has_its_share_of_threads_and_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    whole, half = Share.of(1), Share.of(2)
    assert (whole.threads, half.threads) == (8, 4) and half.memory <= 0.6 * whole.memory
    environment = half.environment()
    assert environment["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv(SHARE, "12345")
    assert available_bytes() == 12345
    monkeypatch.setenv(SHARE, str(1 << 60))
    assert available_bytes() < 1 << 60


def test_a_model_too_large_for_its_share_is_unverified(place: Path, monkeypatch: pytest.MonkeyPatch):
    """The control of the share: a process that is told of a small one plans with it."""
    write_sample(place / "one")
    zoo_file(place, "source = 'one'\nfamily = 'llama'")
    monkeypatch.setattr("cli.zoo.running.Share.of", classmethod(lambda cls, jobs: cls(1, 1000)))
    assert run("zoo", "zoo.toml").code == 5
    assert report(place)["one-mixformer"]["status"] == "UNVERIFIED"


def test_an_interrupt_ends_all_processes_and_keeps_the_report_of_what_was_done(hub, sample, place):
    hub.upload("hub/tiny", sample)
    write_sample(place / "one")
    zoo_file(place, f"source = 'one'\nfamily = 'llama'\n{QUICK}", f"source = 'hub/tiny'\nfamily = 'llama'\n{QUICK}")
    slow = hub.fail("GET", "/api/models/hub/tiny", delay=60, times=9)
    words = [sys.executable, "-c", "from cli.start import main; main()", "zoo", "zoo.toml"]
    child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not slow.met and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130 and "interrupted" in error
    assert [model["source"] for model in report(place).values()] == ["one"]
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags, self.text = list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_report_shows_hostile_names_as_text():
    odd = Outcome("<script>x</script>|y", "llama", "mixformer", "o", "ERROR", 3, error="a\nb | c")
    cells = _Cells()
    cells.feed(html([odd]))
    assert "script" not in cells.tags and "<script>x</script>|y" in "".join(cells.text)
    row = markdown([odd]).splitlines()[-1]
    assert row.count(" | ") == 11 and "a b \\| c" in row and "<" not in row


def test_ray_that_is_not_installed_is_a_matter_of_usage(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    write_sample(place / "one")
    zoo_file(place, f"source = 'one'\nfamily = 'llama'\n{QUICK}")
    done = run("zoo", "zoo.toml", "--engine", "ray")
    assert done.code == 2 and "mixformer[ray]" in done.error
    assert run("zoo", "zoo.toml", "--engine", "rey").code == 2


def test_a_zoo_runs_on_ray_in_its_local_mode(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory):
    pytest.importorskip("ray", "2.60", reason="Ray is an extra, [ray]; install it to run this test")
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    write_sample(place / "one")
    zoo_file(place, "source = 'none'\nfamily = 'llama'", f"source = 'one'\n{QUICK}")
    done = run("zoo", "zoo.toml", "--engine", "ray", "--jobs", "2")
    assert done.code == 2, done
    assert [model["status"] for model in report(place).values()] == ["ERROR", "UNVERIFIED"]
    assert (place / "one-mixformer" / "config.json").is_file()


def test_a_cluster_that_does_not_answer_is_a_matter_of_usage(place: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ray", "2.60", reason="Ray is an extra, [ray]; install it to run this test")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_sample(place / "one")
    zoo_file(place, f"source = 'one'\nfamily = 'llama'\n{QUICK}")
    done = run("zoo", "zoo.toml", "--engine", "ray")
    assert done.code == 2 and "ray start --head" in done.error

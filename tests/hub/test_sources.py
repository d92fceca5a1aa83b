"""A repo wherever a path goes: which words name one, what is fetched of it, and what is refused before it is."""

import json
import struct
from pathlib import Path

import pytest
from commands import READER, run
from huggingface_hub import constants
from repos import big_repo

from cli.hub.addresses import Address, address_of
from converters.errors import UsageError

WEIGHTS = r"\.safetensors$|/blob/"


@pytest.fixture(autouse=True)
def place(client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("org/name", Address("org/name")),
        ("org/name@v1.0", Address("org/name", "v1.0")),
        ("org/name@refs/pr/1", Address("org/name", "refs/pr/1")),
        ("hf://org/name", Address("org/name")),
        ("hf://org/name@main", Address("org/name", "main")),
        ("./org/name", None),
        ("/org/name", None),
        ("~/name", None),
        ("name", None),
        ("a/b/c", None),
        ("org/name@", None),
    ],
)
def test_words_that_name_a_repo(text, address):
    assert address_of(text) == address


def test_what_is_on_disk_is_a_path_and_hf_forces_the_hub(place):
    (place / "org" / "name").mkdir(parents=True)
    assert address_of("org/name") is None
    assert address_of("hf://org/name") == Address("org/name")


@pytest.mark.parametrize(
    "text", ["hf://name", "hf://a/b/c", "hf://org/name@", "hf://../x", "hf://org/a--b", "hf://o/x.git"]
)
def test_addresses_that_name_nothing_are_a_matter_of_usage(text):
    with pytest.raises(UsageError, match=r"org/name|does not allow"):
        address_of(text)


@pytest.mark.parametrize("source", ["hub/tiny", "hf://hub/tiny", "hub/tiny@main"])
def test_a_repo_is_converted_like_its_folder(source, hub, sample, place):
    commit = hub.upload("hub/tiny", sample)
    done = run("llama", source, "--to", "mixformer", "--no-parity")
    assert done.code == 0, done.error
    assert f"from hub/tiny@{commit}" in done.out
    assert run("llama", sample, "--to", "mixformer", "--no-parity", "-o", "local").code == 0
    assert run("diff", "tiny-mixformer", "local").code == 0
    again = run("llama", source, "--to", "mixformer", "--no-parity")
    assert again.code == 0 and "is up to date" in again.out


def test_the_record_names_repo_commit_and_hashes_and_no_time_or_inode(hub, sample, place):
    commit = hub.upload("hub/tiny", sample)
    assert run("llama", "hub/tiny", "--to", "mixformer", "--no-parity").code == 0
    source = json.loads((place / "tiny-mixformer" / "conversion.json").read_text())["source"]
    assert (source["repo"], source["commit"], source["name"]) == ("hub/tiny", commit, "tiny")
    shard = next(name for name in source["files"] if name.startswith("model-00001"))
    assert source["files"][shard] == hub.store.repos["hub/tiny"].files()[shard].sha256
    assert all(isinstance(value, str) and len(value) == 64 for value in source["files"].values())


def test_a_branch_is_pinned_to_its_commit_and_a_commit_stays(hub, sample, place):
    first = hub.upload("hub/tiny", sample)
    hub.add("hub/tiny", {"config.json": b"{}"})
    assert run("plan", "llama", "hub/tiny", "--to", "mixformer").code == 3
    done = run("plan", "llama", f"hub/tiny@{first}", "--to", "mixformer", "--json")
    assert json.loads(done.out)["source"] == f"hub/tiny@{first}"


def test_a_repo_alone_says_what_it_is_and_no_weights_are_fetched(hub, sample):
    hub.upload("hub/tiny", sample)
    done = run("hub/tiny", "--json")
    content = json.loads(done.out)
    assert done.code == 0 and content["family"] == "llama" and "mixformer" in content["could_become"]
    assert sum(seen.sent for seen in hub.asked("GET", WEIGHTS)) < 30_000
    assert content["example"] == "convert hub/tiny --to mixformer"


def test_only_what_is_needed_is_fetched(hub, sample):
    more = {"pytorch_model.bin": b"x" * 1000, "tf_model.h5": b"x", "model.gguf": b"x", "notes.txt": b"x",
            "onnx/model.onnx": b"x", "code.py": b"x", ".env": b"x"}  # fmt: skip
    hub.upload("hub/tiny", sample)
    hub.add("hub/tiny", more)
    assert run("llama", "hub/tiny", "--to", "mixformer", "--no-parity").code == 0
    fetched = {seen.path.rpartition("/")[2] for seen in hub.asked("GET", "/resolve/")}
    assert fetched & {name.rpartition("/")[2] for name in more} == set()
    assert "tokenizer.json" in fetched and "README.md" in fetched


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "who"}, "who"),
        ({"hidden_act": "nonesuch"}, "hidden_act"),
        ({"num_hidden_layers": 9}, "54 tensors are missing"),
    ],
)
def test_a_config_that_cannot_be_converted_costs_no_download(config, words, hub, sample):
    """People complain of 20 minutes of download before an error in the config."""
    files = files_of(sample)
    files["config.json"] = json.dumps({**json.loads(files["config.json"]), **config}).encode()
    hub.add("hub/tiny", files)
    done = run("llama", "hub/tiny", "--to", "mixformer")
    assert done.code == 3 and words in done.error and "/headers-" not in done.error
    assert sum(seen.sent for seen in hub.asked("GET", WEIGHTS)) < 30_000


def test_plan_and_inspect_read_headers_alone(hub, sample):
    commit = hub.upload("hub/tiny", sample)
    local = json.loads(run("plan", "llama", sample, "--to", "mixformer", "--json").out)
    remote = json.loads(run("plan", "llama", "hub/tiny", "--to", "mixformer", "--json").out)
    assert remote.pop("source") == f"hub/tiny@{commit}" and local.pop("source") == str(sample)
    assert remote == local
    seen = json.loads(run("inspect", "hub/tiny", "--json").out)
    assert seen["family"] == "llama" and seen["path"] == f"hub/tiny@{commit}"
    assert all(one.range for one in hub.asked("GET", WEIGHTS))
    assert not any(one.authorised for one in hub.seen if one.origin == "cdn")


def test_tables_that_a_formula_gives_are_fetched_for_the_plan_and_nothing_else_is(hub, sample, place):
    """Files of the first LLaMAs hold them; as zeros they would be said to be wrong."""
    import torch
    from safetensors.torch import load_file, save_file

    (place / "old").mkdir()
    (place / "old" / "config.json").write_bytes((sample / "config.json").read_bytes())
    tensors = {key: value for path in sample.glob("*.safetensors") for key, value in load_file(path).items()}
    table = 1.0 / (10000.0 ** (torch.arange(0, 16, 2, dtype=torch.float32) / 16))
    tensors |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": table.clone() for i in range(3)}
    save_file(tensors, place / "old" / "model.safetensors", {"format": "pt"})
    hub.upload("hub/old", place / "old")
    done = run("plan", "llama", "hub/old", "--to", "mixformer")
    assert done.code == 0 and "inv_freq" in done.out, done.error
    assert sum(seen.sent for seen in hub.asked("GET", WEIGHTS)) < 10_000
    assert run("llama", "hub/old", "--to", "mixformer", "--no-parity").code == 0
    tensors["model.layers.1.self_attn.rotary_emb.inv_freq"][3] *= 2
    save_file(tensors, place / "old" / "model.safetensors", {"format": "pt"})
    hub.upload("hub/old", place / "old")
    done = run("plan", "llama", "hub/old", "--to", "mixformer")
    assert done.code == 3 and "layers.1.self_attn.rotary_emb.inv_freq[3]" in done.error


def test_a_plan_of_300_mb_fetches_less_than_150_kb(hub):
    """Two sparse shards on the server, with the headers of 28 layers."""
    _, sizes = big_repo(hub, layers=28)
    done = run("plan", "llama", "hub/big", "--to", "mixformer", "--json")
    assert done.code == 0, done.error
    assert json.loads(done.out)["bytes"] == sizes > 300e6
    assert sum(seen.sent for seen in hub.seen) <= 150_000


@pytest.mark.parametrize("fault", [{"whole": True}, {"status": 200}], ids=["200 and all of it", "200 and nothing"])
def test_a_server_that_ignores_ranges_is_refused_without_reading_the_file(fault, hub, sample):
    hub.upload("hub/tiny", sample)
    hub.fail("GET", "/blob/", times=99, **fault)
    done = run("plan", "llama", "hub/tiny", "--to", "mixformer")
    assert done.code == 6 and "range" in done.error and "hf download" in done.error


def test_a_wrong_content_range_is_refused(hub, sample):
    hub.upload("hub/tiny", sample)
    hub.fail("GET", "/blob/", status=206, headers={"Content-Range": "bytes 0-7/9"}, times=99)
    assert run("inspect", "hub/tiny").code == 6


@pytest.mark.parametrize("size", [4, 10**9])
def test_headers_by_range_are_checked_as_local_ones_are(size, hub, sample):
    files = files_of(sample)
    shard = next(name for name in files if name.endswith("2-of-00002.safetensors") or "00002" in name)
    files[shard] = struct.pack("<Q", size)[: min(8, size)] + files[shard][8:]
    hub.add("hub/tiny", files)
    done = run("plan", "llama", "hub/tiny", "--to", "mixformer")
    assert done.code == 3 and shard in done.error and "valid safetensors" in done.error


def test_a_corrupted_download_is_fetched_once_more(hub, sample):
    """People complain of files of the right size, with wrong bytes, and no error."""
    hub.upload("hub/tiny", sample)
    bad = hub.fail("GET", "/blob/", flip=True, skip=16)
    assert run("llama", "hub/tiny", "--to", "mixformer", "--no-parity").code == 0
    assert run("diff", "tiny-mixformer", sample).code == 0
    assert bad.met == 1


def test_a_download_that_is_corrupted_twice_is_refused_by_name_and_not_kept(hub, sample, client):
    hub.upload("hub/tiny", sample)
    hub.fail("GET", "tokenizer.json", flip=True, times=2)
    done = run("llama", "hub/tiny", "--to", "mixformer", "--no-parity")
    assert done.code == 6 and "tokenizer.json" in done.error and "twice" in done.error
    assert not Path("tiny-mixformer").exists()
    assert not [path for path in client.rglob("tokenizer.json")]
    assert run("llama", "hub/tiny", "--to", "mixformer", "--no-parity").code == 0


def test_a_busy_or_broken_download_is_tried_again(hub, sample, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.upload("hub/tiny", sample)
    faults = [hub.fail("GET", "/blob/", status=503, skip=9), hub.fail("GET", "/api/models/hub/tiny$", status=502)]
    faults += [hub.fail("GET", "/resolve/.*tokenizer", cut=3)]
    assert run("llama", "hub/tiny", "--to", "mixformer", "--no-parity").code == 0
    assert [fault.met for fault in faults] == [1, 1, 1]


def test_offline_the_cache_is_read_and_hashed(hub, sample, client, monkeypatch):
    hub.upload("hub/tiny", sample)
    assert run("llama", "hub/tiny", "--to", "mixformer", "--no-parity").code == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    asked = len(hub.seen)
    assert "up to date" in run("llama", "hub/tiny", "--to", "mixformer", "--no-parity").out
    assert run("plan", "llama", "hub/tiny", "--to", "mixformer").code == 0
    assert run("inspect", "hub/other").code == 6
    assert len(hub.seen) == asked
    blob = next(path for path in client.rglob("model-00001*.safetensors")).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    done = run("llama", "hub/tiny", "--to", "mixformer", "--no-parity", "--force")
    assert done.code == 3 and "model-00001" in done.error


@pytest.mark.parametrize("at", [".", "snapshots"])
def test_the_folder_of_a_cached_repo_is_a_source_and_lends_its_name(at, hub, sample, client, place):
    commit = hub.upload("hub/tiny", sample)
    assert run("llama", "hub/tiny", "--to", "mixformer", "--no-parity", "-o", "elsewhere").code == 0
    folder = client / "hub" / "models--hub--tiny" / at
    source = folder / commit if at == "snapshots" else folder
    done = run("llama", source, "--to", "mixformer", "--no-parity")
    assert done.code == 0, done.error
    assert (place / "tiny-mixformer" / "config.json").is_file()
    assert json.loads((place / "tiny-mixformer" / "conversion.json").read_text())["source"]["repo"] == "hub/tiny"


def test_hostile_names_are_refused_before_anything_is_fetched(hub, sample):
    files = files_of(sample)
    index = json.loads(files["model.safetensors.index.json"])
    index["weight_map"]["lm_head.weight"] = "../../../../api/whoami-v2.safetensors"
    hub.add("hub/tiny", {**files, "model.safetensors.index.json": json.dumps(index).encode(), "../evil.model": b"x"})
    for words in (("llama", "hub/tiny", "--to", "mixformer"), ("inspect", "hub/tiny")):
        done = run(*words)
        assert done.code == 3 and "lm_head.weight" in done.error
    assert not [seen for seen in hub.seen if "whoami" in seen.path or "evil" in seen.path]


def test_a_shard_that_the_index_names_and_the_repo_lacks_is_refused(hub, sample):
    files = files_of(sample)
    gone = next(name for name in files if "00002-of" in name)
    hub.add("hub/tiny", {name: data for name, data in files.items() if name != gone})
    done = run("llama", "hub/tiny", "--to", "mixformer")
    assert done.code == 3 and gone in done.error
    assert not hub.asked("GET", "/blob/")


def test_two_forms_of_weights_that_contradict_each_other_are_refused(hub, sample):
    hub.upload("hub/tiny", sample)
    hub.add("hub/tiny", {"model.safetensors": b"x"})
    assert "stale" in run("llama", "hub/tiny", "--to", "mixformer").error


def test_a_pickle_is_fetched_and_its_headers_are_not_read_by_range(hub, sample, place):
    import torch
    from safetensors.torch import load_file

    tensors = {key: value for path in sample.glob("*.safetensors") for key, value in load_file(path).items()}
    torch.save(tensors, place / "pytorch_model.bin")
    config = (sample / "config.json").read_bytes()
    hub.add("hub/old", {"pytorch_model.bin": (place / "pytorch_model.bin").read_bytes(), "config.json": config})
    done = run("plan", "llama", "hub/old", "--to", "mixformer")
    assert done.code == 3 and "hf download hub/old" in done.error
    assert run("llama", "hub/old", "--to", "mixformer", "--no-parity").code == 0
    assert run("llama", sample, "--to", "mixformer", "--no-parity", "-o", "local").code == 0
    assert run("inspect", "old-mixformer").code == 0
    assert [d for d in run("diff", "old-mixformer", "local").out.splitlines() if "weight" in d] == []


def test_several_models_in_one_repo_are_listed(hub):
    hub.add("hub/many", {f"model-Q{k}.gguf": b"GGUF" for k in range(4, 7)})
    done = run("llama", "hub/many", "--to", "mixformer")
    assert done.code == 3 and "model-Q4.gguf" in done.error and "hf download hub/many" in done.error


@pytest.mark.parametrize("free", [10_000_000, (16 << 20) + 1_500_000], ids=["the download", "download and output"])
def test_a_disk_that_is_too_small_is_told_before_the_download(free, hub, sample, monkeypatch):
    import shutil

    hub.upload("hub/tiny", sample)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, free))
    done = run("llama", "hub/tiny", "--to", "mixformer")
    assert done.code == 6 and f"{free:,} are free" in done.error
    assert sum(seen.sent for seen in hub.asked("GET", "/blob/")) < 30_000


def test_parity_diff_and_golden_take_repos_too(hub, sample, place):
    hub.upload("hub/tiny", sample)
    assert run("llama", sample, "--to", "mixformer", "--no-parity", "-o", "ours").code == 0
    hub.upload("me/ours", place / "ours")
    assert run("diff", "hub/tiny", "me/ours").code == 0
    done = run("parity", "me/ours", "--reference", "hub/tiny", "--levels", "L0,L1")
    assert done.code in (0, 5) and "L1" in done.out, done.error


@pytest.mark.parametrize(
    ("source", "setup", "words"),
    [
        ("hub/none", "", ["hub/none", "does not exist", "HF_TOKEN"]),
        ("hub/tiny@nowhere", "", ["no such revision"]),
        ("hub/secret", "", ["is private"]),
        ("hub/gated", "", ["gated", "ask for access at"]),
        ("hub/tiny", "wrong", ["HF_TOKEN", "refused"]),
        ("hub/tiny", "down", ["cannot be reached"]),
        ("hub/tiny", "slow", ["did not answer in time"]),
        ("hub/tiny", "502", ["502", "run the command again"]),
        ("hub/tiny", "429", ["too many requests"]),
        ("hub/tiny", "html", ["not what a Hub answers"]),
        ("hub/tiny", "offline", ["HF_HUB_OFFLINE"]),
    ],
)
def test_errors_name_the_cause_and_what_to_do(source, setup, words, hub, sample, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong" if setup == "wrong" else READER)
    hub.upload("hub/tiny", sample)
    hub.upload("hub/secret", sample, private=True)
    hub.upload("hub/gated", sample, gated=True)
    if setup == "down":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    if setup == "slow":
        monkeypatch.setattr("cli.hub.client.ANSWER", 0.2)
        hub.fail("GET", "/api/models", delay=1, times=99)
    if setup.isdigit():
        hub.fail("GET", "/api/models", status=int(setup), times=99)
    if setup == "html":
        hub.fail("GET", "/api/models", status=200, times=99, headers={"Content-Type": "text/html"}, body="<html>")
    if setup == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    done = run("llama", source, "--to", "mixformer")
    assert done.code == 6
    for word in words:
        assert word in done.error
    assert "hf_" not in done.error.replace("hf_hub", "")

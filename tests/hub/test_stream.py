"""`--stream`: the same output and verdict as without it, from a source that is never whole on disk."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import held, run
from huggingface_hub import HfApi, constants
from loopback import Hub
from repos import big_repo

from cli.streaming import holes, pager, source
from cli.streaming.pager import HubPager
from converters.conversion import Request, convert
from converters.sample import write_sample
from converters.verdict_record import obstacle

FAMILIES = ("gpt2", "codegen", "phi", "phi3", "qwen3", "mixtral", "mixformer")
SMALL = {"PAGE": 1 << 14, "SLACK": 1 << 16}  # bytes: as much smaller than usual as the sample is


@pytest.fixture(autouse=True)
def place(client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return tmp_path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages as small as the sample needs them."""
    monkeypatch.setattr(pager, "PAGE", SMALL["PAGE"])
    monkeypatch.setattr(source, "PAGE", SMALL["PAGE"])
    monkeypatch.setattr(source, "SLACK", SMALL["SLACK"])


@pytest.fixture
def disk(place: Path, client: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that this folder and the client's cache take, looked at whenever pages have come."""
    found, need = list[int](), HubPager.need

    def watched(self: HubPager, name: str, begin: int, end: int) -> None:
        need(self, name, begin, end)
        found.append(taken(place, client))

    monkeypatch.setattr(HubPager, "need", watched)
    return found


def taken(*folders: Path) -> int:
    """Bytes of disk of folders: allocated blocks, not sizes; a file of two names once."""
    stats = {}
    for path in (path for folder in folders for path in folder.rglob("*")):
        try:
            stats[path.lstat().st_ino] = path.lstat().st_blocks * 512
        except OSError:
            continue
    return sum(stats.values())


def record_of(folder: str) -> dict:
    return json.loads(Path(folder, "conversion.json").read_text())


def stream(*more: object, parity: bool = False) -> object:
    judged = () if parity else ("--no-parity",)
    return run("llama", "hub/tiny", "--to", "mixformer", "--stream", "-o", "ours", *judged, *more)


def shards_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.safetensors"))


def weights_asked(hub: Hub) -> int:
    return len(hub.asked("GET", "/blob/"))


@pytest.mark.usefixtures("small")
def test_a_stream_writes_what_a_conversion_writes(hub: Hub, sample: Path, place: Path):
    hub.upload("hub/tiny", sample)
    done = stream()
    assert done.code == 0 and "from hub/tiny@" in done.out, done.error
    assert {path.name for path in place.iterdir()} == {"ours"}
    assert run("llama", "hub/tiny", "--to", "mixformer", "--no-parity", "-o", "whole").code == 0
    streamed, whole = record_of("ours"), record_of("whole")
    assert streamed.pop("streamed") == {"checked": shards_of(sample), "not_checked": []}
    assert streamed.pop("written") and whole.pop("written") and streamed == whole
    assert "up to date" in stream().out


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_move_is_streamed_to_the_same_bytes(family: str, hub: Hub, place: Path):
    """Transposed, interleaved, split and joined tensors, tied heads that are compared, and masks that are known."""
    to = "llama" if family == "mixformer" else "mixformer"
    made = write_sample(place / "sample", "llama" if family == "mixformer" else family)
    made = convert(made, output=place / "from").output if family == "mixformer" else made
    hub.upload("hub/tiny", made)
    done = run(family, "hub/tiny", "--to", to, "--no-parity", "--stream", "--max-shard-size", "200KB", "-o", "ours")
    assert done.code == 0, done.error
    whole = convert(made, family, to, place / "whole", Request(max_shard_size=200_000)).output
    for name in shards_of(whole):
        assert (place / "ours" / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "options",
    ["--no-hash", "--dtype bfloat16", "--pad-vocab 64", "--crop-vocab 200", "--max-shard-size 60KB --no-hash"],
)
def test_every_way_of_writing_is_streamed_to_the_same_bytes(options: str, hub: Hub, sample: Path, place: Path):
    hub.upload("hub/tiny", sample)
    done = stream(*options.split())
    assert done.code == 0, done.error
    assert run("llama", sample, "--to", "mixformer", "--no-parity", "-o", "whole", *options.split()).code == 0
    for name in shards_of(place / "whole"):
        assert (place / "ours" / name).read_bytes() == (place / "whole" / name).read_bytes()


@pytest.mark.usefixtures("small")
def test_a_tensor_that_is_needed_at_once_and_too_large_is_refused_before_it_is_fetched(hub, place, monkeypatch):
    monkeypatch.setattr(source, "SLACK", -120_000)  # the largest output tensor is an embedding, which is copied
    hub.upload("hub/tiny", write_sample(place / "sample", "gpt2"))
    done = run("gpt2", "hub/tiny", "--to", "mixformer", "--stream", "--max-shard-size", "1KB", "-o", "ours")
    assert done.code == 3 and "change their order" in done.error and "--max-shard-size" in done.error
    assert sum(seen.sent for seen in hub.asked("GET", "/blob/")) < 20_000 and not (place / "ours").exists()


@pytest.mark.usefixtures("small")
def test_values_that_are_not_finite_are_counted_once(hub: Hub, place: Path):
    import torch
    from safetensors.torch import load_file, save_file

    whole = write_sample(place / "sample")
    tensors = load_file(whole / "model.safetensors")
    tensors["model.layers.1.self_attn.q_proj.weight"][3, :5] = torch.nan
    save_file(tensors, whole / "model.safetensors", {"format": "pt"})
    hub.upload("hub/tiny", whole)
    done = stream("--json", "--max-shard-size", "60KB")
    assert json.loads(done.out)["nonfinite"] == {"model.layers.1.self_attn.q_proj.weight": 5}


@pytest.mark.usefixtures("small")
def test_tables_that_a_formula_gives_are_read_for_the_plan(hub: Hub, sample: Path, place: Path):
    import torch
    from safetensors.torch import load_file, save_file

    whole = write_sample(place / "old")
    tensors = load_file(whole / "model.safetensors")
    table = 1.0 / (10000.0 ** (torch.arange(0, 16, 2, dtype=torch.float32) / 16))
    tensors |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": table.clone() for i in range(3)}
    save_file(tensors, whole / "model.safetensors", {"format": "pt"})
    hub.upload("hub/tiny", whole)
    assert stream().code == 0
    assert run("llama", whole, "--to", "mixformer", "--no-parity", "-o", "whole").code == 0
    assert run("diff", "ours", "whole").code == 0


def test_extra_disk_is_one_output_shard_and_64_mib(hub: Hub, place: Path, disk: list[int]):
    """300 MB in two shards, with shards of 40 MB in the output; the source alone would be more than is allowed."""
    _, total = big_repo(hub, layers=28, mixed=False)
    before = len(hub.seen)
    done = run("llama", "hub/big", "--to", "mixformer", "--no-parity", "--stream", "--max-shard-size", "40MB")
    assert done.code == 0, done.error
    extra = max(disk) - taken(place / "big-mixformer")
    assert 40e6 < extra <= 40e6 + 64 * 2**20 < total
    assert sum(seen.sent for seen in hub.seen[before:]) < 1.1 * total
    assert record_of("big-mixformer")["streamed"]["not_checked"] == []


def test_layers_that_lie_in_both_shards_are_not_fetched_twice_for_a_hash(hub, place, disk, monkeypatch):
    monkeypatch.setattr(pager, "PAGE", 1 << 18)  # less than a tensor, as it is with large models
    _, total = big_repo(hub, layers=28)
    done = run("llama", "hub/big", "--to", "mixformer", "--no-parity", "--stream", "--max-shard-size", "40MB")
    assert done.code == 0, done.error
    assert max(disk) - taken(place / "big-mixformer") <= 40e6 + 64 * 2**20
    assert sum(seen.sent for seen in hub.seen) < 1.5 * total
    assert record_of("big-mixformer")["streamed"]["not_checked"]


def test_the_measure_of_disk_would_notice_a_source_that_is_whole(hub: Hub, place: Path, disk: list[int], monkeypatch):
    """The control: pages that are never given back."""
    monkeypatch.setattr(HubPager, "_make_room", lambda *words: None)
    _, total = big_repo(hub, layers=28)
    assert run("llama", "hub/big", "--to", "mixformer", "--no-parity", "--stream", "--max-shard-size", "40MB").code == 0
    assert max(disk) - taken(place / "big-mixformer") > 0.9 * total


@pytest.mark.usefixtures("small")
def test_a_stream_is_judged_by_fetching_again_within_the_same_disk_and_pushed(hub, sample, place, client, disk):
    hub.upload("hub/tiny", sample)
    done = stream("--push", "me/m", "--json", parity=True)
    assert done.code == 0, done.error
    levels = {level["name"]: level["status"] for level in json.loads(done.out)["verdict"]["levels"]}
    assert levels == {"L0": "PASS", "L1": "PASS", "L2": "PASS", "L3": "PASS", "L3 flash": "NOT RUN", "L4": "PASS"}
    assert obstacle(place / "ours") is None and "model.safetensors.index.json" in held(hub)
    total, largest = (f(path.stat().st_size for path in sample.glob("*.safetensors")) for f in (sum, max))
    others = taken(client, place / "ours")
    assert max(disk) - others <= largest + SMALL["SLACK"] + 200_000 < total  # blocks of links, headers and folders
    assert not [path for path in place.iterdir() if path.name.startswith(".")]
    hashes = record_of("ours")["judged"]["reference"]
    assert {hashes[name] for name in shards_of(sample)} == {
        hub.store.repos["hub/tiny"].files()[n].sha256 for n in shards_of(sample)
    }


@pytest.mark.usefixtures("small")
def test_a_byte_that_is_flipped_on_the_way_is_found_by_the_hash_of_its_file(hub: Hub, sample: Path, place: Path):
    hub.upload("hub/tiny", sample)
    bad = hub.fail("GET", "/blob/", flip=True, skip=2 * len(shards_of(sample)) + 20)
    done = stream()
    assert done.code == 6 and bad.met == 1 and "safetensors" in done.error and "hash differs" in done.error
    assert list(place.iterdir()) == []
    assert stream().code == 0


@pytest.mark.usefixtures("small")
def test_bytes_that_come_otherwise_again_leave_it_unverified(hub: Hub, sample: Path, place: Path):
    hub.upload("hub/tiny", sample)
    assert stream().code == 0
    hub.fail("GET", "/blob/", flip=True, skip=weights_asked(hub) + 3, times=10**6)
    done = stream("--force", "--push", "me/m", parity=True)
    assert done.code == 5 and "those that came before" in done.error
    assert record_of("ours")["verdict"] == "UNVERIFIED" and "me/m" not in hub.store.repos


@pytest.mark.usefixtures("small")
def test_a_file_whose_bytes_do_not_come_in_order_is_said_not_to_be_checked(hub: Hub, place: Path):
    """A head of values that is left out is never fetched; the file ends with it."""
    import torch
    from safetensors.torch import load_file, save_file

    whole = write_sample(place / "trained")
    tensors = load_file(whole / "model.safetensors") | {"v_head.weight": torch.ones(600, 500)}
    save_file(tensors, whole / "model.safetensors", {"format": "pt"})
    hub.upload("hub/tiny", whole)
    assert stream("--drop", "v_head.*").code == 0
    assert record_of("ours")["streamed"] == {"checked": [], "not_checked": ["model.safetensors"]}
    assert sum(seen.sent for seen in hub.asked("GET", "/blob/")) < (whole / "model.safetensors").stat().st_size - 10**6
    assert run("push", "ours", "me/m", "--allow-unverified").code == 0
    published = json.loads(hub.store.read("me/m", "conversion.json"))
    assert published["streamed"]["not_checked"] == ["model.safetensors"]


def test_a_stream_that_is_killed_leaves_no_output_and_the_next_one_cleans_up(hub, sample, place, environment):
    hub.upload("hub/tiny", sample)
    words = ["-c", "from cli.start import main; main()", "llama", "hub/tiny", "--to", "mixformer", "--no-parity"]
    child = subprocess.Popen([sys.executable, *words, "--stream", "-o", "ours"], env={**os.environ, **environment})
    hub.fail("GET", "/blob/", skip=2 * len(shards_of(sample)) + 3, meanwhile=lambda: os.kill(child.pid, signal.SIGKILL))
    assert child.wait(60) == -signal.SIGKILL
    left = sorted(path.name for path in place.iterdir())
    assert left and all(name.startswith(".ours.") for name in left)
    assert stream().code == 0
    assert {path.name for path in place.iterdir()} == {"ours"}


def test_a_filesystem_without_holes_is_refused_by_name_before_anything_is_fetched(hub, sample, place, monkeypatch):
    holes.check_can_punch(place)  # the control: here it can

    def cannot(fd: int, begin: int, length: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(holes, "punch", cannot)
    hub.upload("hub/tiny", sample)
    before = len(hub.seen)
    done = stream("-o", place / "new" / "ours")
    assert done.code == 3 and str(place) in done.error and "Operation not supported" in done.error
    assert list(place.iterdir()) == [] and len(hub.seen) == before


def test_a_filesystem_that_does_nothing_is_noticed(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(holes, "punch", lambda fd, begin, length: None)
    with pytest.raises(Exception, match="not given back"):
        holes.check_can_punch(place)


@pytest.mark.parametrize("fault", [{"whole": True}, {"status": 503}, {"cut": 100}])
def test_a_server_that_does_not_give_ranges_is_told(fault: dict, hub: Hub, sample: Path, place: Path):
    hub.upload("hub/tiny", sample)
    hub.fail("GET", "/blob/", skip=2 * len(shards_of(sample)), times=10**6, **fault)
    assert stream().code == 6
    assert list(place.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_a_connection_that_is_lost_once_is_no_failure(hub: Hub, sample: Path):
    hub.upload("hub/tiny", sample)
    bad = hub.fail("GET", "/blob/", skip=2 * len(shards_of(sample)), times=2, cut=100)
    assert stream().code == 0 and bad.met == 2


def test_what_is_no_repo_or_of_another_form_is_refused(hub: Hub, sample: Path, place: Path, monkeypatch):
    hub.upload("hub/tiny", sample)
    hub.add("hub/old", {"pytorch_model.bin": b"x" * 99, "config.json": b"{}"})
    for words, code, told in [
        ((sample, "--stream"), 2, "a path"),
        (("--stream",), 2, "needs a SOURCE"),
        (("hub/old", "--stream"), 2, "pytorch_model.bin"),
        (("hub/tiny", "--golden", "x"), 2, "goes with --stream"),
        (("hub/none", "--stream"), 6, "does not exist"),
    ]:
        done = run("llama", *words, "--to", "mixformer", "-o", "ours")
        assert done.code == code and told in done.error, (words, done)
    files, wrong = HfApi.list_repo_tree, "../../../evil"

    def hostile(self: HfApi, *words: object, **more: object) -> Iterator[object]:
        for entry in files(self, *words, **more):
            if getattr(entry, "lfs", None):
                entry.lfs.sha256 = wrong
            yield entry

    monkeypatch.setattr(HfApi, "list_repo_tree", hostile)
    done = stream()
    assert done.code == 6 and wrong in done.error
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    assert "HF_HUB_OFFLINE" in stream().error
    assert list(place.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_a_golden_file_stands_for_the_second_download_of_models_and_one_of_others_does_not(hub, sample, place):
    hub.upload("hub/tiny", sample)
    other = write_sample(place / "other", "qwen3")
    for name, folder in (("right", sample), ("wrong", other)):
        assert run("golden", "record", folder, "-o", f"{name}.safetensors").code == 0
    assert stream().code == 0
    once = weights_asked(hub)
    done = stream("--force", "--golden", "right.safetensors", parity=True)
    assert done.code == 0, done.error
    assert weights_asked(hub) <= 3 * once + 2  # the weights come twice: to be converted, and for L1
    assert record_of("ours")["verdict"] == "PASS" and obstacle(place / "ours") is None
    done = stream("--force", "--golden", "wrong.safetensors", "--push", "me/m", parity=True)
    assert done.code == 5 and "recorded from other files" in done.error
    assert record_of("ours")["verdict"] == "UNVERIFIED" and "me/m" not in hub.store.repos


@pytest.mark.usefixtures("small")
def test_experts_are_joined_as_transformers_does_and_judged(hub: Hub, place: Path):
    hub.upload("hub/tiny", write_sample(place / "experts", "mixtral"))
    done = run("mixtral", "hub/tiny", "--to", "mixformer", "--stream", "-o", "ours")
    assert done.code == 0 and record_of("ours")["verdict"] == "PASS", done


@pytest.mark.usefixtures("small")
def test_a_source_that_transformers_cannot_load_is_unverified_and_kept(hub: Hub, place: Path):
    from safetensors.torch import load_file, save_file

    whole = write_sample(place / "wrapped")
    tensors = load_file(whole / "model.safetensors")
    save_file({f"module.{key}": value for key, value in tensors.items()}, whole / "model.safetensors")
    hub.upload("hub/tiny", whole)
    done = stream("--push", "me/m", parity=True)
    assert done.code == 5 and "--golden FILE" in done.error
    assert record_of("ours")["verdict"] == "UNVERIFIED" and "me/m" not in hub.store.repos


@pytest.mark.usefixtures("small")
def test_models_larger_than_memory_are_judged_layer_by_layer(hub, place, monkeypatch):
    """Then text and kernels cannot be asked of them, so the verdict is UNVERIFIED, as without --stream."""
    from golden import case
    from golden.case import Case

    whole = write_sample(place / "tiny")
    hub.upload("hub/tiny", whole)
    assert stream().code == 0
    monkeypatch.setattr(case, "available_bytes", lambda: 0)
    need = Case(place / "ours", whole, None, None, frozenset(), dtype="float32").plan().need
    monkeypatch.setattr(case, "available_bytes", lambda: need)
    done = stream("--json", "--force", "--max-shard-size", "150KB", parity=True)
    assert done.code == 5, done.error
    levels = {level["name"]: level for level in json.loads(done.out)["verdict"]["levels"]}
    assert levels["L1"]["status"] == levels["L2"]["status"] == "PASS" and levels["L4"]["status"] == "UNVERIFIED"
    assert "run layer by layer" in levels["L2"]["detail"] and json.loads(done.out)["source"].startswith("hub/tiny@")

"""Outputs appear whole or not at all: kills, races, full disks, and what an interrupted run leaves for the next."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converters import convert
from converters.alignment import equal_folders
from converters.conversion import Request
from converters.engine.output_folder import new_folder
from converters.engine.shard_layout import lay_out
from converters.engine.shard_writing import Writing, write_shards
from converters.errors import TargetRefused, UnsafeFile
from converters.plan.plan import make_plan
from converters.sample import write_sample


@pytest.fixture
def source(tmp_path) -> Path:
    return write_sample(tmp_path / "source")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_same_input_gives_the_same_bytes_in_every_way_of_writing(source, tmp_path):
    made = []
    for k, (hashed, synced, threads) in enumerate([(True, True, 1), (True, False, 4), (False, False, 3)]):
        writing = Writing(hash=hashed, fsync=synced, threads=threads)
        out = convert(source, output=tmp_path / f"out{k}", request=Request(writing=writing)).output
        made.append({name: (out / name).read_bytes() for name in names(out) if name != "conversion.json"})
    assert made[0] == made[1] == made[2]


def test_recorded_hashes_are_those_of_the_files(source, tmp_path):
    import hashlib
    import json

    out = convert(source, output=tmp_path / "out", request=Request(max_shard_size=200_000)).output
    recorded = json.loads((out / "conversion.json").read_text())["files"]
    assert set(recorded) == set(names(out)) - {"conversion.json"} and len(recorded) > 6
    for name, digest in recorded.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest


def test_files_have_mode_0644_and_offsets_agree_with_the_source(source, tmp_path):
    from converters.checkpoint.safetensors_header import read_header

    out = convert(source, output=tmp_path / "out").output
    assert {oct(path.stat().st_mode & 0o777) for path in out.iterdir()} == {"0o644"}
    starts = [read_header(folder / "model.safetensors").data_start for folder in (source, out)]
    assert starts[0] % 4096 == starts[1] % 4096


def test_a_second_run_is_up_to_date_and_a_changed_source_is_not(source, tmp_path):
    convert(source, output=tmp_path / "out")
    before = (tmp_path / "out").stat().st_ino
    assert convert(source, output=tmp_path / "out").up_to_date
    assert (tmp_path / "out").stat().st_ino == before
    file = source / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(TargetRefused, match="--force"):
        convert(source, output=tmp_path / "out")
    convert(source, output=tmp_path / "out", request=Request(force=True))
    back = convert(tmp_path / "out", to="llama", output=tmp_path / "back").output
    assert equal_folders(source, back) == []
    assert names(tmp_path) == ["back", "out", "source"]


def test_an_output_that_lost_a_file_is_not_up_to_date(source, tmp_path):
    convert(source, output=tmp_path / "out")
    (tmp_path / "out" / "tokenizer.json").unlink()
    with pytest.raises(TargetRefused, match="not empty"):
        convert(source, output=tmp_path / "out")


def test_an_error_while_writing_leaves_nothing(source, tmp_path, monkeypatch):
    def full(fd: int, data: object, at: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(TargetRefused, match="No space left on device"):
        convert(source, output=tmp_path / "out")
    assert names(tmp_path) == ["source"]


def test_a_target_that_cannot_be_replaced_keeps_its_old_content(source, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    (tmp_path / "out" / "config.json").write_text("{}")
    monkeypatch.setattr(os, "pwrite", lambda *a: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(TargetRefused):
        convert(source, output=tmp_path / "out", request=Request(force=True))
    assert names(tmp_path / "out") == ["config.json", "old"]


@pytest.mark.parametrize("atomic", [True, False])
def test_force_replaces_a_target_with_or_without_an_atomic_exchange(atomic, source, tmp_path, monkeypatch):
    if not atomic:
        monkeypatch.setattr("converters.engine.output_folder._exchange", lambda one, other: False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    (tmp_path / "out" / "config.json").write_text("{}")
    convert(source, output=tmp_path / "out", request=Request(force=True))
    assert "old" not in names(tmp_path / "out") and "config.json" in names(tmp_path / "out")
    assert names(tmp_path) == ["out", "source"]


def test_a_target_moved_aside_by_a_killed_run_is_put_back(source, tmp_path):
    aside = tmp_path / ".out.aside-99999"
    aside.mkdir()
    (aside / "old").write_text("old")
    (tmp_path / ".out.partial-99999").mkdir()
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out", replace=True, durable=False):
        raise RuntimeError
    assert names(tmp_path) == ["out", "source"]
    assert names(tmp_path / "out") == ["old"]


def test_folders_that_only_look_like_ours_are_left_alone(source, tmp_path):
    (tmp_path / ".out.partial-backup").mkdir()
    (tmp_path / ".out.partial-5.partial-7").mkdir()
    convert(source, output=tmp_path / "out")
    assert names(tmp_path) == [".out.partial-5.partial-7", ".out.partial-backup", "out", "source"]


def test_force_does_not_replace_what_is_no_model(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")
    with pytest.raises(TargetRefused, match="holds no model"):
        convert(source, output=tmp_path / "out", request=Request(force=True))
    assert names(tmp_path / "out") == ["precious"]


def test_an_output_that_was_changed_since_is_not_up_to_date(source, tmp_path):
    convert(source, output=tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    with file.open("r+b") as out:
        out.seek(-1, 2)
        out.write(b"x")
    with pytest.raises(TargetRefused, match="--force"):
        convert(source, output=tmp_path / "out")


def test_a_side_file_that_changed_makes_a_conversion_out_of_date(source, tmp_path):
    convert(source, output=tmp_path / "out")
    (source / "tokenizer_config.json").write_text("{}")
    with pytest.raises(TargetRefused, match="--force"):
        convert(source, output=tmp_path / "out")


def test_a_source_that_changed_since_it_was_planned_is_refused(source, tmp_path):
    from converters.checkpoint.opening import open_checkpoint

    opened = open_checkpoint(source)
    data = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(data[:-4] + b"abcd")
    with pytest.raises(UnsafeFile, match="changed"):
        convert(opened, output=tmp_path / "out")
    assert names(tmp_path) == ["source"]


def test_files_have_mode_0644_whatever_the_umask(source, tmp_path):
    before = os.umask(0o077)
    try:
        out = convert(source, output=tmp_path / "out").output
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in out.iterdir()} == {"0o644"}


def test_two_conversions_to_one_target_at_once_are_refused(source, tmp_path):
    with new_folder(tmp_path / "out", replace=False, durable=False) as folder:
        (folder / "x").write_text("x")
        with pytest.raises(TargetRefused, match="another conversion"):
            convert(source, output=tmp_path / "out")
    assert names(tmp_path / "out") == ["x"]


def test_a_target_that_appears_meanwhile_is_not_overwritten(source, tmp_path):
    with (
        pytest.raises(TargetRefused, match="appeared"),
        new_folder(tmp_path / "out", replace=False, durable=False),
    ):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("x")
    assert names(tmp_path / "out") == ["theirs"]


def test_a_source_that_changes_under_the_copy_is_noticed(source, tmp_path):
    plan = make_plan(source)
    file = source / "model.safetensors"

    def touch(nbytes: int) -> None:
        with file.open("r+b") as out:
            out.truncate(file.stat().st_size - 4)

    (tmp_path / "out").mkdir()
    with pytest.raises(UnsafeFile, match="while it was"):
        write_shards(lay_out(plan), plan.source, tmp_path / "out", Writing(progress=touch))


SLOW_RUN = """
import sys, time
from converters import convert
from converters.conversion import Request
from converters.engine.shard_writing import Writing
def slow(nbytes):
    print("writing", flush=True)
    time.sleep(0.05)
convert(sys.argv[1], output=sys.argv[2], request=Request(force=True, writing=Writing(progress=slow)))
print("done", flush=True)
"""


@pytest.mark.parametrize(("sent", "left"), [(signal.SIGKILL, 1), (signal.SIGINT, 0)], ids=["kill -9", "Ctrl-C"])
def test_a_run_that_is_killed_leaves_no_output_and_the_next_succeeds(sent, left, source, tmp_path):
    command = [sys.executable, "-c", SLOW_RUN, str(source), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None and run.stdout.readline() == "writing\n"
        run.send_signal(sent)
    assert not (tmp_path / "out").exists()
    assert len([name for name in names(tmp_path) if "partial" in name]) == left
    time.sleep(0)
    convert(source, output=tmp_path / "out")
    assert names(tmp_path) == ["out", "source"]


def test_a_mount_point_is_refused_as_what_it_is(source, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "disk")
    with pytest.raises(TargetRefused, match="mount point"):
        convert(source, output=tmp_path / "disk")
    assert names(tmp_path / "disk") == []
    assert convert(source, output=tmp_path / "disk" / "out").output.is_dir()

"""`--stream`: the same output as without it, from a source that is never whole on disk."""

import json
from pathlib import Path

import pytest
from commands import run
from loopback import Hub

from cli.streaming import pager, source

BLOCK = 512  # bytes, as st_blocks counts


@pytest.fixture(autouse=True)
def place(client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and pages as small as the sample needs them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(pager, "PAGE", 1 << 14)
    monkeypatch.setattr(source, "PAGE", 1 << 14)
    monkeypatch.setattr(source, "SLACK", 1 << 18)
    return tmp_path


def record_of(folder: str) -> dict:
    return json.loads(Path(folder, "conversion.json").read_text())


def test_a_stream_writes_what_a_conversion_writes(hub: Hub, sample: Path, place: Path):
    hub.upload("hub/tiny", sample)
    done = run("llama", "hub/tiny", "--to", "mixformer", "--no-parity", "--stream", "-o", "streamed")
    assert done.code == 0, done.error
    assert run("llama", "hub/tiny", "--to", "mixformer", "--no-parity", "-o", "whole").code == 0
    streamed, whole = record_of("streamed"), record_of("whole")
    assert streamed.pop("streamed") == {
        "checked": sorted(p.name for p in sample.glob("*.safetensors")),
        "not_checked": [],
    }
    assert [streamed.pop("written"), whole.pop("written")] and streamed == whole
    assert {p.name for p in place.iterdir()} == {"streamed", "whole"}

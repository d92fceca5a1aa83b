"""Ranges are shared where a filesystem can: the same bytes, next to no disk; copied where it cannot."""

import os
import shutil
import subprocess
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters import convert
from converters.alignment import equal_folders
from converters.conversion import Request
from converters.engine.clone import BLOCK, Cloning
from converters.engine.shard_writing import Writing
from converters.engine.steps import Copy
from converters.sample import write_sample

BARE = Request(writing=Writing(hash=False, fsync=False))


@given(st.integers(0, 3 * BLOCK), st.integers(0, 3 * BLOCK), st.integers(1, 6 * BLOCK), st.booleans())
def test_cloned_and_copied_parts_make_the_whole(begin, at, length, agree):
    at = at // BLOCK * BLOCK + begin % BLOCK if agree else at
    cloned: list[tuple[int, int, int]] = []
    cloning = Cloning()
    with patch.object(cloning, "_clone", lambda source, b, target, a, n: cloned.append((b, a, n)) is None):
        rest = [(step.begin, step.at, step.length) for step in cloning.rest(Copy(0, begin, at, length), 3, 4)]
    parts = sorted([*cloned, *rest])
    assert parts[0][0] == begin and sum(part[2] for part in parts) == length
    for (b, a, n), (following, _, _) in zip(parts, [*parts[1:], (begin + length, 0, 0)], strict=True):
        assert b + n == following and a - b == at - begin
    assert all(b % BLOCK == a % BLOCK == n % BLOCK == 0 for b, a, n in cloned)


def test_a_filesystem_that_cannot_is_asked_once(tmp_path):
    (tmp_path / "a").write_bytes(bytes(8 * BLOCK))
    asked = []
    cloning = Cloning()
    with (tmp_path / "a").open("rb") as source, Path(os.devnull).open("wb") as target:
        for _ in range(3):
            step = Copy(0, 0, 0, 8 * BLOCK)
            asked.append(list(cloning.rest(step, source.fileno(), target.fileno())) == [step])
    assert asked == [True] * 3 and not cloning._able


@pytest.mark.slow
@pytest.mark.parametrize("filesystem", ["xfs", "btrfs"])
def test_a_conversion_on_a_sharing_filesystem_takes_no_disk(filesystem, tmp_path):
    maker = shutil.which(f"mkfs.{filesystem}")
    if not maker or os.geteuid() != 0:
        pytest.skip(f"needs root and mkfs.{filesystem}")
    image, place = tmp_path / "image", tmp_path / "mounted"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run([maker, str(image)], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, check=False).returncode:
        pytest.skip("loop images cannot be mounted here")
    try:
        judge(place)
    finally:
        subprocess.run(["umount", place], check=True)


def judge(place: Path) -> None:
    source = write_sample(place / "source")
    grow(source)
    os.sync()
    before = shutil.disk_usage(place).used
    ours = convert(source, output=place / "ours", request=BARE).output
    os.sync()
    new = shutil.disk_usage(place).used - before
    assert new < 0.2 * (source / "model.safetensors").stat().st_size
    back = convert(ours, to="llama", output=place / "back").output
    assert equal_folders(source, back) == []


def grow(folder: Path) -> None:
    """Widens the sample so that its tensors are multiples of blocks."""
    import json

    import numpy as np
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    sizes = {96: 1024, 176: 2048, 64: 1024, 32: 512, 259: 2048}
    wide = {key: np.ones([sizes[n] for n in value.shape], np.float32) for key, value in tensors.items()}
    save_file(wide, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 1024, "intermediate_size": 2048, "head_dim": 256, "vocab_size": 2048}
    (folder / "config.json").write_text(json.dumps(config))

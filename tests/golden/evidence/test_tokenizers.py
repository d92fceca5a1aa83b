"""Where the reference has a tokenizer, text is asked too, and a golden notices another tokenizer by what it encodes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from golden import Status, compare, record
from golden.evidence.golden_file import read_golden


def add_tokenizer(folder: Path, shift: int) -> Path:
    """A byte tokenizer of 256 ids whose numbering is rotated by ``shift``."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: (number + shift) % len(alphabet) for number, sign in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture
def spoken(reference: Path, tmp_path: Path) -> Path:
    """The reference with a tokenizer."""
    return add_tokenizer(shutil.copytree(reference, tmp_path / "spoken"), 0)


def test_text_is_asked_where_the_reference_has_a_tokenizer(
    spoken: Path, mixformer: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    readings = compare(mixformer, spoken, levels=["L2"]).level("L2").readings
    assert {"english", "code", "random"} <= {reading.name for reading in readings}
    assert capfd.readouterr() == ("", "")


def test_a_tokenizer_that_does_not_load_costs_the_text_but_not_the_verdict(spoken: Path, mixformer: Path) -> None:
    (spoken / "tokenizer.json").write_text("{")
    level = compare(mixformer, spoken, levels=["L2"]).level("L2")
    assert level.status is Status.PASS
    assert "english" not in {reading.name for reading in level.readings}


@pytest.mark.parametrize(("shift", "status"), [(0, Status.PASS), (1, Status.FAIL)])
def test_a_golden_notices_another_tokenizer(
    shift: int, status: Status, spoken: Path, mixformer: Path, tmp_path: Path
) -> None:
    golden = record(spoken, tmp_path / "golden", dtypes=())
    candidate = add_tokenizer(shutil.copytree(mixformer, tmp_path / "candidate"), shift)
    level = compare(candidate, golden=golden, levels=["L0"]).level("L0")
    assert level.status is status
    assert ("ids of its tokens" in level.detail) is (status is Status.FAIL)


def test_a_golden_keeps_the_ids_and_not_the_need_for_a_tokenizer(spoken: Path, tmp_path: Path) -> None:
    golden = record(spoken, tmp_path / "golden", dtypes=())
    assert [prompt.name for prompt in read_golden(golden).prompts][:2] == ["english", "code"]


@pytest.mark.parametrize(("shift", "status"), [(0, Status.PASS), (1, Status.FAIL)])
def test_another_tokenizer_than_the_reference_has_is_noticed(
    shift: int, status: Status, spoken: Path, mixformer: Path, tmp_path: Path
) -> None:
    candidate = add_tokenizer(shutil.copytree(mixformer, tmp_path / "candidate"), shift)
    level = compare(candidate, spoken, levels=["L0"]).level("L0")
    assert level.status is status
    assert ("ids of its tokens" in level.detail) is bool(shift)

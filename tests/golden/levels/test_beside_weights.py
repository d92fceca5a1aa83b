"""Another tokenizer, or other settings of generation, do not pass L0; what was saved again and does the same does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from golden import Status, compare, record
from golden.errors import GoldenFileError
from golden.evidence.golden_file import content_digest, read_golden
from golden.levels.beside_weights import compare_beside, compare_recorded

TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
Change = Callable[[Path], None]


def write_tokenizer(folder: Path) -> Path:
    """A byte-level BPE with merges, a normaliser, special tokens, and a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("t", "h"), ("th", "e"), ("a", "n"), ("h", "e")]
    words = ["<s>", "</s>", "<pad>", *alphabet, *("".join(pair) for pair in pairs)]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=pairs))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A </s> $B", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.add_tokens([AddedToken("<|user|>", special=True), AddedToken("frob", lstrip=True)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=64,
        padding_side="left",
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def spoken(reference: Path, mixformer: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(reference, candidate), both with the tokenizer and with settings of generation."""
    place = tmp_path_factory.mktemp("spoken")
    pair = tuple(shutil.copytree(folder, place / name) for folder, name in ((reference, "one"), (mixformer, "other")))
    for folder in pair:
        write_tokenizer(folder)
        settings = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "temperature": 0.7, "do_sample": True}
        (folder / "generation_config.json").write_text(json.dumps(settings))
    return pair


def edits(name: str, change: Callable[[dict[str, Any]], Any]) -> Change:
    """Changes a JSON file of the folder."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


def model(change: Callable[[dict[str, Any]], Any]) -> Change:
    return edits("tokenizer.json", change)


def settings(**values: Any) -> Change:
    return edits("tokenizer_config.json", lambda content: content.update(values))


def generation(**values: Any) -> Change:
    return edits("generation_config.json", lambda content: content.update(values))


def removed(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


def exchange(content: dict[str, Any], one: str, other: str) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]


def set_added(content: dict[str, Any], **values: Any) -> None:
    content["added_tokens"][-1].update(values)


FAULTS: dict[str, Change] = {
    "two ids exchanged": model(lambda c: exchange(c, "a", "b")),
    "ids of two merged tokens exchanged": model(lambda c: exchange(c, "the", "an")),
    "ids of two rare bytes exchanged": model(lambda c: exchange(c, "Ń", "ł")),
    "merges in another order": model(lambda c: c["model"]["merges"].reverse()),
    "a merge lost": model(lambda c: c["model"]["merges"].pop()),
    "another normaliser": model(lambda c: c.update(normalizer={"type": "NFKC"})),
    "no normaliser": model(lambda c: c.update(normalizer=None)),
    "lower case": model(lambda c: c.update(normalizer={"type": "Lowercase"})),
    "accents stripped": model(lambda c: c.update(normalizer={"type": "StripAccents"})),
    "a prefix space": model(lambda c: c["pre_tokenizer"].update(add_prefix_space=True)),
    "no pre-tokenizer by pattern": model(lambda c: c["pre_tokenizer"].update(use_regex=False)),
    "another decoder": model(lambda c: c.update(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True})),
    "no decoder": model(lambda c: c.update(decoder=None)),
    "no begin of text": model(lambda c: c.update(post_processor=None)),
    "an added token gone": model(lambda c: c["added_tokens"].pop()),
    "an added token is special": model(lambda c: set_added(c, special=True)),
    "an added token keeps its space": model(lambda c: set_added(c, lstrip=False)),
    "an added token renamed": model(lambda c: c["added_tokens"][-1].update(content="frobs")),
    "a token for the unknown": model(lambda c: c["model"].update(unk_token="<pad>")),
    "end of text is padding": settings(eos_token="<pad>"),
    "no padding token": settings(pad_token=None),
    "padding side": settings(padding_side="right"),
    "truncation side": settings(truncation_side="left"),
    "a longer text": settings(model_max_length=65),
    "spaces cleaned up": settings(clean_up_tokenization_spaces=True),
    "special tokens split": settings(split_special_tokens=True),
    "other inputs": settings(model_input_names=["input_ids"]),
    "another chat template": lambda folder: (folder / "chat_template.jinja").write_text(TEMPLATE + "\n{{ 1 }}"),
    "no chat template": removed("chat_template.jinja"),
    "no tokenizer": removed("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    "no vocabulary": removed("tokenizer.json"),
    "a broken tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "half a tokenizer": lambda folder: (folder / "tokenizer.json").write_text(
        (folder / "tokenizer.json").read_text()[:900]
    ),
    "another temperature": generation(temperature=0.1),
    "no sampling": generation(do_sample=False),
    "another end of text": generation(eos_token_id=7),
    "two ends of text": generation(eos_token_id=[2, 7]),
    "a shorter text": generation(max_new_tokens=5),
    "a penalty": generation(repetition_penalty=1.3),
    "no settings of generation": removed("generation_config.json"),
}

# No text shows these in this vocabulary, so that they are doubts: UNVERIFIED, not FAIL.
ONLY_BUILT_OTHERWISE = {"no pre-tokenizer by pattern", "a token for the unknown"}


def changed(candidate: Path, place: Path, change: Change) -> Path:
    folder = shutil.copytree(candidate, place / "changed")
    change(folder)
    return folder


@pytest.fixture(scope="module")
def golden(spoken: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(spoken[0], tmp_path_factory.mktemp("golden") / "golden.safetensors", dtypes=())


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_passes_live_or_from_a_golden(
    name: str, spoken: tuple[Path, Path], golden: Path, tmp_path: Path
) -> None:
    folder = changed(spoken[1], tmp_path, FAULTS[name])
    live = compare_beside(folder, spoken[0])
    recorded = compare_recorded(folder, read_golden(golden).beside)
    assert (live.problems or live.doubts) and (recorded.problems or recorded.doubts), "the fault was not noticed"
    assert bool(live.problems) is (name not in ONLY_BUILT_OTHERWISE)
    assert bool(recorded.problems) is (name not in ONLY_BUILT_OTHERWISE)


def test_equal_files_pass_and_so_do_saved_ones(spoken: tuple[Path, Path], golden: Path, tmp_path: Path) -> None:
    reference, candidate = spoken
    assert compare_beside(candidate, reference).problems == ()
    saved = shutil.copytree(candidate, tmp_path / "saved")
    before = (saved / "tokenizer.json").read_bytes()
    AutoTokenizer.from_pretrained(candidate).save_pretrained(saved)
    (saved / "tokenizer.json").write_text(json.dumps(json.loads((saved / "tokenizer.json").read_text())))
    assert (saved / "tokenizer.json").read_bytes() != before
    assert compare_beside(saved, reference).problems == ()
    assert compare_recorded(saved, read_golden(golden).beside).problems == ()
    assert compare(saved, reference, levels=["L0"]).verdict is Status.PASS


def test_a_tokenizer_that_only_the_candidate_has_is_said_and_no_fault(
    reference: Path, spoken: tuple[Path, Path]
) -> None:
    found = compare_beside(spoken[1], reference)
    assert not [text for text in found.problems if "tokenizer" in text]
    assert "is not judged" in found.notes[0]


def test_a_golden_from_before_is_unverified_for_it(spoken: tuple[Path, Path], golden: Path, tmp_path: Path) -> None:
    old = _with_header(golden, tmp_path / "old.safetensors", lambda header: header.pop("beside"))
    level = compare(spoken[1], golden=old, levels=["L0"]).level("L0")
    assert level.status is Status.UNVERIFIED
    assert "record it again" in level.detail


def test_a_golden_with_a_doctored_deviation_is_refused(golden: Path, tmp_path: Path) -> None:
    doctored = _with_header(golden, tmp_path / "doctored", lambda header: header.update(std=header["std"] * 1e6))
    with pytest.raises(GoldenFileError, match="deviate"):
        read_golden(doctored)


def _with_header(golden: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A golden file with another header and the digest that goes with it."""
    from safetensors.torch import load_file, save_file

    from golden.evidence.golden_header import HEADER

    header, tensors = dict(read_golden(golden).header), load_file(golden)
    change(header)
    header["digest"] = content_digest(header, tensors, tensors.__getitem__)
    save_file(tensors, target, {HEADER: json.dumps(header, sort_keys=True)})
    return target

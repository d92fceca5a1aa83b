"""What of a tokenizer.json llama.cpp knows by a name: how text is split before BPE, and what is put around a text.

Source: `llama-vocab.cpp` of llama.cpp, whose expressions for `gpt-2`, `llama-bpe` and `smollm` these are.
"""

from collections.abc import Mapping
from typing import Any

from converters.errors import TokenizerRefused

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPACE = "\u2581"  # stands for a space in sentencepiece
SENTENCEPIECE = [
    {"type": "Prepend", "prepend": SPACE},
    {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
]


def split_name(content: Mapping[str, Any]) -> str:
    """llama.cpp's name for the split of a byte-level BPE; empty for one that is not known."""
    model = content["model"]
    if content.get("normalizer") is not None or model.get("byte_fallback"):
        return ""
    steps, ignores = _steps(content.get("pre_tokenizer"), "pretokenizers"), bool(model.get("ignore_merges"))
    if not steps or not _is_byte_level(steps[-1]):
        return ""
    before, by_regex = steps[:-1], steps[-1].get("use_regex", True)
    if before == [] and by_regex and not ignores:
        return "gpt-2"
    if before == [{"type": "Digits", "individual_digits": True}] and by_regex and not ignores:
        return "smollm"
    split = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
    return "llama-bpe" if before == [split] and not by_regex and ignores else ""


def _is_byte_level(step: Mapping[str, Any]) -> bool:
    return step.get("type") == "ByteLevel" and not step.get("add_prefix_space")


def _steps(part: Any, name: str) -> list[Any]:
    """A part of a tokenizer as the list of its steps."""
    if part is None:
        return []
    return list(part[name]) if part.get("type") == "Sequence" else [part]


def is_sentencepiece(content: Mapping[str, Any]) -> bool:
    """Whether it is BPE as made of a sentencepiece model: bytes as a last resort, a space put before each text."""
    plain = content.get("pre_tokenizer") is None and not content["model"].get("ignore_merges")
    steps = _steps(content.get("normalizer"), "normalizers")
    return bool(content["model"].get("byte_fallback")) and plain and steps == SENTENCEPIECE


def bos_and_eos(processor: Any) -> tuple[int | None, int | None]:
    """The ids of the tokens that are put before and behind a text.

    Raises:
        TokenizerRefused: it does something else.
    """
    found: tuple[int | None, int | None] = (None, None)
    for step in _steps(processor, "processors"):
        if step["type"] == "ByteLevel":
            continue
        if step["type"] != "TemplateProcessing":
            raise TokenizerRefused(f"it has a post-processor {step['type']}, which llama.cpp does not have")
        found = _around(step)
    return found


def _around(step: Mapping[str, Any]) -> tuple[int | None, int | None]:
    kinds = [kind for (kind,) in step["single"]]
    at = kinds.index("Sequence") if kinds.count("Sequence") == 1 else -1
    if at not in (0, 1) or len(kinds) - at > 2:
        raise TokenizerRefused("it puts more around a text than one token before and one behind")
    ids = [_id(step, item) if "SpecialToken" in item else None for item in step["single"]]
    return ids[0] if at else None, ids[-1] if len(ids) > at + 1 else None


def _id(step: Mapping[str, Any], item: Mapping[str, Any]) -> int:
    (number,) = step["special_tokens"][item["SpecialToken"]["id"]]["ids"]
    return int(number)

"""The prompts: text, random ids, special ids and both ends of the vocabulary.

Prompts are made from the reference alone, so that a golden file and a live reference have the same prompts.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden.evidence.regimes import reach, regimes
from golden.models.folders import stored_elements
from golden.models.tokenizers import honest_errors, open_tokenizer

EDGE = 256
"""Number of ids at each end of the vocabulary that are always in a prompt."""

_ENGLISH = (
    "The lighthouse keeper wrote three numbers on the wall: 17, 4096 and 0.25. Nobody in the village knew what they "
    "meant. When the storm came in March, the lamp went dark at 02:45, and the only sound left was the bell of a boat "
    'that should not have been there. "Count the stairs," said the old woman, "then count them again on the way '
    'down." Anna counted. There were ninety-six on the way up and ninety-five on the way down. She sat on the last '
    "one, or the one before it, and thought about water. Water, her brother had told her, is never in a hurry; it "
    "finds the lowest place and waits. On the table lay a letter from Zürich, dated 1911, a ruler made of brass, "
    "and half a loaf of bread. She read the letter twice. It spoke of a bridge, of a price per ton of iron, of a man "
    "who owed money to everybody between the river and the railway. At the end, in smaller writing, it said: do not "
    "trust the tide tables, trust the gulls. By morning the wind had turned, and the sea was flat and grey as slate."
)
_CODE = (
    "from dataclasses import dataclass\n\n\n@dataclass\nclass Interval:\n    start: float\n    stop: float\n\n"
    '    def overlap(self, other: "Interval") -> float:\n'
    "        low, high = max(self.start, other.start), min(self.stop, other.stop)\n"
    "        return max(0.0, high - low)\n\n\n"
    "def merge(intervals: list[Interval]) -> list[Interval]:\n    merged: list[Interval] = []\n"
    "    for item in sorted(intervals, key=lambda x: x.start):\n"
    "        if merged and item.start <= merged[-1].stop:\n"
    "            merged[-1].stop = max(merged[-1].stop, item.stop)\n"
    "        else:\n            merged.append(Interval(item.start, item.stop))\n    return merged\n\n\n"
    'if __name__ == "__main__":\n    print(merge([Interval(1, 3), Interval(2, 5), Interval(8, 9.5)]))  # [1, 5], ...\n'
)


TEXTS = (("english", _ENGLISH), ("code", _CODE))


@dataclass(frozen=True)
class Prompt:
    """A row of token ids with the name under which its numbers are reported, and the text it came from, if any."""

    name: str
    ids: tuple[int, ...]
    text: str | None = None


def longest_prompt(prompts: Sequence[Prompt]) -> int:
    """Index of the longest prompt."""
    return max(range(len(prompts)), key=lambda i: len(prompts[i].ids))


def prompt_length(elements: int) -> int:
    """Longest prompt, in tokens, for a model of that many weights. 96 tokens still show position faults."""
    for limit, length in ((20_000_000, 256), (2_000_000_000, 128)):
        if elements <= limit:
            return length
    return 96


def context_of(config: Any) -> int:
    """Tokens that a model of this transformers config was made for."""
    return int(getattr(config, "max_position_embeddings", 0) or getattr(config, "max_seq_len", 0) or 2048)


def make_prompts(
    folder: Path,
    config: Any,
    vocab: int,
    elements: int,
    seed: int = 0,
    other: Any = None,
    most: int | None = None,
) -> tuple[Prompt, ...]:
    """The default prompts for the reference in ``folder``, at most 4k tokens in all but for lengths to be reached.

    Args:
        config: its transformers config (``max_position_embeddings``, rope and special ids are read).
        vocab: ids run from 0 to ``vocab - 1``.
        elements: its number of weights; large models get shorter prompts.
        other: config of the candidate, whose own changes of behaviour are to be reached, too.
        most: tokens of a prompt at most, but for lengths to be reached.
    """
    rng = random.Random(seed)
    context = context_of(config)
    length = min(prompt_length(elements), context, most or context)
    prompts = list(_text_prompts(folder, vocab, length))
    prompts.append(Prompt("random", tuple(rng.randrange(vocab) for _ in range(length))))
    prompts += _edge_prompts(vocab, min(EDGE, context) if length >= 128 else length, rng)
    prompts.append(_special_prompt(config, vocab, min(32, length), rng))
    heads = int(getattr(config, "num_attention_heads", 0) or 1)
    for name, size in {**regimes(config), **regimes(other)}.items():
        if tokens := reach(size, length, elements, vocab, heads):
            prompts.append(Prompt(f"beyond the {name}", tuple(rng.randrange(vocab) for _ in range(tokens))))
    return tuple(prompts)


def unreached(configs: Iterable[Any], prompts: tuple[Prompt, ...]) -> list[str]:
    """One sentence for each length at which a model of these configs changes and that no prompt reaches."""
    longest = max(len(prompt.ids) for prompt in prompts)
    known = {name: size for config in configs for name, size in regimes(config).items()}
    return [f"no prompt is longer than the {name} tokens" for name, size in known.items() if longest <= size]


def reference_prompts(
    folder: Path, config: Any, vocab: int, other: Any = None, most: int | None = None
) -> tuple[Prompt, ...]:
    """The default prompts for a folder, sized by what its headers say; ``other`` and ``most`` as in `make_prompts`."""
    return make_prompts(folder, config, vocab, stored_elements(folder), other=other, most=most)


def _text_prompts(folder: Path, vocab: int, length: int) -> Iterator[Prompt]:
    tokenizer = load_tokenizer(folder)
    if tokenizer is None:
        return
    for name, text in TEXTS:
        try:
            with honest_errors():
                ids = [i for i in tokenizer(text, verbose=False)["input_ids"] if 0 <= i < vocab]
        except Exception:  # it loads, and cannot read text
            return
        if ids:
            yield Prompt(name, tuple(ids[:length]), text)


def load_tokenizer(folder: Path) -> Any | None:
    """The folder's tokenizer, or None where it has none that loads without remote code."""
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return None
    try:
        return open_tokenizer(folder)
    except Exception:  # without a tokenizer there are no text prompts, but there is a verdict
        return None


def _edge_prompts(vocab: int, length: int, rng: random.Random) -> Iterator[Prompt]:
    """Both ends of the vocabulary, shuffled, in at most two prompts."""
    ids = sorted({*range(min(EDGE, vocab)), *range(max(0, vocab - EDGE), vocab)})
    rng.shuffle(ids)
    chunks = [ids[start : start + length] for start in range(0, len(ids), length)]
    for number, chunk in enumerate(chunks[:2], start=1):
        yield Prompt(f"ends of the vocabulary {number}", tuple(chunk))


def _special_prompt(config: Any, vocab: int, length: int, rng: random.Random) -> Prompt:
    special: list[int] = []
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id"):
        value = getattr(config, name, None)
        special += value if isinstance(value, list) else [value] if isinstance(value, int) else []
    special = [i for i in dict.fromkeys(special) if 0 <= i < vocab] or [0]
    ids = [special[i % len(special)] if i % 3 == 0 else rng.randrange(vocab) for i in range(length)]
    return Prompt("special ids", tuple(ids))

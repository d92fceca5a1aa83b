"""The tokenizer of a model folder as the arrays that a GGUF file has for it, if llama.cpp makes the same tokens of it.

Two kinds of tokenizer.json are held: byte-level BPE with a split that llama.cpp knows by a name, and BPE with bytes as
a last resort, as made of a sentencepiece model (LLaMA 2). Everything else is left out, and the reason is said.
Source: `llama-vocab.cpp` of llama.cpp and `constants.py` of the `gguf` package 0.19.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.checkpoint.json_files import read_json
from converters.errors import TokenizerRefused, UnsafeFile
from converters.forms.tokenizer_splits import bos_and_eos, is_sentencepiece, split_name

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
FLAGS = ("single_word", "lstrip", "rstrip")


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id with their kinds; `model` is gpt2 for byte-level BPE, llama for sentencepiece.

    scores: of sentencepiece alone. merges, split: of byte-level BPE alone. bos, eos: the token that is put before or
    behind a text, None where none is.
    """

    model: str
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    scores: tuple[float, ...] = ()
    merges: tuple[str, ...] = ()
    split: str = ""
    bos: int | None = None
    eos: int | None = None
    unknown: int | None = None
    template: str = ""


def vocabulary_of(folder: Path, rows: int) -> Vocabulary:
    """The tokenizer of a folder for an embedding of `rows` rows; ids without a token are unused.

    Raises:
        TokenizerRefused: there is none, or llama.cpp would not make the same tokens of it.
    """
    path = folder / "tokenizer.json"
    if not folder.is_dir() or not path.is_file():
        raise TokenizerRefused("there is no tokenizer.json beside the model")
    try:
        content = read_json(path)
        return _held(content, rows, _template(folder))
    except UnsafeFile as error:
        raise TokenizerRefused(str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TokenizerRefused(f"tokenizer.json has an unknown form ({type(error).__name__}: {error})") from None


def _held(content: Mapping[str, Any], rows: int, template: str) -> Vocabulary:
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        raise TokenizerRefused(f"its model is {model['type']}, only BPE is written")
    if model.get("dropout") or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise TokenizerRefused("its model has dropout, a prefix of subwords or a suffix of words")
    merges = [_pair(merge) for merge in model["merges"]]
    tokens, kinds = _tokens(content, rows)
    bos, eos = bos_and_eos(content.get("post_processor"))
    if is_sentencepiece(content):
        kinds = [BYTE if _is_byte(t) and kind == NORMAL else kind for t, kind in zip(tokens, kinds, strict=True)]
        unknown = model["vocab"].get(model.get("unk_token"))
        if unknown is not None:
            kinds[unknown] = UNKNOWN
        scores = _scores(tokens, kinds, merges)
        return Vocabulary("llama", tuple(tokens), tuple(kinds), scores, (), "", bos, eos, unknown, template)
    split = split_name(content)
    if not split:
        raise TokenizerRefused("its way to split text is none that llama.cpp has a name for and this tool knows")
    if not merges:
        raise TokenizerRefused("it has no merges, and llama.cpp reads no BPE without")
    texts = tuple(f"{left} {right}" for left, right in merges)
    return Vocabulary("gpt2", tuple(tokens), tuple(kinds), (), texts, split, bos, eos, None, template)


def _pair(merge: Any) -> tuple[str, str]:
    """A merge, which older files have as one text."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(left, str) or not isinstance(right, str):
        raise TypeError("a merge that is not of two texts")
    return left, right


def _tokens(content: Mapping[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """Text and kind for each row of the embedding."""
    found = {number: (token, NORMAL) for token, number in content["model"]["vocab"].items()}
    for added in content.get("added_tokens") or ():
        if any(added.get(flag) for flag in FLAGS):
            raise TokenizerRefused(f"its token {added['content']!r} takes spaces beside it, or only whole words")
        found[added["id"]] = (added["content"], CONTROL if added["special"] else USER_DEFINED)
    if any(type(number) is not int or not isinstance(token, str) for number, (token, _) in found.items()):
        raise TypeError("tokens that are no texts, or ids that are no integers")
    if found and not 0 <= min(found) <= max(found) < rows:
        raise TokenizerRefused(f"it has the token {max(found)}, and the embedding has {rows} rows")
    listed = [found.get(k, (f"[PAD{k}]", UNUSED)) for k in range(rows)]
    return [token for token, _ in listed], [kind for _, kind in listed]


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _scores(tokens: Sequence[str], kinds: Sequence[int], merges: Sequence[tuple[str, str]]) -> tuple[float, ...]:
    """A score for each token, higher for what is merged earlier.

    sentencepiece merges any two neighbours whose text is a token, the best score first. So all ways to make a token of
    two must be merges, and must stand together.

    Raises:
        TokenizerRefused: that is not so.
    """
    order: dict[str, int] = {}
    last = ""
    for left, right in merges:
        made = left + right
        if made in order and made != last:
            why = f"its merges for {made!r} do not stand together, as those of a sentencepiece model do"
            raise TokenizerRefused(why)
        last = made
        order.setdefault(made, len(order))
    known = {token for token, kind in zip(tokens, kinds, strict=True) if kind == NORMAL}
    given = set(merges)
    for token in known:
        if any(pair not in given for pair in _halves(token, known)):
            raise TokenizerRefused(f"it has no merge for a way to make {token!r}, and llama.cpp would make it so")
    return tuple(
        -float(order[t]) if kind == NORMAL and t in order else 0.0 for t, kind in zip(tokens, kinds, strict=True)
    )


def _halves(token: str, known: set[str]) -> Iterator[tuple[str, str]]:
    """The ways to make a token of two."""
    for k in range(1, len(token)):
        if token[:k] in known and token[k:] in known:
            yield token[:k], token[k:]


def _template(folder: Path) -> str:
    """The chat template, from its own file or from tokenizer_config.json; empty without one."""
    own, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    said = read_json(config).get("chat_template") if config.is_file() else None
    return said if isinstance(said, str) else ""

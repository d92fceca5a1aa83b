"""What a folder's tokenizer does, aspect by aspect, so that two of them can be compared by what they do.

A tokenizer that was saved again has other bytes and may be the same; one with two ids exchanged has the same texts and
is not. An aspect is hashed, so that a golden file keeps a few lines and not a vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from golden.evidence.prompts import TEXTS
from golden.models.loading import silenced
from golden.models.tokenizers import honest_errors, open_tokenizer

FILES = (
    "tokenizer*",
    "*.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.tiktoken",
    "chat_template*",
)
NEVER = ("*.py", "*.safetensors", "*.bin", "*.pt", "*.gguf")
TEMPLATES = "additional_chat_templates"
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# Where normalisers, pre-tokenizers and decoders differ: case, accents in both forms, widths, ligatures, spaces, digits.
PROBES = (
    "Hello  world\n\n\t x",
    "  two leading, two trailing  ",
    "caf\u00e9 cafe\u0301 \u00c5 \u212b \ufb01 \uff21\uff22 \u00bd",
    "UPPER lower MiXeD \u0130stanbul \u00df",
    "3.14159 1234567 0x1F 1,000",
    "it's I'll we've don't",
    "\u4f60\u597d \u3053\u3093\u306b\u3061\u306f \u0928\u092e\u0938\u094d\u0924\u0947 \U0001f600\u200d\U0001f469",
    "\u200b\u00a0\u2028\x00\x7f",
    "",
)
ROW = 50  # tokens of the vocabulary in one text
STRUCTURE = "structure"  # not what a tokenizer does, but how: two may be built otherwise and do the same
SETTINGS = (
    "padding_side",
    "truncation_side",
    "model_max_length",
    "clean_up_tokenization_spaces",
    "chat_template",
    "model_input_names",
    "add_bos_token",
    "add_eos_token",
    "split_special_tokens",
)


@dataclass(frozen=True)
class TokenizerEvidence:
    """Sha256 of a folder's tokenizer files by name, and of each aspect of what they do by its name.

    aspects: empty where there is no tokenizer, or where `why` says that it cannot be loaded.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    aspects: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    @property
    def exists(self) -> bool:
        """Whether the folder holds a vocabulary at all."""
        return any(name in VOCABULARIES or name.endswith((".model", ".tiktoken")) for name in self.files)


def tokenizer_files(folder: Path) -> dict[str, str]:
    """Sha256 of each tokenizer file of a folder, by name."""
    listed = [*folder.iterdir(), *(folder / TEMPLATES).glob("*.jinja")] if folder.is_dir() else []
    return {
        path.relative_to(folder).as_posix(): _file_hash(path)
        for path in sorted(listed)
        if path.is_file() and (path.parent != folder or _is_tokenizer_file(path.name))
    }


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_tokenizer_file(name: str) -> bool:
    return any(fnmatchcase(name, p) for p in FILES) and not any(fnmatchcase(name, p) for p in NEVER)


def read_tokenizer(folder: Path, files: Mapping[str, str] | None = None) -> TokenizerEvidence:
    """What the tokenizer of a folder does. No remote code is run."""
    found = TokenizerEvidence(tokenizer_files(folder) if files is None else files)
    if not found.exists:
        return found
    try:
        with silenced(), honest_errors():
            aspects = {name: _hash(value) for name, value in _aspects(open_tokenizer(folder))}
    except Exception as broken:  # whatever a tokenizer of any kind raises
        return TokenizerEvidence(found.files, why=f"{type(broken).__name__}: {broken}".splitlines()[0])
    return TokenizerEvidence(found.files, aspects)


def _aspects(tokenizer: Any) -> Iterator[tuple[str, Any]]:
    """Name and content of everything that a user of the tokenizer can see of it."""
    vocabulary = tokenizer.get_vocab()
    ids = sorted({*vocabulary.values(), *tokenizer.added_tokens_decoder})
    yield "ids of its tokens", sorted(vocabulary.items())
    yield "special tokens", [sorted(_named(tokenizer).items()), sorted(tokenizer.all_special_ids)]
    yield "added tokens", sorted((i, repr(token)) for i, token in tokenizer.added_tokens_decoder.items())
    texts = [text for _, text in TEXTS] + list(PROBES)
    for special in (True, False):
        words = "encoding" if special else "encoding without special tokens"
        yield words, [list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]) for text in texts]
    yield "encoding of pairs", list(tokenizer(PROBES[0], PROBES[3], verbose=False)["input_ids"])
    tokens = [tokenizer.decode([i]) for i in ids]
    yield "decoding of single ids", tokens
    rows = ["".join(tokens[start : start + ROW]) for start in range(0, len(tokens), ROW)]
    own = tokenizer([*tokens, *rows], add_special_tokens=False, verbose=False)
    yield "encoding of its own tokens", own["input_ids"]
    encoded = [tokenizer(text, verbose=False)["input_ids"] for text in texts]
    yield "decoding of texts", [tokenizer.decode(row) for row in encoded]
    yield "decoding without special tokens", [tokenizer.decode(row, skip_special_tokens=True) for row in encoded]
    for name in SETTINGS:
        yield name, getattr(tokenizer, name, None)
    yield STRUCTURE, _structure(tokenizer)


def _structure(tokenizer: Any) -> Any:
    """How a fast tokenizer is built: its normaliser, merges and so on. None of a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    parts = json.loads(backend.to_str())
    return {name: part for name, part in parts.items() if name not in ("truncation", "padding", "version")}


def _named(tokenizer: Any) -> dict[str, str]:
    return {name: repr(value) for name, value in tokenizer.special_tokens_map.items()}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()

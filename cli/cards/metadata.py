"""The YAML in front of a card. Plain words are read and written here, and all else by the Hub's card classes.

A conversion of a folder on disk does not wait for the Hub's client to be imported: that takes longer than converting a
small model. What is written here is byte for byte what the card classes write, and a test holds it to that.
"""

import re
from collections.abc import Mapping
from typing import Any

from converters.card_marks import METADATA

LICENCE_KEYS = ("license", "license_name", "license_link")
ORDER = ("base_model", "library_name", *LICENCE_KEYS, "tags")  # of the card classes; other keys come behind
WORD = r"(?:https?://)?[A-Za-z_][A-Za-z0-9_./-]*"
PLAIN = re.compile(WORD)
# Words that YAML 1.1 takes for something else than text.
OTHER = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
LICENCE = re.compile(rf"^(license|license_name|license_link): ({WORD})[ \t]*\r?$(?!\n[ \t])", re.MULTILINE)


def yaml_of(values: Mapping[str, Any]) -> str:
    """The lines of metadata, without an end of line behind the last."""
    if not all(map(_is_plain, values.values())):
        from huggingface_hub import ModelCardData

        return str(ModelCardData(**values).to_yaml())
    names = [name for name in ORDER if name in values] + [name for name in values if name not in ORDER]
    lines = []
    for name in names:
        value = values[name]
        lines += [f"{name}: {value}"] if isinstance(value, str) else [f"{name}:", *(f"- {word}" for word in value)]
    return "\n".join(lines)


def _is_plain(value: Any) -> bool:
    """Whether a text, or each of a list of texts, needs no quotes."""
    words = [value] if isinstance(value, str) else value
    return bool(words) and all(PLAIN.fullmatch(word) and word.lower() not in OTHER for word in words)


def said_in(text: bytes) -> dict[str, Any] | None:
    """The metadata of a card; None for some that cannot be read."""
    if not METADATA.match(text):
        return None if text.lstrip().startswith(b"---") else {}  # metadata without an end are told by the Hub
    from huggingface_hub import ModelCard

    try:
        card: Any = ModelCard(text.decode("utf-8-sig"))
        return dict(card.data.to_dict())
    except Exception:  # of YAML, of Unicode, of the card classes: they have no common base
        return None


def licence_in(text: bytes) -> dict[str, str]:
    """What a card says of its licence, as it says it; nothing where its metadata cannot be read."""
    found = _plain_licence(text)
    if found is None:
        said = said_in(text) or {}
        found = {key: said[key] for key in LICENCE_KEYS if isinstance(said.get(key), str)}
    return found


def _plain_licence(text: bytes) -> dict[str, str] | None:
    """The same, where each line that has to do with it is a key and a plain word; None where one is more than that."""
    metadata = METADATA.match(text)
    if not metadata:
        return {}
    lines = metadata["lines"].decode(errors="replace")
    found = LICENCE.findall(lines)
    plain = len({key for key, _ in found}) == len(found) and all(_is_plain(word) for _, word in found)
    if not plain or sum("license" in line.lower() for line in lines.splitlines()) != len(found):
        return None
    return {key: word for key in LICENCE_KEYS for name, word in found if name == key}

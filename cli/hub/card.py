"""The model card that goes along with a push: ours renewed in the repo's card, or in the folder's where it has none."""

from pathlib import Path

from cli.cards.card import card as with_ours
from cli.cards.card import picture
from converters.card_marks import METADATA, PICTURE
from converters.checkpoint.side_files import README
from converters.errors import ConversionError
from converters.provenance import read_record

UNVERIFIED = b"**UNVERIFIED: these weights were pushed without a PASS.**"


def card(folder: Path, existing: bytes | None, repo: str, *, unverified: bool) -> dict[str, bytes]:
    """README.md and its picture as they should be in the repo, by name.

    existing: the card that the repo holds. What others wrote there stays byte for byte; weights without a PASS are
    marked in a line before it.
    """
    own = folder / README
    text = existing if existing is not None else own.read_bytes() if own.is_file() else None
    text = text and text.replace(UNVERIFIED + b"\n\n", b"", 1)
    try:
        record = read_record(folder)
    except ConversionError:
        record = {}
    text = with_ours(folder, record, text, repo) if record else text or b""
    drawn = picture(record)
    found = {README: _marked(text) if unverified else text}
    return {**found, PICTURE: drawn} if drawn else found


def _marked(text: bytes) -> bytes:
    """The card with the line about weights without a PASS at the start of its text."""
    found = METADATA.match(text)
    cut = found.end() if found else 0
    return text[:cut] + UNVERIFIED + b"\n\n" + text[cut:]

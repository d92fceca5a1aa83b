"""The model card that goes along with a push."""

from pathlib import Path

UNVERIFIED = "**UNVERIFIED: these weights were pushed without a PASS.**"
FENCE = "---\n"


def card(folder: Path, existing: bytes | None, *, unverified: bool) -> bytes | None:
    """README.md as it should be in the repo; None leaves it as it is.

    existing: what the repo holds. Its text stays byte for byte; weights without a PASS are marked in a line before it.
    """
    own = folder / "README.md"
    text = existing if existing is not None else own.read_bytes() if own.is_file() else None
    mark = UNVERIFIED.encode()
    if unverified == (text is not None and mark in text):
        return text if existing is None else None
    if not unverified:
        return (text or b"").replace(mark + b"\n\n", b"", 1)
    head, rest = _metadata(text or b"")
    return head + mark + b"\n\n" + rest


def _metadata(text: bytes) -> tuple[bytes, bytes]:
    """The metadata in front of a card, and what follows it."""
    fence = FENCE.encode()
    end = text.find(b"\n" + fence, len(fence) - 1)
    if not text.startswith(fence) or end < 0:
        return b"", text
    cut = end + 1 + len(fence)
    return text[:cut], text[cut:]

"""The marks in README.md between which our part of a card stands: all other text belongs to whoever wrote it.

There are two such parts: lines of the metadata in front, where the marks are comments of YAML, and a part of the text.
"""

import re
from pathlib import Path

BEGIN, END = b"<!-- mixformer-convert: begin -->", b"<!-- mixformer-convert: end -->"
META_BEGIN, META_END = b"# mixformer-convert: begin", b"# mixformer-convert: end"
PICTURE = "parity_by_position.svg"  # the card's picture
LARGEST = 4 << 20  # bytes of a card that are read

TEXT_PART = re.compile(re.escape(BEGIN) + rb".*?" + re.escape(END) + rb"\n?", re.DOTALL)
META_PART = re.compile(rb"(?m)^" + re.escape(META_BEGIN) + rb"\n.*?^" + re.escape(META_END) + rb"\n", re.DOTALL)
# Metadata as the Hub finds it: between two lines of three dashes at the start.
METADATA = re.compile(
    rb"\A(\xef\xbb\xbf)?\s*---[ \t]*\r?\n(?P<lines>.*?)^---[ \t]*(\r?\n|\Z)", re.DOTALL | re.MULTILINE
)


def without_ours(text: bytes) -> bytes:
    """The text of a card without our parts, byte for byte."""
    return TEXT_PART.sub(b"", META_PART.sub(b"", text))


def is_our_card(path: Path) -> bool:
    """Whether a README.md holds a part of ours."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return BEGIN in file.read(LARGEST)

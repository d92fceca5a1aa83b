"""A card made, or ours renewed in a card that is there; what others wrote stays byte for byte."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.cards.metadata import licence_in, said_in, yaml_of
from cli.cards.plot import lines_of, plot
from cli.cards.text import Record, levels_of, text_of
from converters.card_marks import (
    BEGIN,
    END,
    META_BEGIN,
    META_END,
    META_PART,
    METADATA,
    PICTURE,
    TEXT_PART,
    without_ours,
)
from converters.checkpoint.side_files import README, SOURCE_README
from converters.family import OURS

LICENCES = ("license", "licence", "notice", "use_policy")  # names of files start with one of them
EMPTY = b"---\n---\n\n"  # metadata without a line


def picture(record: Record) -> bytes | None:
    """The picture, or None where nothing was read by position."""
    levels = levels_of(record)
    budgets = [level.get("budget") for level in levels if level.get("name") == "L2"]
    lines = lines_of(levels)
    return plot(lines, next(iter(budgets), None)).encode() if lines else None


def card(folder: Path, record: Record, existing: bytes | None, repo: str | None = None) -> bytes:
    """README.md with our parts. In a card that is there they are renewed where they stand, or come after its text.

    existing: the card that is there. repo: where it will lie; None for a folder.
    """
    licences = sorted(path.name for path in folder.iterdir() if path.name.lower().startswith(LICENCES))
    text = text_of(record, repo, licences, plotted=picture(record) is not None)
    part = BEGIN + b"\n" + text.encode() + END + b"\n"
    old = existing or b""
    place = TEXT_PART.search(old)
    if place:
        whole = old[: place.start()] + part + TEXT_PART.sub(b"", old[place.end() :])
    else:
        whole = old + (b"\n" if old and not old.endswith(b"\n") else b"") + part
    return _with_metadata(whole, _metadata(folder, record))


def _metadata(folder: Path, record: Record) -> dict[str, Any]:
    """What the Hub reads: the source and how this comes from it, the library, tags, and the source's own licence.

    `quantized` is the Hub's word for the same model in another form; there is none for a form that loses nothing.
    """
    source, to, family = record.get("source"), record.get("to"), record.get("family")
    base = source.get("repo") if isinstance(source, dict) else None
    about = {"base_model": base, "base_model_relation": "quantized"} if base else {}
    tags = list(dict.fromkeys(["mixformer", *sorted({str(family), str(to)} - {OURS})]))
    return {**_licence(folder), **about, "library_name": "transformers", "tags": tags}


def _licence(folder: Path) -> dict[str, str]:
    """The licence that the source's card names, as it names it; nothing is guessed from a licence's text."""
    found = folder / SOURCE_README if (folder / SOURCE_README).is_file() else folder / README
    return licence_in(without_ours(found.read_bytes())) if found.is_file() else {}


def _with_metadata(text: bytes, ours: Mapping[str, Any]) -> bytes:
    """The card with our lines in its metadata, those of them that it does not say itself."""
    text = without_meta(text)
    found, said = METADATA.match(text), said_in(text)
    wanted = {name: value for name, value in ours.items() if said is not None and name not in said}
    if not wanted:
        return text
    lines = b"\n".join([META_BEGIN, yaml_of(wanted).encode(), META_END, b""])
    if found:
        end = found.end("lines")
        return text[:end] + lines + text[end:]
    return EMPTY.replace(b"\n", b"\n" + lines, 1) + text


def without_meta(text: bytes) -> bytes:
    """A card without our lines in its metadata, and without metadata that held nothing else."""
    rest = META_PART.sub(b"", text)
    return rest.removeprefix(EMPTY) if rest != text else rest


def write_card(folder: Path, record: Record) -> None:
    """Gives a converted folder its card, and renews ours. A card without a part of ours is the source's: it stays."""
    from converters.engine.output_folder import replace_file

    path = folder / README
    existing = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    if path.is_symlink() or (existing is not None and BEGIN not in existing):
        return
    replace_file(path, card(folder, record, existing))
    drawn = picture(record)
    if drawn is not None:
        replace_file(folder / PICTURE, drawn)

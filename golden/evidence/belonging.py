"""Whether a golden file still belongs to a reference: told from hashes alone. No model is run, torch is not loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.checkpoint.cache_folders import sha256_of
from golden.evidence.golden_header import TOKENIZERS, read_golden_header
from golden.models.folders import check_folder, read_config, weight_files
from golden.references import is_native, native_files
from golden.watching import Progress

CONFIG = "config.json"


@dataclass(frozen=True)
class Belonging:
    """The answer. ``belongs`` is None where it cannot be told; ``reasons`` say why it is not True, ``notes`` more."""

    belongs: bool | None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"belongs": self.belongs, "reasons": list(self.reasons), "notes": list(self.notes)}


def belongs_to(golden: Path | str, reference: Path | str, progress: Progress | None = None) -> Belonging:
    """Compare the hashes that a golden file recorded with the files of a reference as they are now.

    True: weights, config and tokenizer are those that were recorded. False: one of them changed. None: the weights lie
    in files of other names, so that their hashes say nothing.

    Raises:
        GoldenFileError: the golden file cannot be read.
        FolderError: the reference cannot be read.
    """
    file, folder = Path(golden), Path(reference)
    header = read_golden_header(file)
    check_folder(folder)
    weights = {path.name for path in (native_files(folder) if is_native(folder) else weight_files(folder))}
    recorded = {name: str(digest) for name, digest in header["hashes"].items()}
    place = folder if folder.is_dir() else folder.parent
    if doubts := tuple(_doubts(recorded, weights)):
        small = {name: digest for name, digest in recorded.items() if name in (CONFIG, *TOKENIZERS)}
        changed = tuple(_changes(place, small, header, progress))
        return Belonging(False, changed) if changed else Belonging(None, doubts)
    changed = (*_changes(place, recorded, header, progress), *_new(place, recorded, folder.is_dir()))
    return Belonging(not changed, changed, tuple(_notes(place, recorded, header)))


def _doubts(recorded: Mapping[str, str], weights: set[str]) -> Iterator[str]:
    known = set(recorded) - {CONFIG, *TOKENIZERS}
    if not known:
        yield "the golden file does not say which weights it was recorded from"
    elif known != weights:
        there, then = ", ".join(sorted(weights)), ", ".join(sorted(known))
        yield f"the weights lie in other files than those that were recorded ({there}; then {then})"


def _changes(
    place: Path, recorded: Mapping[str, str], header: Mapping[str, Any], progress: Progress | None
) -> Iterator[str]:
    files = {name: place / name for name in sorted(recorded)}
    total = sum(path.stat().st_size for path in files.values() if path.is_file())
    done = 0
    for name, path in files.items():
        if not path.is_file():
            yield f"{name} was recorded and is gone"
            continue
        if progress is not None:
            progress("hashing, bytes", done, total)
        done += path.stat().st_size
        if sha256_of(path) != recorded[name] and not (name == CONFIG and _says_the_same(place, header)):
            yield f"{name} is not the file that was recorded: its sha256 differs"


def _says_the_same(folder: Path, header: Mapping[str, Any]) -> bool:
    """Whether a config.json holds the values that were recorded, whatever its spaces and order."""
    return json.dumps(read_config(folder), sort_keys=True) == json.dumps(header["config"], sort_keys=True)


def _new(place: Path, recorded: Mapping[str, str], is_folder: bool) -> Iterator[str]:
    for name in TOKENIZERS if is_folder else ():
        if (place / name).is_file() and name not in recorded:
            yield f"{name} was not there when it was recorded"


def _notes(place: Path, recorded: Mapping[str, str], header: Mapping[str, Any]) -> Iterator[str]:
    config = place / CONFIG
    if (
        CONFIG in recorded
        and config.is_file()
        and sha256_of(config) != recorded[CONFIG]
        and _says_the_same(place, header)
    ):
        yield f"{CONFIG} is written otherwise and says the same"

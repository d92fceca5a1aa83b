"""Where passes that run layer by layer are, on disk: a verdict that was killed goes on from there.

A journal holds what one block gave in each pass. It is written once a minute, so short verdicts write none, and removed
when the verdict stands.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from converters.family import list_families
from golden.models.folders import weight_files
from golden.models.loading import MIXFORMER

EVERY = 60.0
"""Seconds between two writings."""
KEPT = 14 * 86400
"""Seconds after which what was left behind is removed."""
CODE = {"mixformer", "torch", "transformers"}
"""The packages whose modules are known to hand on the stream, but for a value residual and the router's logits."""
OWN_NAME = re.compile(r"[0-9a-f]{64}\.safetensors(\.\d+\.part)?")
CONFIG = "config.json"


def hands_on(model: Any) -> bool:
    """Whether later layers may need more of earlier ones than the stream: no pass can begin between two such layers.

    Of a model that converters has no family for nothing is known, nor of the parts of a plug-in.
    """
    modules, said = list(model.modules()), model.config.model_type
    beside = any(getattr(module, "value_residual", False) for module in modules)
    known = said == MIXFORMER or any(said in family.model_types for family in list_families())
    ours = {type(module).__module__.partition(".")[0] for module in modules} <= CODE
    return beside or getattr(model.config, "output_router_logits", False) or not (known and ours)


def journal_folder() -> Path:
    """Where journals lie: in the user's folder for caches."""
    said = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (said if said.is_absolute() else _home() / ".cache") / "mixformer-convert" / "verdicts"


def _home() -> Path:
    """Of a user without one, a place where no file can be."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)


class FileJournal:
    """The journal of one model's passes. A disk that is full or read-only costs the resuming and nothing else.

    Args:
        folder: of the model. Its files are known by size and times; one that was written again makes another journal.
        terms: what else decides the numbers: versions, code, dtype, attention, ids of the prompts.
    """

    def __init__(self, folder: Path, terms: Iterable[Any]) -> None:
        self._written = time.monotonic()
        self._path = journal_folder() / f"{_digest(folder, terms)}.safetensors"

    def read(self, keys: Iterable[Hashable]) -> tuple[int, Mapping[Hashable, Any]] | None:
        """The number of a block and what it gave in each of these passes; None where nothing was written."""
        try:
            with safe_open(self._path, framework="pt") as file:
                said = json.loads(file.metadata()["journal"])
                held = {name: file.get_tensor(name).clone() for name in file.keys()}
            outputs = {key: _joined(number, said["shapes"][number], held) for number, key in enumerate(keys)}
            return int(said["layer"]), outputs
        except (OSError, SafetensorError, KeyError, IndexError, TypeError, ValueError):
            return None

    def note(self, layer: int, outputs: Mapping[Hashable, Any]) -> None:
        """Write what a block gave, if the last writing is a while ago and it is made of tensors."""
        if time.monotonic() - self._written < EVERY:
            return
        self._written = time.monotonic()
        parts = {f"{i}.{j}": p for i, out in enumerate(outputs.values()) for j, p in enumerate(_parts(out))}
        if any(not isinstance(part, Tensor | None) for part in parts.values()):
            return
        held = {name: part.contiguous() for name, part in parts.items() if part is not None}
        shapes = [len(output) if isinstance(output, tuple) else None for output in outputs.values()]
        try:
            self._write(held, json.dumps({"layer": layer, "shapes": shapes}))
        except (OSError, SafetensorError, RuntimeError):  # torch raises the last for values that share memory
            return

    def _write(self, held: dict[str, Tensor], said: str) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # hidden states are as private as the model
        _remove_old(self._path.parent)
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        try:
            save_file(held, part, {"journal": said})
            part.replace(self._path)
        finally:
            part.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove it: the verdict stands."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return


def _parts(output: Any) -> tuple[Any, ...]:
    return output if isinstance(output, tuple) else (output,)


def _joined(number: int, length: int | None, held: Mapping[str, Tensor]) -> Any:
    """What a block gave: a tensor, or a tuple of so many tensors and Nones."""
    if length is None:
        return held[f"{number}.0"]
    return tuple(held.get(f"{number}.{j}") for j in range(length))


def _digest(folder: Path, terms: Iterable[Any]) -> str:
    files = [folder / CONFIG, *sorted(weight_files(folder))]
    return hashlib.sha256(repr((list(map(_stamp, files)), list(terms))).encode()).hexdigest()


def _stamp(path: Path) -> tuple[str, int, int, int, int]:
    """What changes with the bytes of a file; `cp -p` and tar set the time of writing, but not that of change."""
    stat = path.stat()
    return str(path.resolve()), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _remove_old(folder: Path) -> None:
    """Remove journals that nobody went on from, and nothing else."""
    now = time.time()
    for path in folder.iterdir():
        if OWN_NAME.fullmatch(path.name) and path.is_file() and now - path.stat().st_mtime > KEPT:
            path.unlink(missing_ok=True)

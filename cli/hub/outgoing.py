"""What of a folder may leave: an allow-list of names, regular files alone, each with the hash that was judged."""

import hashlib
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cli.hub.errors import UnverifiedError
from cli.hub.listing import RemoteFile
from cli.hub.published import published
from converters.checkpoint.cache_folders import git_oid_of, sha256_of
from converters.checkpoint.json_files import read_json
from converters.checkpoint.opening import open_checkpoint
from converters.checkpoint.side_files import SOURCE_README, TEMPLATES, is_carried
from converters.checkpoint.weight_files import is_plain_name
from converters.errors import UnsafeFile, UsageError
from converters.provenance import NAME
from converters.remote_code.exported import FILES as CODE
from converters.remote_code.exported import foreign_code
from converters.verdict_record import BESIDE, judged_files, obstacle

WEIGHTS = re.compile(r"model(-\d{5,}-of-\d{5,})?\.safetensors(\.index\.json)?")
ALSO = ("config.json", SOURCE_README, *CODE)


@dataclass(frozen=True)
class Outgoing:
    """A file to push: its name in the repo, and its bytes, on disk or made here."""

    path: str
    nbytes: int
    sha256: str
    content: Path | bytes

    @cached_property
    def git_oid(self) -> str:
        """git's name of the content."""
        if isinstance(self.content, Path):
            return git_oid_of(self.content)
        return hashlib.sha1(b"blob %d\0" % self.nbytes + self.content).hexdigest()

    def equals(self, there: RemoteFile | None) -> bool:
        """Whether the repo holds these very bytes."""
        if there is None or there.nbytes != self.nbytes:
            return False
        return there.sha256 == self.sha256 if there.sha256 else there.git_oid == self.git_oid


@dataclass(frozen=True)
class Cargo:
    """All that is pushed of a folder. `obstacle`: why it is unverified. left_out: names that stay behind."""

    folder: Path
    record: Mapping[str, object]
    files: tuple[Outgoing, ...]
    obstacle: str | None
    left_out: tuple[str, ...] = ()


def is_allowed(path: str) -> bool:
    """Whether a file of this name may leave: weights and index, configs, tokenizers and licences, our own code."""
    folder, _, name = path.rpartition("/")
    if not is_plain_name(name) or folder not in ("", TEMPLATES):
        return False
    if folder:
        return name.endswith(".jinja")
    return bool(WEIGHTS.fullmatch(name)) or name in ALSO or is_carried(name)


def cargo(folder: Path, *, allow_unverified: bool) -> Cargo:
    """What is to be pushed of a folder. Nothing is asked of a network.

    Raises:
        UsageError: it is no folder with a model.
        UnverifiedError: it has not passed, or is not any more what has.
        UnsafeFile: a file is a link, or of a kind that is not pushed.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the output of a conversion")
    why = obstacle(folder)
    if why and not allow_unverified:
        raise UnverifiedError(
            f"{why}; nothing was pushed. Judge what is there now and push it: --judge-again;"
            " or push it unverified, marked as such: --allow-unverified"
        )
    there = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir() or p.is_symlink())
    names = [name for name in there if is_allowed(name)]
    judged = {} if why else judged_files(folder)
    for name in sorted(set(judged) - {*names, *BESIDE}):
        raise UnsafeFile(f"{folder / name} is of no kind that is pushed: weights as safetensors, configs, tokenizers")
    files = [_outgoing(folder, name, judged.get(name)) for name in names]
    _check_code(folder, open_checkpoint(folder).config)  # a missing index, or one of other shards, is told by this
    record = read_json(folder / NAME) if (folder / NAME).is_file() else {}
    if record:
        files.append(made(NAME, published(record)))
    left = tuple(name for name in there if name not in {*names, *BESIDE})
    return Cargo(folder, record, tuple(files), why, left)


def _check_code(folder: Path, config: Mapping[str, object]) -> None:
    """Refuses code that this version did not write: whoever loads the model runs it.

    Raises:
        UnsafeFile: naming what differs.
    """
    if other := foreign_code(folder, config):
        raise UnsafeFile(
            f"{folder}: {other}; only code that this version writes is pushed. Convert again with --force, or leave the"
            " code out with --no-code"
        )


def _outgoing(folder: Path, name: str, judged: str | None) -> Outgoing:
    path = folder / name
    state = path.lstat()
    if not stat.S_ISREG(state.st_mode):
        raise UnsafeFile(f"{path} is a link or no regular file; a push takes neither, copy it into the folder")
    return Outgoing(name, state.st_size, judged or sha256_of(path), path)


def made(path: str, content: bytes) -> Outgoing:
    """A file whose bytes are made here."""
    return Outgoing(path, len(content), hashlib.sha256(content).hexdigest(), content)

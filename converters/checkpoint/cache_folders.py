"""The cache of the Hub's client, where a folder tells which repo and commit it is of.

Layout (huggingface_hub 2.4): `models--ORG--NAME/snapshots/COMMIT/FILE` is a link to `models--ORG--NAME/blobs/HASH`,
where HASH is the sha256 of a file in LFS and git's sha1 of another; `models--ORG--NAME/refs/BRANCH` holds a commit.
Nothing is asked of a network here.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from converters.errors import UsageError

REPO = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
PIECE = 1 << 20  # bytes read at once


@dataclass(frozen=True)
class Snapshot:
    """A folder of the cache: the files of `repo` (`org/name`) at a commit, some of them or all."""

    repo: str
    commit: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.repo}@{self.commit}"

    @property
    def name(self) -> str:
        """The repo's own name."""
        return self.repo.rpartition("/")[2]


def snapshot_of(path: Path) -> Snapshot | None:
    """The snapshot that a folder is, or that a file lies in; None for a path that is not in the cache."""
    for folder in (path.absolute(), path.absolute().parent):
        repo = REPO.fullmatch(folder.parent.parent.name)
        if repo and folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name):
            return Snapshot("/".join(repo.groups()), folder.name, folder)
    return None


def is_cached_repo(path: Path) -> bool:
    """Whether a path is the folder that the cache keeps all of a repo in."""
    return bool(REPO.fullmatch(path.absolute().name)) and (path / "snapshots").is_dir()


def snapshot_in(cached: Path, revision: str = "main") -> Path:
    """The snapshot of a revision (a branch, or a commit) in a repo's folder of the cache.

    Raises:
        UsageError: it is not in the cache.
    """
    ref = cached / "refs" / revision
    commit = revision if COMMIT.fullmatch(revision) else ref.read_text().strip() if ref.is_file() else ""
    folder = cached / "snapshots" / commit
    if not COMMIT.fullmatch(commit) or not folder.is_dir():
        there = sorted(path.name for path in (cached / "snapshots").glob("*"))
        listed = f"; there are the commits {', '.join(there)}" if there else ""
        raise UsageError(f"{cached} holds no snapshot of {revision!r}{listed}")
    return folder


def note_revision(snapshot: Path, revision: str) -> None:
    """Notes in the cache that a revision is this snapshot's commit, so that it is found without a network."""
    ref = snapshot.parent.parent / "refs" / revision
    if not COMMIT.fullmatch(revision) and not (ref.is_file() and ref.read_text() == snapshot.name):
        ref.parent.mkdir(parents=True, exist_ok=True)
        fresh = ref.with_name(f"{ref.name}.{os.getpid()}.tmp")
        fresh.write_text(snapshot.name)
        fresh.replace(ref)


def blob_name(file: Path) -> str | None:
    """What the cache calls a file's content: its sha256, or git's sha1; None for a file that is no link."""
    name = file.readlink().name if file.is_symlink() else ""
    return name if SHA256.fullmatch(name) or COMMIT.fullmatch(name) else None


def named_sha256(file: Path) -> str:
    """The sha256 of a file in the cache: as its blob is called, or read where that is no sha256."""
    name = blob_name(file)
    return name if name and SHA256.fullmatch(name) else sha256_of(file)


def sha256_of(file: Path) -> str:
    """The sha256 of a file's bytes."""
    return digest_of(file, hashlib.sha256())


def git_oid_of(file: Path) -> str:
    """git's name of a file's content: the sha1 of `blob <size>`, a zero byte, and the bytes."""
    return digest_of(file, hashlib.sha1(b"blob %d\0" % file.stat().st_size))


def digest_of(file: Path, digest: "hashlib._Hash") -> str:
    """A digest that goes on over a file's bytes."""
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()

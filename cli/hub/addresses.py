"""Words that name a repo on the Hub, told from words that name a path. Nothing is asked of a network here."""

import re
from dataclasses import dataclass
from pathlib import Path

from converters.errors import UsageError

SCHEME = "hf://"
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)
LONGEST = 96  # characters of each half of a repo's name, as the Hub allows
LOCAL = ("./", "../", "/", "~")


@dataclass(frozen=True)
class Address:
    """A repo, `org/name`, and a revision of it: branch, tag, commit or `refs/pr/1`; None for the main branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def address_of(text: str) -> Address | None:
    """The repo that a source names; None if it is a path.

    What exists on disk is a path, and so is what begins like one: `./org/name` is never asked of the Hub.

    Raises:
        UsageError: it begins with hf:// and does not go on as `org/name`.
    """
    if text.startswith(SCHEME):
        return repo_of(text)
    if text.startswith(LOCAL) or Path(text).exists():
        return None
    name, at, revision = text.partition("@")
    return repo_of(text) if REPO.fullmatch(name) and (revision or not at) else None


def repo_of(text: str) -> Address:
    """The repo that a text names, whatever lies on disk.

    Raises:
        UsageError: it is not of the form `org/name`, `org/name@revision`, with or without hf:// before it.
    """
    name, at, revision = text.removeprefix(SCHEME).partition("@")
    if ".." in revision or not REVISION.fullmatch(revision or "main"):
        raise UsageError(
            f"{revision!r} is no revision; branches, tags and commits have letters, digits, - . _ and / alone"
        )
    if not REPO.fullmatch(name) or (at and not revision) or any(len(part) > LONGEST for part in name.split("/")):
        raise UsageError(f"{text!r} names no repo on the Hub; write org/name or org/name@revision")
    if ".." in name or "--" in name or name.endswith((".git", ".", "-")):
        raise UsageError(f"{text!r} is a name that the Hub does not allow")
    return Address(name, revision or None)

"""What a push changes in a repo: files that come, files that are replaced, stale weights that go. All else stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.hub.listing import Listing
from cli.hub.outgoing import WEIGHTS, Outgoing

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete


@dataclass(frozen=True)
class Change:
    """One file: `action` is create, replace, keep or delete."""

    action: str
    path: str
    nbytes: int


@dataclass(frozen=True)
class Changes:
    """All of them. `send`: files that differ from what the repo holds. `delete`: weights and indexes that are stale."""

    send: tuple[Outgoing, ...]
    delete: tuple[str, ...]
    listed: tuple[Change, ...]

    @property
    def none(self) -> bool:
        """Whether the repo holds all of it already."""
        return not self.send and not self.delete


def changes(files: Sequence[Outgoing], there: Listing | None) -> Changes:
    """Holds what is to be pushed against what a repo holds; `there` is None for one that does not exist.

    A repo has one set of weights: those of transformers' names that are not among `files` would be a second, stale one.
    """
    held = there.files if there else {}
    send = tuple(file for file in files if not file.equals(held.get(file.path)))
    names = {file.path for file in files}
    delete = tuple(path for path in sorted(held) if WEIGHTS.fullmatch(path) and path not in names)
    sent = {file.path for file in send}
    told = [Change(_action(f.path, f.path in held, f.path in sent), f.path, f.nbytes) for f in files]
    told += [Change("delete", path, held[path].nbytes) for path in delete]
    told += [Change("keep", p, f.nbytes) for p, f in sorted(held.items()) if p not in names and p not in delete]
    return Changes(send, delete, tuple(told))


def _action(path: str, there: bool, differs: bool) -> str:
    if not there:
        return "create"
    return "replace" if differs else "keep"


def operations(wanted: Changes, card: Sequence[Outgoing]) -> list["CommitOperationAdd | CommitOperationDelete"]:
    """The changes as the client takes them; made anew for each try, as the client demands."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    found: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(path) for path in wanted.delete]
    for file in (*wanted.send, *card):
        added = CommitOperationAdd(file.path, file.content)
        added.upload_info.sha256 = bytes.fromhex(file.sha256)  # as it was judged, and it need not be hashed again
        found.append(added)
    return found

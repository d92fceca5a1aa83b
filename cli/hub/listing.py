"""What a repo holds at one commit: names, sizes and hashes, as the Hub lists them or as the cache keeps them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.hub.addresses import Address
from cli.hub.client import tried
from cli.hub.errors import HubError, errors_in_words
from converters.checkpoint.cache_folders import COMMIT, git_oid_of, sha256_of, snapshot_in
from converters.errors import UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repo: `nbytes`, and its sha256 if it is in LFS, else git's name of its content."""

    path: str
    nbytes: int
    sha256: str | None
    git_oid: str

    def holds(self, file: Path) -> bool:
        """Whether a file on disk has these very bytes."""
        if file.stat().st_size != self.nbytes:
            return False
        return sha256_of(file) == self.sha256 if self.sha256 else git_oid_of(file) == self.git_oid


@dataclass(frozen=True)
class Listing:
    """A repo at a commit. `private` and `gated` as the Hub says."""

    repo: str
    commit: str
    files: Mapping[str, RemoteFile]
    private: bool = False

    def __str__(self) -> str:
        return f"{self.repo}@{self.commit}"


def listed(api: "HfApi", address: Address) -> Listing:
    """The files of a repo, pinned to the commit that its revision is now.

    Raises:
        HubError: the repo or the revision is not there or not to be seen, or the Hub cannot be reached.
    """
    with errors_in_words(str(address)):
        info = tried(lambda: api.model_info(address.repo, revision=address.revision))
        commit = info.sha or ""
        if not COMMIT.fullmatch(commit):
            raise HubError(f"{address}: the Hub names the commit {commit!r}, expected 40 hexadecimal digits")
        return Listing(address.repo, commit, files_at(api, address.repo, commit), bool(info.private))


def files_at(api: "HfApi", repo: str, commit: str) -> dict[str, RemoteFile]:
    """Name -> file of a commit."""
    from huggingface_hub.hf_api import RepoFile

    entries = tried(lambda: list(api.list_repo_tree(repo, recursive=True, revision=commit)))
    return {
        entry.path: RemoteFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
        for entry in entries
        if isinstance(entry, RepoFile)
    }


def cached_folder(address: Address) -> Path:
    """The snapshot of a repo in the client's cache.

    Raises:
        HubError: it is not there.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=address.repo, repo_type="model")
    try:
        return snapshot_in(folder, address.revision or "main")
    except UsageError as error:
        raise HubError(f"HF_HUB_OFFLINE is set, and {error}; unset it, or fetch {address.repo} before") from None

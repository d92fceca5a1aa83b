"""What a Hub holds: accounts, repos with commits, branches and pull requests, and blobs by their sha256 on disk."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from threading import RLock

LFS = ("*.safetensors", "*.bin", "*.gguf", "*.pt", "*.pth", "*.model")
LFS_FROM = 10_000_000  # bytes; larger files are LFS whatever their name
FIRST = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


@dataclass(frozen=True)
class Account:
    """Who a token belongs to; `role` is read, write or fineGrained."""

    name: str
    role: str = "write"
    orgs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Blob:
    """A file's content: `oid` as git counts it, of the pointer where the content is in LFS."""

    sha256: str
    size: int
    oid: str
    lfs: bool

    def entry(self, path: str) -> dict[str, object]:
        """As a tree listing has it."""
        found: dict[str, object] = {"type": "file", "path": path, "size": self.size, "oid": self.oid}
        if self.lfs:
            found["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": len(pointer(self.sha256, self.size))}
        return found

    @property
    def etag(self) -> str:
        """What the client compares: sha256 in LFS, git's sha1 elsewhere."""
        return self.sha256 if self.lfs else self.oid


def pointer(sha256: str, size: int) -> bytes:
    """The file that git holds in place of an LFS object."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_oid(data: bytes) -> str:
    """git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_lfs(path: str, size: int, sample: bytes) -> bool:
    """Whether a file goes to LFS."""
    return size > 0 and (any(fnmatch(path, name) for name in LFS) or size > LFS_FROM or b"\0" in sample)


Tree = Mapping[str, Blob]


@dataclass(frozen=True)
class Commit:
    """A state of a repo."""

    oid: str
    title: str
    description: str
    tree: Tree
    parent: str | None


@dataclass
class PullRequest:
    """A pull request; its commits are at `refs/pr/<num>`."""

    num: int
    title: str
    author: str
    status: str = "open"


@dataclass
class Repo:
    """A model repo. `heads`: branch, tag or `refs/pr/N` -> commit."""

    id: str
    private: bool
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    pulls: list[PullRequest] = field(default_factory=list)

    def commit(self, tree: Tree, title: str, branch: str = "main", description: str = "") -> Commit:
        """A new commit on top of a branch."""
        parent = self.heads.get(branch)
        said = f"{self.id} {len(self.commits)} {title} {parent} {sorted((p, b.oid) for p, b in tree.items())}"
        made = Commit(hashlib.sha1(said.encode()).hexdigest(), title, description, dict(tree), parent)
        self.commits[made.oid] = made
        self.heads[branch] = made.oid
        return made

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag, a pull request or a commit's own name."""
        return self.commits.get(self.heads.get(revision, revision))

    def files(self, revision: str = "main") -> dict[str, Blob]:
        """Name -> blob."""
        found = self.at(revision)
        return dict(found.tree) if found else {}


class Store:
    """All of it, with one lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = RLock()
        self.repos: dict[str, Repo] = {}
        self.accounts: dict[str, Account] = {}
        self.objects: dict[str, int] = {}  # sha256 -> size, of what was uploaded or committed
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where a blob's bytes lie."""
        return self.folder / sha256

    def put(self, data: bytes) -> str:
        """Keeps bytes; gives their sha256."""
        name = hashlib.sha256(data).hexdigest()
        if name not in self.objects:
            self.path(name).write_bytes(data)
            self.objects[name] = len(data)
        return name

    def keep(self, file: Path, sha256: str) -> None:
        """Takes a file over under the name of its hash."""
        self.objects[sha256] = file.stat().st_size
        file.rename(self.path(sha256))

    def regular(self, data: bytes) -> Blob:
        """A blob that git itself holds."""
        return Blob(self.put(data), len(data), git_oid(data), lfs=False)

    def large(self, sha256: str, size: int) -> Blob:
        """A blob in LFS."""
        return Blob(sha256, size, git_oid(pointer(sha256, size)), lfs=True)

    def blob(self, path: str, data: bytes) -> Blob:
        """A blob of the kind that its name and content ask for."""
        lfs = is_lfs(path, len(data), data[:512])
        return self.large(self.put(data), len(data)) if lfs else self.regular(data)

    def create(self, name: str, *, private: bool = False, gated: bool = False) -> Repo:
        """A repo with the first commit that the Hub makes."""
        repo = Repo(name, private, gated)
        repo.commit({path: self.regular(data) for path, data in FIRST.items()}, "initial commit")
        self.repos[name] = repo
        return repo

    def read(self, repo: str, path: str, revision: str = "main") -> bytes:
        """The bytes of a file in a repo."""
        return self.path(self.repos[repo].files(revision)[path].sha256).read_bytes()

"""The JSON half of the Hub: accounts, repos, listings, commits, pull requests."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote

from loopback.server import Answer, Asked, Route, as_json, refusal
from loopback.store import Blob, Commit, PullRequest, Repo, is_lfs

WHEN = "2026-11-26T00:00:00.000Z"
NAME = r"([^/]+/[^/]+)"


def whoami(asked: Asked) -> Answer:
    """GET /api/whoami-v2."""
    if asked.account is None:
        return refusal(401, message="Invalid username or password.")
    account = asked.account
    orgs = [{"name": name, "type": "org"} for name in account.orgs]
    access = {"displayName": "a token", "role": account.role}
    content = {"type": "user", "name": account.name, "fullname": account.name, "orgs": orgs}
    return as_json({**content, "auth": {"type": "access_token", "accessToken": access}})


def create(asked: Asked) -> Answer:
    """POST /api/repos/create."""
    said = asked.json
    owner = said.get("organization") or (asked.account.name if asked.account else "")
    name = f"{owner}/{said['name']}"
    if asked.account is None:
        return refusal(401, message="Invalid username or password.")
    url = f"{asked.hub.endpoint}/{name}"
    if name in asked.hub.store.repos:
        return as_json({"url": url, "error": "You already created this model repo"}, 409)
    if not may_write(asked, owner):
        return refusal(403, message="You don't have the rights to create a model under this namespace")
    asked_for = said.get("visibility") == "private" or said.get("private", False)  # since huggingface_hub 2, and before
    private = asked_for and not asked.hub.always_public
    asked.hub.store.create(name, private=private)
    return as_json({"url": url, "name": name})


def may_write(asked: Asked, owner: str) -> bool:
    """Whether the token may write into a namespace."""
    account = asked.account
    return account is not None and account.role != "read" and owner in (account.name, *account.orgs)


def repo_of(asked: Asked, name: str) -> Repo | Answer:
    """A repo that the token may see, or the Hub's refusal."""
    repo = asked.hub.store.repos.get(name)
    if repo is None or (repo.private and not _member(asked, name)):
        return refusal(404 if asked.account else 401, "RepoNotFound", "Repository not found")
    return repo


def _member(asked: Asked, name: str) -> bool:
    account = asked.account
    return account is not None and name.split("/")[0] in (account.name, *account.orgs)


def commit_of(asked: Asked, name: str, revision: str) -> tuple[Repo, Commit] | Answer:
    """A repo and the commit of a revision, or the Hub's refusal."""
    repo = repo_of(asked, name)
    if isinstance(repo, Answer):
        return repo
    commit = repo.at(revision)
    return (repo, commit) if commit else refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def info(asked: Asked, name: str, revision: str = "main") -> Answer:
    """GET /api/models/{id}[/revision/{rev}]."""
    found = commit_of(asked, name, revision)
    if isinstance(found, Answer):
        return found
    repo, commit = found
    files = [_sibling(path, blob) for path, blob in sorted(commit.tree.items())]
    content = {"_id": "1", "id": name, "modelId": name, "sha": commit.oid, "private": repo.private, "siblings": files}
    return as_json({**content, "gated": "auto" if repo.gated else False, "tags": [], "downloads": 0, "likes": 0})


def _sibling(path: str, blob: Blob) -> dict[str, Any]:
    large = {"lfs": {"sha256": blob.sha256, "size": blob.size, "pointerSize": 130}} if blob.lfs else {}
    return {"rfilename": path, "size": blob.size, "blobId": blob.oid, **large}


def tree(asked: Asked, name: str, revision: str) -> Answer:
    """GET /api/models/{id}/tree/{rev}, in pages."""
    found = commit_of(asked, name, revision)
    if isinstance(found, Answer):
        return found
    entries = [blob.entry(path) for path, blob in sorted(found[1].tree.items())]
    begin = int(asked.query.get("cursor", 0))
    end = begin + asked.hub.page
    more = {}
    if end < len(entries):
        place = f"{asked.hub.endpoint}/api/models/{name}/tree/{quote(revision, safe='')}"
        more = {"Link": f'<{place}?recursive=true&cursor={end}>; rel="next"'}
    return as_json(entries[begin:end], **more)


def paths_info(asked: Asked, name: str, revision: str) -> Answer:
    """POST /api/models/{id}/paths-info/{rev}, a form."""
    found = commit_of(asked, name, revision)
    if isinstance(found, Answer):
        return found
    wanted = parse_qs(asked.body.decode()).get("paths", [])
    return as_json([found[1].tree[path].entry(path) for path in wanted if path in found[1].tree])


def refs(asked: Asked, name: str) -> Answer:
    """GET /api/models/{id}/refs."""
    repo = repo_of(asked, name)
    if isinstance(repo, Answer):
        return repo
    heads = sorted(repo.heads.items())
    branches = [_ref(n, f"refs/heads/{n}", oid) for n, oid in heads if not n.startswith("refs/")]
    pulls = [_ref(n, n, oid) for n, oid in heads if n.startswith("refs/pr/")]
    return as_json({"branches": branches, "tags": [], "converts": [], "pullRequests": pulls})


def _ref(name: str, ref: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": oid}


def branch(asked: Asked, name: str, new: str) -> Answer:
    """POST /api/models/{id}/branch/{name}."""
    repo = repo_of(asked, name)
    if isinstance(repo, Answer):
        return repo
    if not may_write(asked, name.split("/")[0]):
        return refusal(403, message="You have read access but not the required permissions for this operation")
    if new in repo.heads:
        return refusal(409, message="Reference already exists")
    repo.heads[new] = repo.heads["main"]
    return as_json({})


def auth_check(asked: Asked, name: str, write: str | None) -> Answer:
    """GET /api/models/{id}/auth-check[/write]."""
    repo = repo_of(asked, name)
    if isinstance(repo, Answer):
        return repo
    if write and not may_write(asked, name.split("/")[0]):
        return refusal(403 if asked.account else 401, message="the token has no write access here")
    if repo.gated and not _member(asked, name):
        return refusal(403, "GatedRepo", f"Access to model {name} is restricted")
    return as_json({})


def validate_yaml(asked: Asked) -> Answer:
    """POST /api/validate-yaml: a card that begins with metadata must end them."""
    text = asked.json["content"]
    broken = text.startswith("---\n") and "\n---\n" not in text[4:]
    errors = [{"message": "metadata has no end"}] if broken else []
    return as_json({"errors": errors, "warnings": []}, 400 if broken else 200)


def preupload(asked: Asked, name: str, revision: str) -> Answer:
    """POST /api/models/{id}/preupload/{rev}: what goes to LFS, and what is there."""
    found = commit_of(asked, name, revision)
    if isinstance(found, Answer):
        return found
    if refused := _may_commit(asked, name):
        return refused
    ignored = asked.hub.store.read(name, ".gitignore", revision).decode() if ".gitignore" in found[1].tree else ""
    return as_json({"files": [_told(file, found[1], ignored) for file in asked.json["files"]]})


def _told(file: dict[str, Any], commit: Commit, ignored: str) -> dict[str, Any]:
    path, lfs = file["path"], is_lfs(file["path"], file["size"], base64.b64decode(file["sample"]))
    told = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": path in ignored.split("\n")}
    return told | ({"oid": commit.tree[path].etag} if path in commit.tree else {})


def _may_commit(asked: Asked, name: str) -> Answer | None:
    if asked.account is None:
        return refusal(401, message="Invalid username or password.")
    if asked.query.get("create_pr") or may_write(asked, name.split("/")[0]):
        return None
    return refusal(403, message="Forbidden: you must use a write token to upload to a repository")


def commit(asked: Asked, name: str, revision: str) -> Answer:
    """POST /api/models/{id}/commit/{rev}: all or nothing."""
    found = commit_of(asked, name, revision)
    if isinstance(found, Answer):
        return found
    if refused := _may_commit(asked, name):
        return refused
    if len(asked.body) > asked.hub.limit:
        return refusal(413, message="request entity too large")
    with asked.hub.store.lock:
        return _commit(asked, *found, revision)


def _commit(asked: Asked, repo: Repo, head: Commit, revision: str) -> Answer:
    lines = [json.loads(line) for line in asked.body.splitlines() if line]
    header = lines[0]["value"]
    if header.get("parentCommit") not in (None, head.oid):
        return refusal(412, message="A commit has happened since. Please refresh and try again.")
    changed = _changed(asked, head, lines[1:])
    if isinstance(changed, Answer):
        return changed
    pull: dict[str, str] = {}
    if asked.query.get("create_pr"):
        num = len(repo.pulls) + 1
        repo.pulls.append(PullRequest(num, header["summary"], asked.account.name if asked.account else ""))
        revision = f"refs/pr/{num}"
        repo.heads[revision] = head.oid
        pull = {"pullRequestUrl": f"{asked.hub.endpoint}/{repo.id}/discussions/{num}"}
    made = repo.commit(changed, header["summary"], revision, header.get("description", ""))
    return as_json({"commitOid": made.oid, "commitUrl": f"{asked.hub.endpoint}/{repo.id}/commit/{made.oid}", **pull})


def _changed(asked: Asked, head: Commit, lines: list[dict[str, Any]]) -> dict[str, Blob] | Answer:
    made = dict(head.tree)
    for line in lines:
        key, value = line["key"], line["value"]
        if key == "file":
            made[value["path"]] = asked.hub.store.regular(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in asked.hub.store.objects and not asked.hub.xet:
                return refusal(400, message=f"LFS object {value['oid']} was not uploaded")
            made[value["path"]] = asked.hub.store.large(value["oid"], value["size"])
        elif key == "deletedFile":
            if made.pop(value["path"], None) is None:
                return refusal(404, "EntryNotFound", "A file with this name doesn't exist")
    return made


def discussions(asked: Asked, name: str) -> Answer:
    """GET /api/models/{id}/discussions."""
    repo = repo_of(asked, name)
    if isinstance(repo, Answer):
        return repo
    found = [_pull(repo, pull) for pull in repo.pulls if asked.query.get("status", pull.status) == pull.status]
    return as_json({"discussions": found, "count": len(found), "start": 0})


def _pull(repo: Repo, pull: PullRequest) -> dict[str, Any]:
    about = {"repo": {"name": repo.id, "type": "model"}, "author": {"name": pull.author}, "createdAt": WHEN}
    return {"num": pull.num, "title": pull.title, "status": pull.status, "isPullRequest": True, **about}


def merge(asked: Asked, name: str, num: str) -> Answer:
    """POST /api/models/{id}/discussions/{num}/merge."""
    repo = repo_of(asked, name)
    if isinstance(repo, Answer):
        return repo
    if not may_write(asked, name.split("/")[0]):
        return refusal(403, message="you may not merge")
    pull = repo.pulls[int(num) - 1]
    repo.commit(repo.files(f"refs/pr/{num}"), pull.title)
    pull.status = "merged"
    return as_json({})


def commits(asked: Asked, name: str, revision: str) -> Answer:
    """GET /api/models/{id}/commits/{rev}, the newest first."""
    found = commit_of(asked, name, revision)
    return found if isinstance(found, Answer) else as_json(list(_history(*found)))


def _history(repo: Repo, commit: Commit | None) -> Iterator[dict[str, Any]]:
    while commit:
        yield {"id": commit.oid, "title": commit.title, "message": commit.description, "date": WHEN, "authors": []}
        commit = repo.commits.get(commit.parent or "")


ROUTES: list[Route] = [
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/repos/create", create),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("GET", rf"/api/models/{NAME}", info),
    ("GET", rf"/api/models/{NAME}/revision/(.+)", info),
    ("GET", rf"/api/models/{NAME}/tree/(.+)", tree),
    ("POST", rf"/api/models/{NAME}/paths-info/(.+)", paths_info),
    ("GET", rf"/api/models/{NAME}/refs", refs),
    ("GET", rf"/api/models/{NAME}/commits/(.+)", commits),
    ("POST", rf"/api/models/{NAME}/branch/(.+)", branch),
    ("GET", rf"/api/models/{NAME}/auth-check(/write)?", auth_check),
    ("POST", rf"/api/models/{NAME}/preupload/(.+)", preupload),
    ("POST", rf"/api/models/{NAME}/commit/(.+)", commit),
    ("GET", rf"/api/models/{NAME}/discussions", discussions),
    ("POST", rf"/api/models/{NAME}/discussions/(\d+)/merge", merge),
]

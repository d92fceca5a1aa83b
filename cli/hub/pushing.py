"""A push: one commit on top of the one that was looked at, tried again only after looking at what is there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cli.hub import card as cards
from cli.hub.addresses import Address
from cli.hub.changes import Change, Changes, changes, operations
from cli.hub.client import TRIES, connect, may_pass, pause, tried
from cli.hub.downloads import fetch_one
from cli.hub.errors import HubError, errors_in_words
from cli.hub.listing import Listing, files_at, listed
from cli.hub.outgoing import Cargo, Outgoing, made
from cli.hub.permission import check_may_push, look
from cli.hub.pulls import landed_pull
from converters.checkpoint.side_files import README
from converters.errors import ConversionError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN = "main"


@dataclass(frozen=True)
class Target:
    """Where to: the repo, the branch, whether a new repo is public, whether a pull request is opened instead."""

    repo: str
    branch: str = MAIN
    public: bool = False
    create_pr: bool = False


@dataclass(frozen=True)
class Pushed:
    """What came of it. `commit` is what the repo holds now; `up_to_date`: it held all of it before."""

    target: Target
    private: bool
    changes: tuple[Change, ...]
    commit: str = ""
    url: str = ""
    created: bool = False
    up_to_date: bool = False


def run(cargo: Cargo, target: Target, *, dry_run: bool, timeout: float | None, quiet: bool) -> Pushed:
    """The push, or a look at what it would do.

    Raises:
        HubError: it could not be done.
    """
    api = connect(timeout, quiet=quiet)
    return planned(api, cargo, target) if dry_run else push(api, cargo, target)


def planned(api: "HfApi", cargo: Cargo, target: Target) -> Pushed:
    """What a push would do: reads, nothing else, and no token is needed for a public repo.

    Raises:
        HubError: the repo cannot be looked at.
    """
    there = look(api, Address(target.repo))
    branch = there and (look_at_branch(api, target) or there)
    wanted = changes(cargo.files, branch)
    private = there.private if there else not target.public
    return Pushed(target, private, wanted.listed, created=there is None, up_to_date=wanted.none)


def push(api: "HfApi", cargo: Cargo, target: Target) -> Pushed:
    """Sends what differs, as one commit.

    Raises:
        HubError: it could not be done; what the Hub has taken so far is not sent again by the next try.
    """
    there = check_may_push(api, target.repo, create_pr=target.create_pr)
    with errors_in_words(target.repo):
        head = _branch(api, target, there) if there else _new_repo(api, target)
        found = _committed(api, cargo, target, head)
    return replace(found, private=head.private, created=there is None)


def look_at_branch(api: "HfApi", target: Target) -> Listing | None:
    """What a branch holds; None if there is no such branch."""
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        return listed(api, Address(target.repo, target.branch))
    except HubError as error:
        if isinstance(error.__cause__, RevisionNotFoundError):
            return None
        raise


def _new_repo(api: "HfApi", target: Target) -> Listing:
    """A new repo: private, unless it was to be public, and that is looked at before anything is sent."""
    tried(lambda: api.create_repo(target.repo, private=not target.public, exist_ok=True))
    head = listed(api, Address(target.repo))
    if not head.private and not target.public:
        raise HubError(
            f"{target.repo} was to be private and the Hub made it public; nothing was sent, look at its settings"
        )
    return _branch(api, target, head)


def _branch(api: "HfApi", target: Target, main: Listing) -> Listing:
    """The head of the branch, which is made from the main one if there is none."""
    if target.branch == MAIN:
        return main
    head = look_at_branch(api, target)
    if head is None and not target.create_pr:
        tried(lambda: api.create_branch(target.repo, branch=target.branch, exist_ok=True))
        head = listed(api, Address(target.repo, target.branch))
    return head or main


def _committed(api: "HfApi", cargo: Cargo, target: Target, head: Listing) -> Pushed:
    """The commit. After whatever goes wrong the repo is looked at before anything is tried again."""
    moved, attempt = False, 0
    while True:
        wanted = changes(cargo.files, head)
        if found := _there_already(api, cargo, target, head, wanted):
            return found
        try:
            return _commit_once(api, cargo, target, head, wanted)
        except ConversionError:
            raise
        except Exception as error:
            behind = _status(error) == 412 and not moved  # somebody else committed: read again, once
            if not behind and _is_refusal(error):
                raise
            now = listed(api, Address(target.repo, target.branch))
            if found := _there_already(api, cargo, target, now, changes(cargo.files, now)):
                return replace(found, up_to_date=False, changes=wanted.listed)  # only the answer was lost
            if not behind and (attempt + 1 == TRIES or not _may_try_again(error)):
                raise
            if not behind:
                pause(attempt, error)
            head, moved, attempt = now, moved or behind, attempt + (not behind)


def _there_already(api: "HfApi", cargo: Cargo, target: Target, head: Listing, wanted: Changes) -> Pushed | None:
    """A branch, or a pull request of this very push, that holds all of it."""
    if wanted.none:
        url = f"{api.endpoint}/{target.repo}/commit/{head.commit}"
        return Pushed(target, head.private, wanted.listed, head.commit, url, up_to_date=True)
    pull = landed_pull(api, target.repo, cargo.files, words_for(cargo)[0]) if target.create_pr else None
    return Pushed(target, head.private, wanted.listed, pull.commit, pull.url, up_to_date=True) if pull else None


def _commit_once(api: "HfApi", cargo: Cargo, target: Target, head: Listing, wanted: Changes) -> Pushed:
    (message, description), card = words_for(cargo), _card(api, cargo, target, head)
    done = api.create_commit(
        target.repo,
        operations(wanted, card),
        commit_message=message,
        commit_description=description,
        revision=None if target.create_pr else target.branch,
        create_pr=target.create_pr,
        parent_commit=head.commit,
    )
    _compare(api, target.repo, done.oid, (*cargo.files, *card), wanted)
    return Pushed(target, head.private, wanted.listed, done.oid, done.pr_url or str(done.commit_url))


def _status(error: Exception) -> int:
    """The HTTP status of an error, 0 if it has none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def _may_try_again(error: Exception) -> bool:
    """Whether another try makes sense here: uploads and listings were tried six times by the client already."""
    answer = getattr(error, "response", None)
    asked = answer.request if answer is not None else getattr(error, "_request", None)
    by_itself = asked is None or "/commit/" in str(asked.url)
    return may_pass(error) and not isinstance(error, RuntimeError) and by_itself


def _is_refusal(error: Exception) -> bool:
    """Whether the Hub said no: then nothing has landed, and another try would be told the same."""
    return 400 <= _status(error) < 500 and not may_pass(error)


def _compare(api: "HfApi", repo: str, commit: str, files: Sequence[Outgoing], wanted: Changes) -> None:
    """Holds every file of the commit against what was sent.

    Raises:
        HubError: naming the first that differs.
    """
    there = files_at(api, repo, commit)
    for file in files:
        if not file.equals(there.get(file.path)):
            hint = "; a .gitignore in the repo may keep it out" if file.path not in there else ""
            raise HubError(f"{repo}@{commit}: {file.path} there is not what was sent{hint}; do not use this commit")
    for path in wanted.delete:
        if path in there:
            raise HubError(f"{repo}@{commit}: {path} should be gone and is there; delete it, it holds stale weights")


def _card(api: "HfApi", cargo: Cargo, target: Target, head: Listing) -> tuple[Outgoing, ...]:
    """README.md and its picture, if they are to change."""
    existing = fetch_one(api, head, README).read_bytes() if README in head.files else None
    wanted = cards.card(cargo.folder, existing, target.repo, unverified=cargo.obstacle is not None)
    files = [made(name, content) for name, content in wanted.items()]
    return tuple(file for file in files if file.nbytes and not file.equals(head.files.get(file.path)))


def words_for(cargo: Cargo) -> tuple[str, str]:
    """The commit's message and what stands below it."""
    record: Any = cargo.record
    what = f"{record.get('family')} -> {record.get('to')}" if record else "a model"
    source: Any = record.get("source") or {}
    lines = [f"Made from {source['repo']}@{source['commit']}."] if source.get("repo") else []
    if cargo.obstacle is None:
        return f"{what}, verified: PASS", "\n".join(lines)
    return f"UNVERIFIED: {what}", "\n".join([*lines, "Pushed with --allow-unverified."])

"""Pull requests that hold already what is to be pushed: those of a lost answer, or of an earlier run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.hub.addresses import Address
from cli.hub.changes import changes
from cli.hub.client import tried
from cli.hub.listing import listed
from cli.hub.outgoing import Outgoing

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MOST = 5  # open pull requests of one title that are looked into


@dataclass(frozen=True)
class Pull:
    """A pull request and the commit it proposes."""

    commit: str
    url: str


def landed_pull(api: "HfApi", repo: str, files: Sequence[Outgoing], title: str) -> Pull | None:
    """An open pull request of this title that holds exactly these files.

    Raises:
        HubError: the repo cannot be looked at.
    """
    found = tried(
        lambda: list(api.get_repo_discussions(repo, discussion_type="pull_request", discussion_status="open"))
    )
    for pull in [pull for pull in found if pull.title == title][:MOST]:
        head = listed(api, Address(repo, f"refs/pr/{pull.num}"))
        if changes(files, head).none:
            return Pull(head.commit, f"{api.endpoint}/{repo}/discussions/{pull.num}")
    return None

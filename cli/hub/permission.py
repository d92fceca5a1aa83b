"""Whether a token may push to a repo, asked before anything is converted or sent."""

from typing import TYPE_CHECKING

from cli.hub.addresses import Address
from cli.hub.client import tried
from cli.hub.errors import HubError, errors_in_words, no_token, token_source
from cli.hub.listing import Listing, listed

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def look(api: "HfApi", address: Address) -> Listing | None:
    """What a repo holds at a revision; None if there is no such repo, or none that the token sees.

    Raises:
        HubError: anything else is wrong with it.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return listed(api, address)
    except HubError as error:
        cause = error.__cause__
        if isinstance(cause, RepositoryNotFoundError) and not isinstance(cause, GatedRepoError):
            return None
        raise


def check_may_push(api: "HfApi", repo: str, *, create_pr: bool) -> Listing | None:
    """Finds out that the token may push, and what the main branch holds; None for a repo that has to be created.

    Raises:
        HubError: there is no token, it is wrong, it may only read, or the namespace is somebody else's.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        raise HubError("HF_HUB_DISABLE_IMPLICIT_TOKEN is set, so no token is sent; unset it to push")
    if not get_token():
        raise HubError(no_token())
    there = look(api, Address(repo))
    if there is None:
        if create_pr:
            raise HubError(f"{repo} does not exist or is not to be seen, so there is nothing to open a pull request on")
        _check_namespace(api, repo)
    elif not create_pr:
        _check_write(api, repo)
    return there


def _check_write(api: "HfApi", repo: str) -> None:
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    with errors_in_words(repo):
        try:
            tried(lambda: api.auth_check(repo, write=True))
        except RepositoryNotFoundError:
            raise
        except HfHubHTTPError as error:
            if error.response.status_code != 404:  # a mirror need not know the question; then the commit will tell
                raise


def _check_namespace(api: "HfApi", repo: str) -> None:
    """Whether the account may create a repo of this name."""
    with errors_in_words(repo):
        account = tried(lambda: api.whoami(cache=True))
    access, owner = account.get("auth", {}).get("accessToken", {}), repo.partition("/")[0]
    names = [account.get("name"), *(org.get("name") for org in account.get("orgs", ()))]
    if owner not in names:
        raise HubError(
            f"{repo} does not exist, and the token from {token_source()} is of {names[0]}, who may create repos under"
            f" {', '.join(str(name) for name in names)} only"
        )
    if access.get("role") == "read":
        raise HubError(
            f"{repo} does not exist, and the token from {token_source()} can only read, so it cannot be created;"
            " use a token with write access"
        )

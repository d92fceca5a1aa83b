"""What goes wrong with the Hub, in words that name the cause and what to do. Exit code 6."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cli.hub.transport import http
from converters.errors import ConversionError

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SETTINGS = "https://huggingface.co/settings/tokens"


class HubError(ConversionError):
    """The Hub refuses, cannot be reached, or does not hold what it should."""

    exit_code = 6


class UnverifiedError(ConversionError):
    """What is to be pushed has not passed."""

    exit_code = 5


@contextmanager
def errors_in_words(repo: str) -> Iterator[None]:
    """Turns what the client raises about a repo into a HubError; errors of this package pass as they are.

    Raises:
        HubError: the client raised something that comes from the Hub or the way there.
    """
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        words = explained(error, repo)
        if words is None:
            raise
        # The client's own words stay in the traceback, unless a server has put the token into them.
        raise HubError(without_token(words)) from (error if without_token(str(error)) == str(error) else None)


def without_token(text: str) -> str:
    """The text with the token struck out, should a server have echoed it."""
    from huggingface_hub import constants

    found = [os.environ.get(name, "").strip() for name in VARIABLES]
    with suppress(OSError):
        found.append(Path(constants.HF_TOKEN_PATH).read_text().strip())
    for token in found:
        text = text.replace(token, "***") if token else text
    return text


def token_source() -> str:
    """Where the token comes from, in the order in which the client looks; never the token."""
    from huggingface_hub import constants

    if os.environ.get("HF_OIDC_RESOURCE"):
        return "HF_OIDC_RESOURCE"
    for name in VARIABLES:
        if (os.environ.get(name) or "").strip():
            return name
    path = Path(constants.HF_TOKEN_PATH)
    return f"the file {path}" if path.is_file() else ""


def explained(error: BaseException, repo: str) -> str | None:
    """An error of the client in words; None if it does not come from the Hub or the way there."""
    from huggingface_hub import errors
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        return explained(error.__cause__, repo)  # the client wraps what happened to one of several uploads
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repo}: HF_HUB_OFFLINE is set, so the Hub is not asked; unset it, or name what is in the cache"
    if isinstance(error, getattr(errors, "OIDCError", ())):  # since huggingface_hub 1.19
        return f"HF_OIDC_RESOURCE is set, and no token could be had by it: {error}"
    if isinstance(error, errors.LocalTokenNotFoundError):
        return no_token()
    if isinstance(error, HfHubHTTPError):
        return _of_status(error, repo)
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return explained(error.__cause__, repo)
    if isinstance(error, http().TimeoutException):
        return f"{repo}: the Hub did not answer in time; run the command again: what is there is not sent again"
    if isinstance(error, http().HTTPError):
        return f"{repo}: {_endpoint()} cannot be reached ({error}); check the network, or HF_ENDPOINT if it is set"
    return _of_other(error, repo)


def no_token() -> str:
    """What to do without a token."""
    return f"no token: run `hf auth login`, or set HF_TOKEN to a token with write access ({SETTINGS})"


def _of_other(error: BaseException, repo: str) -> str | None:
    from huggingface_hub.errors import FileMetadataError

    text = str(error)
    local = isinstance(error, OSError) and error.errno is not None  # a disk that is full, say, with xet in its path
    if type(error).__module__.startswith("hf_xet") or ("xet" in text.lower() and not local):
        return f"{repo}: {_endpoint()} takes no uploads by xet ({_first_line(text)}); set HF_HUB_DISABLE_XET=1"
    if isinstance(error, FileMetadataError) or type(error).__name__ == "JSONDecodeError":
        return f"{repo}: what {_endpoint()} answers is not what a Hub answers; it may be busy, or HF_ENDPOINT is wrong"
    if text.startswith("Invalid metadata in README.md"):
        return f"{repo}: the Hub does not accept the metadata of README.md: {text.partition(chr(10))[2]}"
    if text.startswith(("LFS batch", "Malformed response", "Consistency check")):
        return f"{repo}: {text}"
    return None


def _of_status(error: "HfHubHTTPError", repo: str) -> str:
    """What an HTTP status means."""
    status, said = error.response.status_code, _first_line(error.server_message or "")
    where = token_source()
    if status == 401 and "invalid" in f"{said} {error}".lower() and where:
        return f"the token from {where} was refused; make a new one at {SETTINGS}"
    if missing := _of_missing(error, repo, where):
        return missing
    whose = f"the token from {where}" if where else "without a token you"
    told = _REMEDIES.get(status, f"the Hub answered {status}").format(whose=whose)
    return f"{repo}: {told}" + (f" (it says: {said})" if said else "")


def _of_missing(error: "HfHubHTTPError", repo: str, where: str) -> str | None:
    """What it means that something is not there, or is not to be seen."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        whose = f"the account of the token from {where}" if where else "an account, then `hf auth login`"
        return f"{repo} is gated: ask for access at {_endpoint()}/{repo.partition('@')[0]}, with {whose}"
    if isinstance(error, errors.RepositoryNotFoundError):
        seen = f"the token from {where} does not see it" if where else "there is no token (`hf auth login`)"
        return f"{repo} does not exist on {_endpoint()}, or is private and {seen}; no folder has this name either"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo}: there is no such revision; give a branch, a tag or a commit of 40 hexadecimal digits"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{repo} has no file {error.response.url.path.rpartition('/')[2]}"
    return None


_REMEDIES = {
    400: "the Hub does not understand the request",
    401: "{whose} may do nothing there; run `hf auth login`",
    403: "{whose} may not write there; use a token with write access, or --create-pr, for which reading is enough",
    404: "the Hub knows no such address",
    409: "something else happens to this repo right now; try again in a minute",
    412: "somebody else committed meanwhile, twice; look at the repo, then push again",
    413: "the commit is too large for the server; files that are not in LFS add up to too much",
    429: "too many requests; wait some minutes, then run the command again: what is there is not sent again",
    500: "the server failed (500); run the command again: what is there is not sent again",
    502: "the server failed (502); run the command again: what is there is not sent again",
    503: "the server is busy (503); run the command again: what is there is not sent again",
    504: "the server gave up (504); run the command again: what is there is not sent again",
}


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:200]

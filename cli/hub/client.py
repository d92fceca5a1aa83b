"""The client of the Hub with time-outs, which it has none of by itself, and with tries of our own.

`huggingface_hub` tries again where it lists trees and moves bytes. It does not for the rest: looking at a repo, the
commit itself, and a download that a busy server refuses.
"""

import logging
import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from cli.hub.errors import HubError
from cli.hub.transport import http

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi

NOTES = "huggingface_hub"  # the logger whose notes a person sees, but for --quiet
CONNECT = 15.0  # seconds
ANSWER = 100.0  # seconds without a byte, either way
TRIES = 4
WAITS = (1.0, 4.0, 10.0)  # seconds before the second try, the third, the fourth
LONGEST_WAIT = 120.0  # seconds that a server may ask for
PASSING = (408, 429, 500, 502, 503, 504)

Found = TypeVar("Found")


def connect(timeout: float | None = None, *, quiet: bool = True) -> "HfApi":
    """The client, at HF_ENDPOINT, with the token that it finds by its own rules.

    timeout: seconds without a byte after which a request is given up, ANSWER if it is left out. quiet: no bars.
    """
    import huggingface_hub
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if quiet or not sys.stderr.isatty():
        disable_progress_bars()
    notes = logging.getLogger(NOTES)
    notes.setLevel(logging.ERROR if quiet else logging.WARNING)
    for handler in notes.handlers:
        handler.addFilter(_unsigned)
    huggingface_hub.set_client_factory(lambda: _client(timeout or ANSWER))
    return huggingface_hub.HfApi(library_name="mixformer")


def _unsigned(note: logging.LogRecord) -> bool:
    """Strikes out what stands behind the ? of an address: there a signature lets anybody upload."""
    note.msg, note.args = re.sub(r"(https?://[^\s?]+)\?\S*", r"\1", note.getMessage()), ()
    return True


def _client(timeout: float) -> "httpx2.Client":
    """What the client makes for itself, and time-outs, also for the calls that ask for none."""
    from huggingface_hub.utils._http import hf_request_event_hook

    patience = {"connect": CONNECT, "read": timeout, "write": timeout, "pool": None}

    def limited(request: "httpx2.Request") -> None:
        asked = request.extensions.get("timeout") or {}
        found = {name: asked.get(name) or seconds for name, seconds in patience.items()}
        request.extensions = {**request.extensions, "timeout": found}

    hooks: dict[str, list[Callable[..., Any]]] = {"request": [hf_request_event_hook, limited], "response": [_Crowd()]}
    found: httpx2.Client = http().Client(
        event_hooks=hooks, follow_redirects=True, timeout=http().Timeout(timeout, connect=CONNECT)
    )
    return found


class _Crowd:
    """Ends a loop of the client, which asks without pause and without end for a repo while another is being made."""

    def __init__(self) -> None:
        self.met = 0

    def __call__(self, answer: "httpx2.Response") -> None:
        if answer.status_code != 409 or not answer.request.url.path.endswith("/repos/create"):
            return
        answer.read()
        if "another conflicting operation" in answer.text:
            self.met += 1
            if self.met > TRIES:
                raise HubError("the Hub is busy with another repo of this account; try again in a minute")
            time.sleep(WAITS[0])


def tried(call: Callable[[], Found]) -> Found:
    """What a call gives, which is tried again after what may pass: a busy server, a lost connection.

    Only for calls that change nothing.
    """
    for attempt in range(TRIES):
        try:
            return call()
        except Exception as error:
            if attempt == TRIES - 1 or not may_pass(error):
                raise
            pause(attempt, error)
    raise AssertionError("the last try returns or raises")


def may_pass(error: BaseException) -> bool:
    """Whether an error may be gone at the next try."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING
    if isinstance(error, http().TransportError) or type(error).__name__ == "JSONDecodeError":
        return True
    return error.__cause__ is not None and isinstance(error, RuntimeError | OSError) and may_pass(error.__cause__)


def pause(attempt: int, error: BaseException) -> None:
    """Waits before the next try: as long as the server says, or longer each time."""
    seconds = min(LONGEST_WAIT, _asked_wait(error) or WAITS[min(attempt, len(WAITS) - 1)])
    logging.getLogger(NOTES).warning("The Hub did not answer as it should; trying again in %.0f s.", seconds)
    time.sleep(seconds)


def _asked_wait(error: BaseException) -> float | None:
    """Seconds that a server asks to wait, in either of two headers."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    limit = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("ratelimit", ""))
    after = limit.group(1) if limit else headers.get("retry-after", "")
    return float(after) + 1 if after.isdigit() else None

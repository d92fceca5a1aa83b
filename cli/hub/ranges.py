"""Bytes of a file on the Hub, exactly those that are asked for.

A server may ignore a range and send the whole file, which can be many gigabytes: then nothing is read of it.
"""

from typing import TYPE_CHECKING

from cli.hub.client import tried
from cli.hub.errors import HubError, errors_in_words
from cli.hub.listing import Listing

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def read_range(api: "HfApi", listing: Listing, name: str, begin: int, end: int) -> bytes:
    """The bytes `begin` to `end` (without it) of a file.

    Raises:
        HubError: the server answers with anything but this range of a file of the listed size.
    """
    with errors_in_words(str(listing)):
        return tried(lambda: _read(api, listing, name, begin, end))


def _read(api: "HfApi", listing: Listing, name: str, begin: int, end: int) -> bytes:
    from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(listing.repo, name, revision=listing.commit, endpoint=api.endpoint)
    headers = {**build_hf_headers(token=api.token), "Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
    expected = f"bytes {begin}-{end - 1}/{listing.files[name].nbytes}"
    with get_session().stream("GET", url, headers=headers) as answer:
        if answer.is_error:
            answer.read()
        hf_raise_for_status(answer)
        got = answer.headers.get("Content-Range", "none")
        if answer.status_code != 206 or got != expected or answer.headers.get("Content-Encoding"):
            raise HubError(
                f"{listing} {name}: asked for {expected}, the server sent {answer.status_code} with the range {got};"
                f" headers cannot be read there. Fetch it first: hf download {listing.repo}"
            )
        pieces, got_bytes = [], 0
        for piece in answer.iter_raw():
            pieces.append(piece)
            got_bytes += len(piece)
            if got_bytes > end - begin:
                break
    data = b"".join(pieces)
    if len(data) != end - begin:
        raise HubError(f"{listing} {name}: asked for {expected}, {len(data)} bytes came")
    return data

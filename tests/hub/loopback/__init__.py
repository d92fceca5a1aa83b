"""A Hub on 127.0.0.1, from the standard library alone, that the unmodified client talks to.

`Hub` is the server; `store` holds repos, commits and blobs; `faults` is what goes wrong on demand. It answers what the
client of version 2.4 asks for and no more: repos, commits, pull requests, LFS in one part and in several, downloads by
range and by redirect to another origin, tokens for xet.
"""

from loopback.faults import Fault
from loopback.server import Hub
from loopback.store import Account, Repo

__all__ = ["Account", "Fault", "Hub", "Repo"]

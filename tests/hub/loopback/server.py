"""The server: connections, bodies, faults, and a log of what was asked. The answers stand in `api` and `files`."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic_ns, sleep
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from loopback.faults import Fault, Faults
from loopback.store import Account, Store

PIECE = 1 << 18  # bytes


class EndError(Exception):
    """The connection ends here."""


@dataclass
class Seen:
    """One request as the server saw it; bytes of bodies."""

    method: str
    path: str
    status: int = 0
    received: int = 0
    sent: int = 0
    range: str = ""
    authorised: bool = False
    origin: str = "hub"


@dataclass
class Answer:
    """A status, headers, and a body: bytes, or a part of a file."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: Path | None = None
    begin: int = 0
    end: int = 0

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return self.end - self.begin if self.file else len(self.body)


def as_json(content: Any, status: int = 200, **headers: str) -> Answer:
    """An answer in JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"Content-Type": "application/json", **named}, json.dumps(content).encode())


def refusal(status: int, code: str = "", message: str = "") -> Answer:
    """An error as the Hub words it."""
    said = {"X-Error-Code": code} if code else {}
    said |= {"X-Error-Message": message} if message else {}
    return Answer(status, {"Content-Type": "application/json", **said}, json.dumps({"error": message or code}).encode())


@dataclass
class Asked:
    """A request. `path` is unquoted, `query` holds the first of each value, `body` is read, or lies in `file`."""

    hub: "Hub"
    method: str
    path: str
    query: dict[str, str]
    headers: Any
    account: Account | None
    token: str | None
    body: bytes = b""
    file: Path | None = None
    sha256: str = ""
    fault: Fault = field(default_factory=lambda: Fault("", ""))

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body or b"{}")


Route = tuple[str, str, Callable[..., Answer]]


class Hub:
    """A Hub at `endpoint`, and a second origin at `cdn` that LFS files are redirected to.

    part: LFS files larger than this many bytes are uploaded in parts of that size. limit: bytes of a commit's body.
    page: entries of a tree listing's page. xet: folder that stands for the xet storage; without it there is none.
    """

    def __init__(self, folder: Path) -> None:
        from loopback import api, files

        self.store, self.faults, self.seen = Store(folder / "blobs"), Faults(), list[Seen]()
        self.routes: list[Route] = [*api.ROUTES, *files.ROUTES]
        self.incoming = folder
        self.part, self.limit, self.page = 1 << 40, 1 << 40, 1000
        self.xet: Path | None = None
        self.xet_hashes: dict[str, str] = {}
        self.always_public = self.redirects = False
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, name)) for name in ("hub", "cdn")]
        for server in self._servers:
            server.daemon_threads = True
            Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def endpoint(self) -> str:
        """The address of the Hub."""
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def cdn(self) -> str:
        """The address of the origin that serves large files: another host name, as clients keep tokens by host."""
        return f"http://localhost:{self._servers[1].server_port}"

    def close(self) -> None:
        """Stops."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def fail(self, method: str, pattern: str, **what: Any) -> Fault:
        """Plans a fault, see `Fault`."""
        return self.faults.plan(Fault(method, pattern, **what))

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False, gated: bool = False) -> str:
        """A repo with these files; gives the commit."""
        repo = self.store.repos.get(name) or self.store.create(name, private=private, gated=gated)
        tree = repo.files() | {path: self.store.blob(path, data) for path, data in files.items()}
        return repo.commit(tree, "add files").oid

    def upload(self, name: str, folder: Path, **kind: bool) -> str:
        """A repo with the files of a folder."""
        return self.add(name, {path.name: path.read_bytes() for path in sorted(folder.iterdir())}, **kind)

    def asked(self, method: str, pattern: str = "") -> list[Seen]:
        """Requests of a method that were made, by their path."""
        return [seen for seen in self.seen if seen.method == method and re.search(pattern, seen.path)]

    def writes(self) -> list[Seen]:
        """Requests that change something, or try to."""
        reads = r"/paths-info/|/preupload/|/validate-yaml"
        return [s for s in self.seen if s.method not in ("GET", "HEAD") and not re.search(reads, s.path)]

    def answer(self, asked: Asked, origin: str) -> Answer:
        """What a request gets."""
        for method, pattern, found in self.routes:
            match = re.fullmatch(pattern, asked.path)
            if match and method in (asked.method, "GET" if asked.method == "HEAD" else ""):
                return found(asked, *match.groups())
        return refusal(404, message=f"no {asked.method} {asked.path} on {origin}")


def _handler(hub: Hub, origin: str) -> type[BaseHTTPRequestHandler]:
    """The handler class of one origin."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            """Silence: the log is `Hub.seen`."""

        def do(self) -> None:
            raw = urlsplit(self.path)
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            seen = Seen(self.command, unquote(raw.path), range=self.headers.get("Range") or "", origin=origin)
            seen.authorised = token is not None
            hub.seen.append(seen)
            query = {name: values[0] for name, values in parse_qs(raw.query).items()}
            account = hub.store.accounts.get(token or "")
            asked = Asked(hub, self.command, unquote(raw.path), query, self.headers, account, token)
            asked.fault = hub.faults.meet(self.command, unquote(raw.path))
            try:
                self.serve(asked, seen)
            except (EndError, ConnectionError):
                self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do  # noqa: N815  (the names that the base class calls)

        def serve(self, asked: Asked, seen: Seen) -> None:
            self.take_body(asked, seen)
            fault = asked.fault
            if fault.meanwhile:
                fault.meanwhile()
            sleep(fault.delay)
            found = None
            if not (fault.status or fault.drop) or fault.landed:
                if asked.token and asked.account is None:
                    found = refusal(401, message="Invalid credentials in Authorization header")
                else:
                    found = hub.answer(asked, origin)
            if fault.drop:
                raise EndError
            if fault.status:
                found = refusal(fault.status, fault.code, fault.body)
                found.body = fault.body.encode() if fault.status < 400 else found.body
                found.headers |= fault.headers
            self.give(found, fault, seen)

        def take_body(self, asked: Asked, seen: Seen) -> None:
            """Reads the whole body, else the connection could not be used again; a PUT goes to disk."""
            if asked.method != "PUT":
                asked.body = b"".join(self.pieces(asked, seen))
                return
            asked.file = hub.incoming / f"incoming-{id(asked)}-{monotonic_ns()}"
            digest = hashlib.sha256()
            with asked.file.open("wb") as file:
                for piece in self.pieces(asked, seen):
                    digest.update(piece)
                    file.write(piece)
            asked.sha256 = digest.hexdigest()

        def pieces(self, asked: Asked, seen: Seen) -> Iterator[bytes]:
            stop = asked.fault.cut if asked.method in ("PUT", "POST") else None
            for piece in self.chunks() if self.headers.get("Transfer-Encoding") else self.counted():
                if not piece:
                    raise EndError
                seen.received += len(piece)
                if stop is not None and seen.received >= stop:
                    raise EndError
                yield piece

        def counted(self) -> Iterator[bytes]:
            left = int(self.headers.get("Content-Length") or 0)
            while left:
                piece = self.rfile.read1(min(PIECE, left))
                left -= len(piece)
                yield piece

        def chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline() or b"0", 16):
                while size:
                    piece = self.rfile.read1(min(PIECE, size))
                    size -= len(piece)
                    yield piece
                self.rfile.readline()
            self.rfile.readline()

        def give(self, found: Answer, fault: Fault, seen: Seen) -> None:
            seen.status = found.status
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in found.headers:
                self.send_header("Content-Length", str(found.length))
            self.end_headers()
            if self.command == "HEAD":
                return
            body = _body(found, flip=fault.flip)
            for piece in body:
                room = len(piece) if fault.cut is None else max(0, fault.cut - seen.sent)
                self.wfile.write(piece[:room])
                seen.sent += min(room, len(piece))
                if room < len(piece):
                    raise EndError

    return Handler


def _body(found: Answer, *, flip: bool) -> Iterator[bytes]:
    """The body in pieces; with one byte wrong in the middle where `flip`."""
    if found.file is None:
        yield _flipped(found.body, len(found.body) // 2) if flip else found.body
        return
    at, wrong = found.begin, (found.begin + found.end) // 2
    with found.file.open("rb") as file:
        file.seek(at)
        while at < found.end:
            piece = file.read(min(PIECE, found.end - at))
            yield _flipped(piece, wrong - at) if flip and at <= wrong < at + len(piece) else piece
            at += len(piece)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if data else data

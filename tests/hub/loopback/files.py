"""The half of the Hub that moves bytes: downloads by range and redirect, LFS uploads, and the tokens of xet."""

import re
import time
from urllib.parse import quote

from loopback.api import NAME, commit_of, may_write, repo_of
from loopback.server import Answer, Asked, Route, as_json, refusal


def resolve(asked: Asked, name: str, revision: str, path: str) -> Answer:
    """GET /{id}/resolve/{rev}/{path}: the file itself, or where it lies."""
    found = commit_of(asked, name, revision)
    if isinstance(found, Answer):
        return found
    repo, commit = found
    if repo.gated and not may_write(asked, name.split("/")[0]):
        code = 403 if asked.account else 401
        return refusal(code, "GatedRepo", f"Access to model {name} is restricted. You must have access to it")
    blob = commit.tree.get(path)
    if blob is None:
        missing = refusal(404, "EntryNotFound", "Entry not found")
        missing.headers["X-Repo-Commit"] = commit.oid
        return missing
    told = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
    if blob.lfs:
        told |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}
        if xet := asked.hub.xet_hashes.get(blob.sha256):
            route = f"{asked.hub.endpoint}/api/models/{name}/xet-read-token/{commit.oid}"
            told |= {"X-Xet-Hash": xet, "X-Xet-Refresh-Route": route}
        return Answer(302, {**told, "Location": f"{asked.hub.cdn}/blob/{blob.sha256}"})
    return _file(asked, blob.sha256, told)


def blob(asked: Asked, sha256: str) -> Answer:
    """GET /blob/{sha256} at the second origin."""
    if sha256 not in asked.hub.store.objects:
        return refusal(404, message="no such object")
    return _file(asked, sha256, {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})


def _file(asked: Asked, sha256: str, headers: dict[str, str]) -> Answer:
    path, size = asked.hub.store.path(sha256), asked.hub.store.objects[sha256]
    asks = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("Range") or "")
    if not asks or asked.fault.whole:
        return Answer(200, headers, file=path, begin=0, end=size)
    begin, end = int(asks[1]), min(int(asks[2]) + 1 if asks[2] else size, size)
    if begin >= end:
        return Answer(416, {"Content-Range": f"bytes */{size}"})
    headers = {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{size}"}
    return Answer(206, headers, file=path, begin=begin, end=end)


def batch(asked: Asked, name: str) -> Answer:
    """POST /{id}.git/info/lfs/objects/batch: where each object is to be sent; nothing for those that are there."""
    found = repo_of(asked, name)
    if isinstance(found, Answer):
        return found
    if asked.account is None:
        return refusal(401, message="Invalid username or password.")
    objects = [_upload(asked, name, one["oid"], one["size"]) for one in asked.json["objects"]]
    return as_json({"transfer": "basic", "objects": objects})


def _upload(asked: Asked, name: str, oid: str, size: int) -> dict[str, object]:
    hub, told = asked.hub, {"oid": oid, "size": size}
    if oid in hub.store.objects:
        return told
    verify = {"href": f"{hub.endpoint}/{quote(name)}.git/info/lfs/verify", "header": {}}
    upload: dict[str, object] = {"href": f"{hub.cdn}/upload/{oid}", "header": {}}
    if size > hub.part:
        count = -(-size // hub.part)
        parts = {str(k): f"{hub.cdn}/part/{oid}/{k}" for k in range(1, count + 1)}
        upload = {"href": f"{hub.cdn}/complete/{oid}", "header": {"chunk_size": str(hub.part), **parts}}
    return {**told, "actions": {"upload": upload, "verify": verify}}


def upload(asked: Asked, oid: str) -> Answer:
    """PUT /upload/{oid} at the second origin: the object in one part."""
    assert asked.file is not None
    if asked.sha256 != oid:
        asked.file.unlink()
        return refusal(400, message=f"the body's sha256 is {asked.sha256}, not {oid}")
    with asked.hub.store.lock:
        asked.hub.store.keep(asked.file, oid)
    return Answer(200)


def part(asked: Asked, oid: str, number: str) -> Answer:
    """PUT /part/{oid}/{n} at the second origin."""
    assert asked.file is not None
    asked.file.rename(asked.hub.incoming / f"part-{oid}-{number}")
    return Answer(200, {"ETag": f'"{oid[:8]}-{number}"'})


def complete(asked: Asked, oid: str) -> Answer:
    """POST /complete/{oid}: the parts become the object."""
    from hashlib import sha256

    whole, digest = asked.hub.incoming / f"whole-{oid}", sha256()
    with whole.open("wb") as file:
        for one in asked.json["parts"]:
            if one["etag"] != f'"{oid[:8]}-{one["partNumber"]}"':
                return refusal(400, message="a part has another ETag")
            piece = asked.hub.incoming / f"part-{oid}-{one['partNumber']}"
            data = piece.read_bytes()
            digest.update(data)
            file.write(data)
            piece.unlink()
    if digest.hexdigest() != oid:
        return refusal(400, message="the parts have another sha256")
    asked.hub.store.keep(whole, oid)
    return Answer(200)


def verify(asked: Asked, name: str) -> Answer:
    """POST /{id}.git/info/lfs/verify."""
    there = asked.hub.store.objects.get(asked.json["oid"]) == asked.json["size"]
    return Answer(200) if there else refusal(404, message=f"{name} has no such object")


def xet_token(asked: Asked, name: str, kind: str, revision: str) -> Answer:
    """GET /api/models/{id}/xet-{read,write}-token/{rev}."""
    if asked.hub.xet is None:
        return refusal(404, message=f"no xet for {name}")
    place, until = f"local://{asked.hub.xet}", str(int(time.time()) + 3600)
    said = {"accessToken": f"xet-{kind}-{revision}", "exp": int(until), "casUrl": place}
    headers = {"X-Xet-Cas-Url": place, "X-Xet-Access-Token": said["accessToken"], "X-Xet-Token-Expiration": until}
    return as_json(said, **headers)


ROUTES: list[Route] = [
    ("GET", rf"/{NAME}/resolve/(refs/pr/\d+|[^/]+)/(.+)", resolve),
    ("GET", r"/blob/(\w+)", blob),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", batch),
    ("POST", rf"/{NAME}\.git/info/lfs/verify", verify),
    ("PUT", r"/upload/(\w+)", upload),
    ("PUT", r"/part/(\w+)/(\d+)", part),
    ("POST", r"/complete/(\w+)", complete),
    ("GET", rf"/api/models/{NAME}/xet-(read|write)-token/(.+)", xet_token),
]

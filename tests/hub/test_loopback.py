"""The Hub on 127.0.0.1 is good enough for the client as it is: uploads, downloads, ranges, commits, pull requests."""

import hashlib
import os
from pathlib import Path

import pytest
from commands import NOT_1, READER, TOKEN
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from loopback import Hub

DATA = os.urandom(300_000)
pytestmark = pytest.mark.usefixtures("client")


@pytest.fixture
def api(hub: Hub, client: Path) -> HfApi:
    """The client."""
    return HfApi()


def added(**files: bytes) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(name.replace("__", "."), data) for name, data in files.items()]


@pytest.mark.parametrize("part", [1 << 40, 100_000], ids=["one part", "three parts"])
def test_an_upload_is_one_commit_and_comes_back_equal(part, hub, api):
    hub.part = part
    api.create_repo("me/m", private=True)
    head = api.repo_info("me/m").sha
    made = api.create_commit(
        "me/m", added(w__safetensors=DATA, c__json=b"{}"), commit_message="one", parent_commit=head
    )
    assert [c.commit_id for c in api.list_repo_commits("me/m")] == [made.oid, head]
    (seen,) = api.get_paths_info("me/m", ["w.safetensors"], revision=made.oid)
    assert seen.lfs.sha256 == hashlib.sha256(DATA).hexdigest() and seen.size == len(DATA)
    for name, data in {"w.safetensors": DATA, "c.json": b"{}"}.items():
        assert Path(api.hf_hub_download("me/m", name, revision=made.oid)).read_bytes() == data
    assert len(hub.asked("PUT", "/part/")) == (0 if part > len(DATA) else 3)
    assert not any(seen.authorised for seen in hub.seen if seen.origin == "cdn"), "a token left its origin"


def test_what_is_there_is_not_sent_again_and_nothing_changed_is_no_commit(hub, api):
    api.create_repo("me/m")
    first = api.create_commit("me/m", added(w__safetensors=DATA), commit_message="one")
    again = api.create_commit("me/m", added(w__safetensors=DATA), commit_message="two")
    assert again.oid == first.oid and len(hub.asked("PUT")) == 1


def test_a_listing_comes_in_pages(hub, api):
    hub.page = 2
    hub.add("me/m", {f"{k}.json": b"{}" for k in range(5)})
    assert len(list(api.list_repo_tree("me/m", recursive=True))) == 6
    assert len(hub.asked("GET", "/tree/")) == 3


def test_a_range_is_answered_with_that_range_through_a_redirect(hub, api):
    from huggingface_hub.utils import get_session

    hub.add("me/m", {"w.safetensors": DATA})
    url = f"{hub.endpoint}/me/m/resolve/main/w.safetensors"
    found = get_session().get(url, headers={"Range": "bytes=100-199"}, follow_redirects=True)
    assert (found.status_code, found.content) == (206, DATA[100:200])
    assert found.headers["Content-Range"] == f"bytes 100-199/{len(DATA)}"
    hub.fail("GET", "/blob/", whole=True)
    assert get_session().get(url, headers={"Range": "bytes=100-199"}, follow_redirects=True).status_code == 200


def test_a_commit_on_another_parent_is_412_and_a_branch_that_is_not_there_404(hub, api):
    first = hub.add("me/m", {"a.json": b"1"})
    hub.add("me/m", {"a.json": b"2"})
    with pytest.raises(HfHubHTTPError) as met:
        api.create_commit("me/m", added(b__json=b"3"), commit_message="late", parent_commit=first)
    assert met.value.response.status_code == 412
    with pytest.raises(RevisionNotFoundError):
        api.repo_info("me/m", revision="nowhere")


def test_files_are_deleted_and_a_branch_is_made(hub, api):
    hub.add("me/m", {"a.json": b"1", "b.json": b"2"})
    api.create_branch("me/m", branch="next")
    api.create_commit("me/m", [CommitOperationDelete("a.json")], commit_message="less", revision="next")
    assert set(hub.store.repos["me/m"].files("next")) == {".gitattributes", "b.json"}
    assert "a.json" in hub.store.repos["me/m"].files()
    assert {ref.name for ref in api.list_repo_refs("me/m").branches} == {"main", "next"}


def test_a_reader_opens_a_pull_request_and_cannot_commit(hub):
    hub.add("me/m", {"a.json": b"1"})
    reader = HfApi(token=READER)
    with pytest.raises(HfHubHTTPError) as met:
        reader.create_commit("me/m", added(w__safetensors=DATA), commit_message="no")
    assert met.value.response.status_code == 403
    made = reader.create_commit("me/m", added(w__safetensors=DATA), commit_message="please", create_pr=True)
    assert made.pr_num == 1 and [d.title for d in reader.get_repo_discussions("me/m")] == ["please"]
    assert "w.safetensors" not in hub.store.repos["me/m"].files()
    HfApi(token=TOKEN).merge_pull_request("me/m", 1)
    assert hub.store.read("me/m", "w.safetensors") == DATA


def test_private_gated_and_wrong_tokens_are_what_the_client_knows_them_as(hub):
    hub.add("me/hidden", {"config.json": b"{}"}, private=True)
    hub.add("me/gated", {"config.json": b"{}"}, gated=True)
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=READER).repo_info("me/hidden")
    with pytest.raises(GatedRepoError):
        HfApi(token=READER).hf_hub_download("me/gated", "config.json")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(token="hf_wrong").whoami()


@NOT_1
def test_faults_happen_as_often_as_planned(hub, api, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.add("me/m", {"a.json": b"1"})
    busy = hub.fail("POST", "/preupload/", status=503, times=2)
    hub.fail("PUT", "/upload/", cut=100_000)
    api.create_commit("me/m", added(w__safetensors=DATA), commit_message="at last")
    assert busy.met == 2 and len(hub.asked("PUT")) == 2
    assert hub.store.read("me/m", "w.safetensors") == DATA


def test_a_flipped_byte_passes_the_client(hub):
    """Which is why downloads are hashed here."""
    hub.add("me/m", {"w.safetensors": DATA})
    hub.fail("GET", "/blob/", flip=True)
    assert Path(HfApi().hf_hub_download("me/m", "w.safetensors")).read_bytes() != DATA


@NOT_1
def test_xet_goes_there_and_back_over_a_local_store(hub, api, monkeypatch, tmp_path):
    hf_xet = pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.xet = tmp_path / "cas"
    hub.xet.mkdir()
    file = tmp_path / "w.safetensors"
    file.write_bytes(DATA)
    api.create_repo("me/m")
    try:
        api.create_commit("me/m", [CommitOperationAdd(file.name, file)], commit_message="by xet")
    except Exception as reason:  # whatever hf_xet says of an address that it may stop to know
        pytest.skip(f"this hf_xet takes no local store: {reason}")
    assert hub.asked("GET", "xet-write-token") and not hub.asked("PUT")
    (found,) = hf_xet.hash_files([str(file)])
    hub.xet_hashes[hashlib.sha256(DATA).hexdigest()] = getattr(found, "hash", None) or found.xet_info.hash
    assert Path(HfApi().hf_hub_download("me/m", file.name)).read_bytes() == DATA

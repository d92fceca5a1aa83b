"""A Hub on 127.0.0.1 for each test, and a client in this process that knows no other."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from converters.conversion import Request, convert
from converters.sample import write_sample

sys.path.insert(0, str(Path(__file__).parent))

from commands import READER, TOKEN
from loopback import Account, Hub


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LLaMA in two shards with a tokenizer and a card; never write into it."""
    place = tmp_path_factory.mktemp("sample")
    whole = write_sample(place / "whole", "llama")
    ours = convert(whole, output=place / "ours").output
    made = convert(ours, to="llama", output=place / "tiny", request=Request(max_shard_size=150_000)).output
    (made / "conversion.json").unlink()
    (made / "tokenizer.json").write_text('{"model": {}}')
    (made / "README.md").write_text("# Tiny\n")
    return made


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The server; `me` has a token that may write, `reader` one that may not."""
    made = Hub(tmp_path_factory.mktemp("loopback"))
    made.store.accounts = {TOKEN: Account("me", orgs=("team",)), READER: Account("reader", "read")}
    yield made
    made.close()


@pytest.fixture
def environment(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a client in another process: this Hub, a home of its own, the token that may write."""
    home = tmp_path_factory.mktemp("home")
    return {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip


@pytest.fixture
def client(hub: Hub, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client in this process as if it had been imported with `environment`; gives its home."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    home = Path(environment["HF_HOME"])
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()
    return home

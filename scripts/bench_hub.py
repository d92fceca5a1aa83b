"""A push of 1 GB to a Hub on 127.0.0.1: ours, which hashes, compares and looks, against the client's bare commit.

The Hub is the one of the tests; it runs in this process and takes a share of the machine, the same for both.
"""

import sys
from pathlib import Path

from measuring import CONVERT, ENVIRONMENT, ROOT, interleaved, keep, machine, measured, ratios, scratch, spread
from synthetic import SIZES, write_llama

sys.path.insert(0, str(ROOT / "tests" / "hub"))

from loopback import Account, Hub

ROUNDS = 5
TOKEN = "hf_bench"
BARE = """
import sys
from pathlib import Path
from huggingface_hub import CommitOperationAdd, HfApi
api, folder, repo = HfApi(), Path(sys.argv[1]), sys.argv[2]
api.create_repo(repo, private=True, exist_ok=True)
added = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
api.create_commit(repo, added, commit_message="bare")
"""


def folder_to_push(place: Path) -> Path:
    """A conversion of 1 GB with a PASS in its record."""
    from converters.verdict_record import LEVELS, Run, record_run

    source, target = write_llama(place / "source", SIZES["1GB"]), place / "ours"
    measured([str(CONVERT), "llama", str(source), "--to", "mixformer", "-o", str(target), "--no-parity", "--quiet"])
    levels = [{"name": name, "status": "PASS"} for name in sorted(LEVELS)]
    assert record_run(target, Run({"verdict": "PASS", "levels": levels}, sorted(LEVELS), "cpu", source))
    return target


def forget(hub: Hub) -> None:
    """The Hub as it was before anything was pushed."""
    hub.store.repos.clear()
    for name in list(hub.store.objects):
        hub.store.path(name).unlink()
    hub.store.objects.clear()


def main() -> None:
    """Both, in turns."""
    with scratch() as place:
        hub = Hub(place / "hub")
        hub.store.accounts[TOKEN] = Account("me")
        ENVIRONMENT.update(HF_ENDPOINT=hub.endpoint, HF_HOME=str(place / "home"), HF_TOKEN=TOKEN)
        ENVIRONMENT.update(HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
        folder = folder_to_push(place)
        commands = {
            "convert push": [str(CONVERT), "push", str(folder), "me/m", "--quiet"],
            "create_commit": [sys.executable, "-W", "ignore", "-c", BARE, str(folder), "me/m"],
        }
        runs = interleaved(commands, ROUNDS, before=lambda: forget(hub))
        hub.close()
    lines = [f"{name}: {spread([run.wall for run in found])} s" for name, found in runs.items()]
    lines.append(f"ours over theirs, round by round: {spread(ratios(runs, 'convert push', 'create_commit'))}")
    keep("hub", [f"1 GB to a Hub on this machine, median (min..max) of {ROUNDS}; {machine()}", *lines], runs)


if __name__ == "__main__":
    main()

"""Commands in this process, and folders to push, for the tests of the Hub."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import pytest
from loopback import Hub
from typer.testing import CliRunner

from cli.main import app

TOKEN = "hf_WriteTokenThatMustNeverBeShown"
HUB = huggingface_hub.__version__
HUB_1 = HUB.startswith("1.")
NOT_1 = pytest.mark.skipif(HUB_1, reason=f"huggingface_hub {HUB} tries cut uploads and uses xet otherwise than 2.4")
READER = "hf_ReadTokenThatMustNeverBeShown"


@dataclass(frozen=True)
class Done:
    """What a command ended with: its code, what it printed, what it said went wrong."""

    code: int
    out: str
    error: str


def run(*words: object) -> Done:
    """A command in this process."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is None or isinstance(done.exception, SystemExit):
        return Done(done.exit_code, done.stdout, done.stderr)
    notes = getattr(done.exception, "__notes__", [])
    code = 3 if isinstance(done.exception, OSError) else getattr(done.exception, "exit_code", 1)
    return Done(code, done.stdout, "\n".join([done.stderr, str(done.exception), *notes]))


SAMPLES: list[Path] = []  # what was converted; all are equal


def convert_sample(sample: Path, folder: Path, *more: str) -> Path:
    done = run("llama", sample, "--to", "mixformer", "--no-parity", "-o", folder, *more)
    assert done.code == 0, done.error
    SAMPLES.append(sample)
    write_verdict(folder, "PASS", sample)
    return folder


def write_verdict(folder: Path, verdict: str, source: Path | None = None) -> None:
    """As parity writes it; the numbers are made up, and what stands beside them names this machine."""
    from converters.verdict_record import LEVELS, Run, record_run

    detail = f"{folder} on {socket.gethostname()} for {os.environ.get('USER', 'root')}"
    level = {"name": "L2", "title": "function", "status": verdict, "number": 1e-15, "budget": 1e-13, "detail": detail}
    parity = {"verdict": verdict, "levels": [level], "candidate": str(folder), "reference": str(folder)}
    assert record_run(folder, Run({**parity, "versions": {"torch": "2"}}, sorted(LEVELS), "cpu", source or SAMPLES[-1]))


def held(hub: Hub, repo: str = "me/m", revision: str = "main") -> set[str]:
    return set(hub.store.repos[repo].files(revision)) - {".gitattributes"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)

"""What became of one model of a zoo."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cli.zoo.entries import Entry

ERROR = "ERROR"


@dataclass(frozen=True)
class Outcome:
    """One model and how it ended.

    status: PASS, FAIL, UNVERIFIED, or ERROR where there is no output. code: the exit code of its command. levels: name,
    status, number and budget of each. url: the commit or pull request of a push. up_to_date: nothing was to be done.
    """

    source: str
    family: str
    to: str
    output: str
    status: str
    code: int
    push: str = ""
    url: str = ""
    up_to_date: bool = False
    error: str = ""
    levels: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the report has it."""
        return {**asdict(self), "levels": [dict(level) for level in self.levels]}


def outcome(entry: Entry, family: str, code: int, out: str, err: str) -> Outcome:
    """What a command ended with: its exit code, the JSON that it printed, and what it said went wrong."""
    found = _printed(out)
    verdict, push = found.get("verdict"), found.get("push") or {}
    status = verdict if isinstance(verdict, str) else str((verdict or {}).get("verdict", ERROR))
    return Outcome(
        source=entry.source,
        family=family,
        to=entry.to,
        output=entry.output,
        status="UNVERIFIED" if status == ERROR and code == 5 else status,
        code=code,
        push=entry.push or "",
        url=push.get("url", ""),
        up_to_date=found.get("up_to_date") is True and code == 0 and push.get("up_to_date", True) is True,
        error="" if code == 0 else _told(err),
        levels=() if isinstance(verdict, str) else _levels(verdict),
    )


def _printed(out: str) -> dict[str, Any]:
    try:
        found = json.loads(out)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _levels(verdict: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], ...]:
    names = ("name", "status", "number", "budget")
    return tuple({name: level.get(name) for name in names} for level in (verdict or {}).get("levels", ()))


def _told(err: str) -> str:
    """The error of a command, without what it said before."""
    lines = err.strip().splitlines()
    first = next((k for k, line in enumerate(lines) if line.startswith("error: ")), max(0, len(lines) - 3))
    return "\n".join(lines[first:]).removeprefix("error: ")

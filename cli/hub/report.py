"""A push in words, and as JSON."""

from dataclasses import asdict
from typing import Any

from cli.console import in_words
from cli.hub.outgoing import Cargo
from cli.hub.pushing import Pushed
from cli.terminal.layout import table


def as_content(done: Pushed, cargo: Cargo) -> dict[str, Any]:
    """A push as JSON."""
    found = {**asdict(done.target), **{k: v for k, v in asdict(done).items() if k not in ("target", "changes")}}
    listed = [{"action": c.action, "path": c.path, "bytes": c.nbytes} for c in done.changes]
    verdict = "PASS" if cargo.obstacle is None else "UNVERIFIED"
    return {**found, "verdict": verdict, "changes": listed, "left_out": list(cargo.left_out)}


def as_lines(done: Pushed, cargo: Cargo, *, dry_run: bool) -> list[str]:
    """A push in words."""
    who = f"{done.target.repo} ({'private' if done.private else 'public'})"
    changed = [change for change in done.changes if change.action != "keep"]
    if done.up_to_date:
        found = [f"{who} is up to date: {done.url}" if done.url else f"{who} is up to date"]
    else:
        verb = "would get" if dry_run else "got"
        size = in_words(sum(change.nbytes for change in changed if change.action != "delete"))
        new = " (it is not there, or not to be seen, and would be created)" if dry_run and done.created else ""
        found = [f"{who} {verb} {size} in one commit{new}", *([f"  {done.url}"] if done.url else [])]
        found += [f"  {line}" for line in table([(c.action, c.path, in_words(c.nbytes)) for c in changed])]
    kept = len(done.changes) - len(changed)
    found += [f"  unchanged: {kept} of {len(done.changes)} files"] if kept else []
    found += [f"  note: {name} is of no kind that is pushed and stays here" for name in cargo.left_out]
    return [*found, *([f"  note: UNVERIFIED: {cargo.obstacle}"] if cargo.obstacle else [])]

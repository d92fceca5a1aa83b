"""Explanations in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from golden.verdict import Explanation
from golden.weights.facts import listed

MOST = 6
"""Claims that one sentence holds."""


def in_a_sentence(explanations: Sequence[Explanation]) -> str | None:
    """What is wrong and what undoes it; None where nothing is explained."""
    known = [one for one in explanations if one.kind != "unexplained"]
    if not known:
        return None
    claims = "; ".join(one.claim for one in known[:MOST])
    claims += f"; and {len(known) - MOST} more" if len(known) > MOST else ""
    rest = "" if len(known) == len(explanations) else "; no hypothesis explains what else differs"
    if not all(one.proved for one in known):
        return f"{claims}{_limits(known)}{rest}"
    undo = list(dict.fromkeys(one.undo for one in known))
    rms = max((one.rms for one in known if one.rms is not None), default=0.0)
    notes = "".join(f"; {note}" for note in dict.fromkeys(one.note for one in known if one.note))
    how = f"applying {listed(undo)}" if len(known) == 1 else f"undoing all of it, by {listed(undo)},"
    return f"{claims}: {how} makes it pass, the rms is then {rms:.1e}{notes}{rest}"


def _limits(known: Sequence[Explanation]) -> str:
    """Why it is not said that the model passes then."""
    run = [one.rms for one in known if one.rms is not None]
    if not run:
        return "" if all(one.kind == "missing" for one in known) else ": by the files; the model was not run without it"
    return f": undone, the rms is still {run[-1]:.1e}; no hypothesis explains the rest"

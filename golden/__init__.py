"""Evidence that a converted checkpoint computes the same function as its reference.

``compare`` judges a candidate folder and returns a :class:`~golden.verdict.Verdict`; ``verdict_lines`` puts it into
words. ``record`` writes a golden file: what a reference computes. ``describe`` reads such a file. ``self_test`` plants
known faults and checks that the verdict finds each. ``belongs_to`` asks whether a golden file still is a reference's.
Importing this package loads neither torch nor transformers: the names below are resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golden.comparison import compare
    from golden.errors import GoldenError
    from golden.evidence.belonging import Belonging, belongs_to
    from golden.evidence.description import describe
    from golden.evidence.recording import record
    from golden.faults.self_testing import SelfTest, self_test
    from golden.inputs import check_inputs
    from golden.report import trial_lines, verdict_lines
    from golden.verdict import LevelResult, Status, Verdict

_HOME_OF = {
    "Belonging": "golden.evidence.belonging",
    "belongs_to": "golden.evidence.belonging",
    "check_inputs": "golden.inputs",
    "compare": "golden.comparison",
    "describe": "golden.evidence.description",
    "GoldenError": "golden.errors",
    "record": "golden.evidence.recording",
    "self_test": "golden.faults.self_testing",
    "trial_lines": "golden.report",
    "verdict_lines": "golden.report",
    "LevelResult": "golden.verdict",
    "SelfTest": "golden.faults.self_testing",
    "Status": "golden.verdict",
    "Verdict": "golden.verdict",
}

__all__ = [
    "Belonging",
    "GoldenError",
    "LevelResult",
    "SelfTest",
    "Status",
    "Verdict",
    "belongs_to",
    "check_inputs",
    "compare",
    "describe",
    "record",
    "self_test",
    "trial_lines",
    "verdict_lines",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'golden' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)

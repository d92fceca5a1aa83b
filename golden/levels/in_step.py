"""Models that are run layer by layer: both sides in step, so that each layer of both is read once for all prompts."""

from __future__ import annotations

from golden.evidence.live import Evidence, LiveEvidence, journal_of
from golden.levels.function import cannot_run
from golden.models.running import ModelRunner, run_together
from golden.models.streaming.lockstep import Lockstep
from golden.watching import Progress


def run_in_step(candidate: ModelRunner, evidence: Evidence, progress: Progress | None) -> list[Lockstep]:
    """Run all prompts through both models to their last layer, and check the reference then.

    A run that was killed goes on where it was. ``progress`` is told of each layer.

    Raises:
        UnusableReferenceError, NondeterministicReferenceError: see `golden.evidence.live.reference_evidence`.
    """
    begun: list[Lockstep | None] = []
    if not cannot_run(candidate, evidence):
        begun = [evidence.begin_unchecked() if isinstance(evidence, LiveEvidence) else None]
        journal = journal_of(candidate, evidence.prompts)
        begun.append(candidate.begin((prompt.ids for prompt in evidence.prompts), journal=journal))
        run_together(*begun, progress=progress)
    if isinstance(evidence, LiveEvidence):
        evidence.check()
    return [model for model in begun if model is not None]

"""Results of a reference: from a model in memory, or from logits on disk, written before the candidate is loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from golden.errors import NondeterministicReferenceError, UnusableReferenceError
from golden.evidence.calibration import (
    Calibration,
    attention_spread,
    calibrate,
    chosen_prompts,
    divergence,
    has_sdpa,
    spread_between,
)
from golden.evidence.continuation import Continuation, continue_greedily
from golden.evidence.error_meter import ErrorMeter
from golden.evidence.extremes import without_extremes
from golden.evidence.prompts import Prompt, longest_prompt
from golden.evidence.ruler import Truth, common_columns
from golden.evidence.spilled import SpilledEvidence
from golden.evidence.stages import Stages, diagnosis_prompt, stages_of
from golden.evidence.versions import code_digest, installed_versions
from golden.models.folders import read_config
from golden.models.loading import LoadedModel, load_model
from golden.models.running import CHUNK, ModelRunner, used_rows
from golden.models.streaming.journal import FileJournal
from golden.models.streaming.lockstep import Lockstep, Run

AGAIN, SDPA = "again", "sdpa"
"""Passes of a reference that is run layer by layer: of the shortest prompt, and of the longest with other attention."""
PromptMaker = Callable[[ModelRunner, int], tuple[Prompt, ...]]
"""Makes the prompts for a loaded reference and its number of used token rows."""

Opener = Callable[[Path, torch.dtype, str | None], LoadedModel]
"""Opens a folder in a dtype with an attention backend: whole, or to be run a layer at a time."""


class Evidence(Truth, Protocol):
    """Results of a reference that a candidate is compared with.

    ``pair`` and ``pair_rows`` return (candidate, reference) arrays of equal shape (rows, columns), cut to the columns
    both have. ``used_vocab`` counts the token rows before trailing zero rows, which are padding and may be missing in
    the candidate. ``calibration`` holds the reference's floor in a low-precision dtype, ``spread`` the rms between its
    own attention backends, ``stages`` its hidden states on a prompt where known, ``distance`` the rms by which a
    recorded lossy step changed its logits, ``config`` its config.json. ``begin`` is called before all prompts.
    """

    @property
    def table_sizes(self) -> Mapping[str, int]: ...

    @property
    def used_vocab(self) -> int: ...

    @property
    def distance(self) -> float | None: ...

    @property
    def config(self) -> Mapping[str, Any]: ...

    def begin(self) -> Lockstep | None: ...

    def pair_rows(self, table: str, start: int, rows: Tensor) -> tuple[Tensor, Tensor]: ...

    def continuation(self) -> Continuation: ...

    def calibration(self, dtype: str) -> Calibration: ...

    def spread(self) -> float: ...

    def stages(self, index: int) -> Stages: ...


@dataclass(frozen=True)
class LiveEvidence:
    """The reference model itself, in memory.

    ``kept`` holds the logits of the few prompts that L3 asks for again and again. ``rounded_to`` is the dtype that its
    weights were rounded through, because the candidate's conversion recorded that cast, and ``distance`` the relative
    rms from the logits before it. ``floor_of`` is the folder whose rounding error is the floor; None: the reference.
    Where it is not ``checked``, `check` has to be called once its passes have run.
    """

    runner: ModelRunner
    prompts: tuple[Prompt, ...]
    used_vocab: int
    std: float | None = None
    kept: dict[int, Tensor] = field(default_factory=dict)
    rounded_to: torch.dtype | None = None
    distance: float | None = None
    floor_of: Path | None = None
    checked: bool = True

    @property
    def table_sizes(self) -> Mapping[str, int]:
        return {name: int(module.num_embeddings) for name, module in self.runner.tables.items()}

    @property
    def config(self) -> Mapping[str, Any]:
        return read_config(self.runner.loaded.folder)

    def pair(self, index: int, logits: Tensor) -> tuple[Tensor, Tensor]:
        if index not in self.kept:
            truth = self.runner.logits(self.prompts[index].ids)
            asked = () if self.runner.loaded.stream is not None else chosen_prompts(self.prompts)  # by L3
            if index not in (*asked, diagnosis_prompt(self.prompts)):
                return common_columns(logits, truth)
            self.kept[index] = truth
        return common_columns(logits, self.kept[index])

    def begin(self) -> Lockstep | None:
        return self.runner.begin(self._asked())

    def begin_unchecked(self) -> Lockstep | None:
        """The same with all that `check` and `spread` ask for, and a journal."""
        others: dict[Hashable, Run] = {AGAIN: self.runner.run_of(self.prompts[diagnosis_prompt(self.prompts)].ids)}
        if self.runner.model.dtype is torch.float32 and has_sdpa(self.runner):
            longest = self.prompts[longest_prompt(self.prompts)]
            others[SDPA] = self.runner.run_of(longest.ids, partial(self.runner.attention, "sdpa"))
        return self.runner.begin(self._asked(), others, journal_of(self.runner, self.prompts))

    def _asked(self) -> Iterator[tuple[int, ...]]:
        return (prompt.ids for index, prompt in enumerate(self.prompts) if index not in self.kept)

    def _known(self, index: int) -> Tensor:
        if index not in self.kept:
            self.kept[index] = self.runner.logits(self.prompts[index].ids)
        return self.kept[index]

    def check(self) -> None:
        """Check what `open_reference` left because the passes were not run yet.

        Raises:
            UnusableReferenceError, NondeterministicReferenceError: as `reference_evidence`.
        """
        if not self.checked:
            index = diagnosis_prompt(self.prompts)
            again = self.runner.taken(AGAIN)
            _check_serves(self.runner, self.prompts[index], self._known(index), again)

    def divergence(self, found: Tensor, true: Tensor) -> Tensor:
        return divergence(true, found)

    def pair_rows(self, table: str, start: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        return common_columns(rows, self.runner.rows(table, start, start + len(rows)))

    def continuation(self) -> Continuation:
        return continue_greedily(self.runner, self.prompts, self.used_vocab)

    def calibration(self, dtype: str) -> Calibration:
        folder = self.floor_of or self.runner.loaded.folder
        return calibrate(folder, dtype, self, self.runner, self.rounded_to)

    def spread(self) -> float:
        other = self.runner.taken(SDPA)
        if other is None:
            return attention_spread(self.runner, self.prompts)
        return spread_between(other, self._known(longest_prompt(self.prompts)))

    def stages(self, index: int) -> Stages:
        return stages_of(self.runner, self.prompts[index])


def journal_of(runner: ModelRunner, prompts: Sequence[Prompt]) -> FileJournal | None:
    """Where the passes of these prompts are kept while they run layer by layer; None where they do not."""
    if not runner.walks:
        return None
    attention = runner.model.config._attn_implementation  # `to_dict` leaves it out
    terms = (installed_versions(), code_digest(), runner.model.dtype, attention, [p.ids for p in prompts])
    return FileJournal(runner.loaded.folder, (*terms, runner.loaded.stream and runner.loaded.stream.rounded_to))


def spill(evidence: LiveEvidence, folder: Path, dtypes: Iterable[str]) -> SpilledEvidence:
    """Write the results of a live reference into ``folder``, with calibrations for ``dtypes``."""
    for index, prompt in enumerate(evidence.prompts):
        values = evidence.runner.logits(prompt.ids).contiguous()
        save_file({"values": values}, folder / f"prompt-{index}.safetensors")
    for table, size in evidence.table_sizes.items():
        for start in range(0, size, CHUNK):
            rows = evidence.runner.rows(table, start, min(size, start + CHUNK)).contiguous()
            save_file({"values": rows}, folder / f"{table}-{start}.safetensors")
    return SpilledEvidence(
        folder=folder,
        prompts=evidence.prompts,
        table_sizes=dict(evidence.table_sizes),
        used_vocab=evidence.used_vocab,
        written=evidence.continuation(),
        calibrations={dtype: evidence.calibration(dtype) for dtype in dtypes},
        backends=evidence.spread(),
        states=evidence.stages(diagnosis_prompt(evidence.prompts)),
        config=evidence.config,
        distance=evidence.distance,
    )


@dataclass(frozen=True)
class ReferenceTerms:
    """How a reference is opened and kept.

    Attributes:
        dtype: what it computes in.
        keep: whether it may stay in memory beside the candidate.
        opener: how its folder is opened.
        calibrated: low-precision dtypes that will be asked for, where it may not stay.
        rounded_to: a dtype to round its weights through, because the candidate's were.
        floor_of: the folder whose rounding error is the floor of L3, if not the reference.
        rows: how many token rows the candidate kept, if rows were cut off.
    """

    dtype: torch.dtype
    keep: bool = True
    opener: Opener = load_model
    calibrated: Iterable[str] = ()
    rounded_to: torch.dtype | None = None
    floor_of: Path | None = None
    rows: int | None = None


@contextmanager
def reference_evidence(
    folder: Path, make_prompts: PromptMaker, terms: ReferenceTerms
) -> Iterator[LiveEvidence | SpilledEvidence]:
    """The reference in ``folder``, eager on the CPU.

    Raises:
        UnusableReferenceError: its files do not fit its architecture, or its logits are all equal or not finite.
        NondeterministicReferenceError: two runs on one prompt give different logits.
    """
    opened = open_reference(folder, make_prompts, terms.dtype, terms.rounded_to, terms.opener, terms.rows)
    live = replace(opened, floor_of=terms.floor_of)
    if terms.keep:
        with closing(live.runner):
            yield live
        return
    with tempfile.TemporaryDirectory(prefix="golden-") as temporary:
        spilled = spill(live, Path(temporary), terms.calibrated)
        del live
        yield spilled


def open_reference(
    folder: Path,
    make_prompts: PromptMaker,
    dtype: torch.dtype,
    rounded_to: torch.dtype | None = None,
    opener: Opener = load_model,
    rows: int | None = None,
) -> LiveEvidence:
    """Open the reference and check that something can be compared with it; see :func:`reference_evidence`."""
    loaded = opener(folder, dtype, "eager")
    if loaded.problems:
        raise UnusableReferenceError(f"{folder}: not a complete model: {'; '.join(loaded.problems[:5])}")
    runner = ModelRunner(loaded)
    used = min(used_rows(runner), rows or runner.vocab)
    prompts = make_prompts(runner, used)
    shortest = prompts[diagnosis_prompt(prompts)]
    if not runner.walks:
        _check_serves(runner, shortest, runner.logits(shortest.ids))
    distance = None if rounded_to is None else _round(runner, shortest, rounded_to)
    return LiveEvidence(runner, prompts, used, rounded_to=rounded_to, distance=distance, checked=not runner.walks)


def _check_serves(runner: ModelRunner, prompt: Prompt, first: Tensor, again: Tensor | None = None) -> None:
    """Check that weights and logits are finite, and that two runs on one prompt give the same logits."""
    folder = runner.loaded.folder
    again = runner.logits(prompt.ids) if again is None else again
    why = runner.loaded.name_nonfinite()  # in any row: another prompt may use it
    if why or not bool(torch.isfinite(first).all()):
        why = why or "its weights are finite, but its forward pass overflows"
        raise UnusableReferenceError(f"{folder}: the reference is not finite, so it cannot be compared with: {why}")
    if not float(first.std(correction=0)):
        raise UnusableReferenceError(f"{folder}: all logits of the reference are equal, so no error would show in them")
    if not torch.equal(first, again):
        raise NondeterministicReferenceError(
            f"{folder}: two runs on the prompt {prompt.name!r} differ by {float((first - again).abs().max()):.3g}; "
            "a reference must be deterministic: look for dropout or sampling in its code"
        )


def _round(runner: ModelRunner, prompt: Prompt, dtype: torch.dtype) -> float:
    """Round the reference's weights as a recorded cast did; returns the relative rms by which its logits change."""
    before = runner.logits(prompt.ids)
    runner.loaded.round_through(dtype)
    meter = ErrorMeter()
    meter.add(prompt.name, *without_extremes(runner.logits(prompt.ids), before))
    return meter.total().rms

"""What is believed wrong in a failed candidate is undone in memory, and the model runs again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from converters.paging import pager_of
from golden.diagnosis.divergence import Divergence, find_divergence
from golden.errors import GoldenError
from golden.evidence.error_meter import ErrorMeter
from golden.evidence.live import Evidence
from golden.faults.model_copy import Patient, relink
from golden.levels.function import Budget, compare_table
from golden.models.anatomy import Anatomy, known_anatomy
from golden.models.folders import read_config
from golden.models.loading import load_model
from golden.models.parts import Part
from golden.models.running import ModelRunner
from golden.models.streamed_loading import open_streamed
from golden.references import is_native
from golden.verdict import Reading
from golden.weights.facts import Edit
from golden.weights.sides import Sides

NEEDED = ": the model needs it, the files do not have it"
UNKNOWN = ": the files have it, the model does not know it"


@dataclass
class Experiment:
    """A failed candidate, with what was undone in it so far.

    Attributes:
        index: the shortest prompt that shows the fault; on any other every hypothesis would look right. None where only
            rows of a table show it.
        tables: the embedding tables that show it.
        config: the config.json that it runs under now.
        patched: whether every edit so far could be applied.
        filled: tensors that were taken from the reference because the last config needs them.
    """

    folder: Path
    runner: ModelRunner
    evidence: Evidence
    budget: Budget
    scratch: Path
    sides: Sides | None
    index: int | None = None
    tables: tuple[str, ...] = ()
    config: dict[str, Any] = field(init=False)
    edits: list[Edit] = field(default_factory=list)
    patched: bool = True
    filled: tuple[str, ...] = ()
    reloads: int = 0

    def __post_init__(self) -> None:
        self.config = read_config(self.folder)

    @property
    def has_failing_inputs(self) -> bool:
        """Whether there is anything that would tell that a fault is gone."""
        return self.index is not None or bool(self.tables)

    def find_failing_inputs(self) -> None:
        """Look for the prompt or the tables that show the fault."""
        for index in sorted(range(len(self.evidence.prompts)), key=lambda i: len(self.evidence.prompts[i].ids)):
            if not self.keeps(self.prompt_error(index)):
                self.index = index
                break
        known = [table for table in self.evidence.table_sizes if table in self.runner.tables]
        self.tables = tuple(table for table in known if not self.budget.keeps(self.table_reading(table)))

    def divergence(self) -> Divergence | None:
        """The first stage at which the candidate, as it is now, differs from the reference."""
        return find_divergence(self.runner, self.evidence, self.budget, self.index)

    def table_reading(self, table: str) -> Reading:
        """The error of all rows of a table that both models have."""
        return compare_table(self.runner, self.evidence, table)

    def prompt_error(self, index: int) -> tuple[float, float]:
        """(rms, max) on a prompt, in units of the deviation of the reference's logits; infinite where it cannot run."""
        try:
            logits = self.runner.logits(self.evidence.prompts[index].ids)
        except (RuntimeError, ValueError, IndexError, TypeError):
            return float("inf"), float("inf")
        meter = ErrorMeter()
        meter.add("hypothesis", *self.evidence.pair(index, logits))
        found = meter.total("hypothesis", self.evidence.std)
        return found.rms, found.max

    def keeps(self, error: tuple[float, float], rms: float | None = None) -> bool:
        """Whether an error is within the budget, or within another rms."""
        limit, largest = (self.budget.rms, self.budget.max) if rms is None else (rms, None)
        return error[0] <= limit and (largest is None or error[1] <= largest)

    def measure(self) -> tuple[float, float]:
        """The largest error of the failing inputs."""
        errors = [] if self.index is None else [self.prompt_error(self.index)]
        errors += [(reading.rms, reading.max) for reading in map(self.table_reading, self.tables)]
        return max((e[0] for e in errors), default=float("inf")), max((e[1] for e in errors), default=float("inf"))

    def apply(self, edits: Iterable[Edit]) -> None:
        """Write edits into the model, or have them written whenever a layer is read."""
        for edit in edits:
            self.edits.append(edit)
            self.patched &= self._write(edit)

    def _write(self, edit: Edit) -> bool:
        stream, name = self.runner.loaded.stream, self._name(edit.part.key)
        if name is None:
            return False
        if stream is not None:
            return stream.patch(name, lambda tensor: edit.apply({edit.part.key: tensor}))
        with torch.no_grad():
            edit.apply({edit.part.key: self.weights[name]})
        return True

    def _name(self, key: str) -> str | None:
        """The parameter that holds a tensor of the files; None where it is not known."""
        prefix = getattr(self.runner.model, "base_model_prefix", "")
        known = self.weights
        return next((name for name in (key, f"{prefix}.{key}") if name in known), None)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The parameters in memory; a model that is run layer by layer has them on the meta device."""
        found: Mapping[str, Tensor] = self.runner.model.state_dict()
        return found

    def model_copy(self) -> Patient | None:
        """The model for hypotheses, which change its weights in place; None where its parts are not known."""
        anatomy = self.anatomy
        if self.runner.loaded.stream is not None or is_native(self.folder) or anatomy is None:
            return None
        return Patient(dict(self.weights), self.config, anatomy)

    @property
    def anatomy(self) -> Anatomy | None:
        """Where the parts of the candidate lie; None for an architecture that is not known."""
        return known_anatomy(self.config, self.weights)

    def reload(self, config: dict[str, Any]) -> ModelRunner | None:
        """The candidate under another config, with all edits; None where that config does not fit its weights.

        A tensor that the other config needs and that is not stored is taken from the reference.
        """
        if is_native(self.folder) or pager_of(self.folder) is not None:  # links to stand-ins would read as zeros
            return None
        self.reloads += 1
        opener = load_model if self.runner.loaded.stream is None else open_streamed
        try:
            loaded = opener(relink(self.folder, self.scratch / str(self.reloads), config), self.runner.model.dtype)
        except (GoldenError, OSError):
            return None
        before, self.runner = self.runner, ModelRunner(loaded)
        try:
            usable = self._fill(loaded.problems) and self._tie(config)
            usable = usable and all([self._write(edit) for edit in self.edits])
            return self.runner if usable else None
        finally:
            self.runner = before

    def _tie(self, config: dict[str, Any]) -> bool:
        """Read the head from the embedding where the config says so: transformers takes one that is stored instead."""
        sides = self.sides
        if not config.get("tie_word_embeddings") or sides is None or "embed" not in sides.parts:
            return True
        embed = sides.parts["embed"]
        heads = [lack.key for lack in sides.lacks if lack.why == "extra" and lack.key in self.weights]
        alike = [key for key in heads if self.weights[key].shape == self.weights[embed.key].shape]
        return all([self._write(Edit(Part(key), lambda: sides.found.part(embed))) for key in (*alike, embed.key)])

    def _fill(self, problems: tuple[str, ...]) -> bool:
        """Take what is missing from the reference, and leave out what it does not have. False where more is wrong."""
        extra = {lack.key for lack in self.sides.lacks if lack.why == "extra"} if self.sides else set()
        problems = tuple(p for p in problems if not (p.endswith(UNKNOWN) and p.removesuffix(UNKNOWN) in extra))
        keys = [problem.removesuffix(NEEDED) for problem in problems]
        known = self.sides.truth.tensors if self.sides else {}
        if not all(problem.endswith(NEEDED) and key in known for problem, key in zip(problems, keys, strict=True)):
            return False
        sides, self.filled = self.sides, tuple(keys)
        for key in keys:
            assert sides is not None
            if not self._write(Edit(Part(key), partial(sides.truth.part, Part(key)))):
                return False
        return True

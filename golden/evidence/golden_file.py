"""Reading a golden file: a safetensors file with what a reference computed, which stands for the reference.

The metadata hold the header as JSON under one key. With several keys safetensors would write them in any order, and the
same recording would not give the same bytes. Tensors, i counting prompts:

    prompt.{i}            ids, int64 (tokens,)
    logits.{i}            full form: float64 or float32 (tokens, vocab)
    columns.{i}, top.{i}  compact form: see golden/evidence/sketch.py
    divisors.{i}          compact form, of prompts with extreme logits: see golden/evidence/extremes.py
    rows.{table}          projections of every row of an embedding table, float64 (rows, 4)
    continuation.*        prompt, ids (int64) and margins (float64) of the greedy text
    probe.{dtype}.{j}.*   given (dtype) and truth (float32) of a module probe
    stage.{j}             optional: hidden states of the diagnosis prompt, float64 (tokens, width)

The header's ``digest`` is a sha256 over the rest of the header and all tensors. A golden file with a changed scale,
floor or logit would give wrong verdicts, so it is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from golden.errors import GoldenFileError
from golden.evidence.beside_weights import Beside
from golden.evidence.calibration import Calibration, Floor, divergence
from golden.evidence.continuation import Continuation
from golden.evidence.extremes import divided, without_extremes
from golden.evidence.golden_header import read_golden_header
from golden.evidence.probes import Probe
from golden.evidence.prompts import Prompt
from golden.evidence.ruler import common_columns
from golden.evidence.sketch import ROW_PROJECTIONS, Sketch, coarse_divergence, project
from golden.evidence.stages import Stages, diagnosis_prompt


@dataclass(frozen=True)
class GoldenEvidence:
    """A golden file as evidence. ``load`` reads one tensor by name."""

    header: Mapping[str, Any]
    load: Callable[[str], Tensor]

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        names = self.header["prompts"]
        return tuple(Prompt(name, tuple(self.load(f"prompt.{i}").tolist())) for i, name in enumerate(names))

    @property
    def std(self) -> float | None:
        return float(self.header["std"]) if "std" in self.header else None

    @property
    def table_sizes(self) -> Mapping[str, int]:
        return {str(name): int(size) for name, size in self.header["table_sizes"].items()}

    @property
    def used_vocab(self) -> int:
        return int(self.header["used_vocab"])

    @property
    def config(self) -> Mapping[str, Any]:
        return dict(self.header["config"])

    @property
    def beside(self) -> Beside | None:
        """What the reference has beside its weights; None in a golden file from before that was recorded."""
        kept = self.header.get("beside")
        return Beside.from_json(kept) if kept else None

    @property
    def distance(self) -> float | None:
        return None

    @property
    def sketch(self) -> Sketch | None:
        """How logits were made small; None in the full form."""
        return Sketch(**self.header["sketch"]) if self.header["form"] == "compact" else None

    def pair(self, index: int, logits: Tensor) -> tuple[Tensor, Tensor]:
        if self.sketch is None:
            return common_columns(logits, self.load(f"logits.{index}"))
        divisors = self.load(f"divisors.{index}") if index in self.header.get("divided", ()) else None
        common = divided(logits, divisors)
        return self.sketch.columns(common, self.load(f"top.{index}")), self.load(f"columns.{index}")

    def begin(self) -> None:
        """Nothing has to be run."""

    def divergence(self, found: Tensor, true: Tensor) -> Tensor:
        return divergence(true, found) if self.sketch is None else coarse_divergence(true, found, self.sketch.top)

    def pair_rows(self, table: str, start: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        expected = self.load(f"rows.{table}")[start : start + len(rows)]
        return project(rows, ROW_PROJECTIONS, self.header["seed"]), expected

    def continuation(self) -> Continuation:
        prompt, ids, margins = (self.load(f"continuation.{name}").tolist() for name in ("prompt", "ids", "margins"))
        return Continuation(tuple(prompt), tuple(ids), tuple(margins), bool(self.header["continuation_fresh"]))

    def calibration(self, dtype: str) -> Calibration:
        known = self.header["calibrations"].get(dtype)
        if known is None:
            raise GoldenFileError(
                f"this golden file does not hold the reference's own error in {dtype}; record it again with that dtype"
            )
        probes = tuple(
            Probe(**words, given=self.load(f"probe.{dtype}.{j}.given"), truth=self.load(f"probe.{dtype}.{j}.truth"))
            for j, words in enumerate(known["probes"])
        )
        return Calibration(dtype, Floor(known["rms"], known["max"], known["kl"]), tuple(known["prompts"]), probes)

    def spread(self) -> float:
        return float(self.header["spread"])

    def stages(self, index: int) -> Stages:
        """Hidden states of the diagnosis prompt, in the order of the forward pass; empty of others, or not recorded."""
        if index != diagnosis_prompt(self.prompts):
            return []
        return [(name, self.load(f"stage.{j}")) for j, name in enumerate(self.header.get("stages", []))]


def read_golden(path: Path) -> GoldenEvidence:
    """Open a golden file.

    Raises:
        GoldenFileError: it is missing, truncated, changed, no golden file, or of a version that is not known.
    """
    header = read_golden_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            keys = sorted(file.keys())
    except (OSError, SafetensorError) as broken:
        raise GoldenFileError(f"{path}: the golden file cannot be read ({broken}); record it again") from broken
    load = _loader(path)
    if header.get("digest") != content_digest(header, keys, load):
        raise GoldenFileError(f"{path}: its content was changed after it was recorded; copy or record it again")
    golden = GoldenEvidence(header, load)
    _check_ids(path, golden)
    _check_scale(path, golden)
    return golden


def _check_ids(path: Path, golden: GoldenEvidence) -> None:
    """Token ids must be those of a vocabulary of the recorded size, and prompts those that were recorded."""
    count, vocab = len(golden.header["prompts"]), int(golden.header["vocab"])
    names = [f"{kind}.{i}" for kind in ("prompt", *(["top"] if golden.sketch else [])) for i in range(count)]
    for name in (*names, "continuation.prompt", "continuation.ids"):
        ids = golden.load(name)
        if int(ids.min()) < 0 or int(ids.max()) >= vocab:
            raise GoldenFileError(f"{path}: {name} holds ids outside of the vocabulary of {vocab}; record it again")
    asked = [i for calibration in golden.header["calibrations"].values() for i in calibration["prompts"]]
    if any(i >= count for i in (*asked, *golden.header.get("divided", ()))):
        raise GoldenFileError(f"{path}: it speaks of more than its {count} prompts; record it again")


def _check_scale(path: Path, golden: GoldenEvidence) -> None:
    """The recorded deviation must be that of the recorded logits: with a larger one, any error would look small."""
    said, found, slack = golden.std, *_recorded_scale(golden)
    if said is None or not 0 < said <= found * slack:
        raise GoldenFileError(
            f"{path}: says that its logits deviate by {said}, they deviate by {found:.6g}; record it again"
        )


def _recorded_scale(golden: GoldenEvidence) -> tuple[float, float]:
    """Standard deviation of the recorded logits, and by which factor it may be off.

    In the compact form the root mean square of the projections stands for it: an estimate, and no smaller.
    """
    count, total, squares = 0, 0.0, 0.0
    for index in range(len(golden.header["prompts"])):
        values = golden.load(f"columns.{index}" if golden.sketch else f"logits.{index}").double()
        values = values[:, 1 + golden.sketch.top :] if golden.sketch else without_extremes(values, values)[0]
        count, total = count + values.numel(), total + float(values.sum())
        squares += float(values.square().sum())
    if golden.sketch:
        return math.sqrt(squares / max(1, count)), 4.0 if golden.sketch.projections >= 16 else 10.0
    mean = total / max(1, count)
    return math.sqrt(max(0.0, squares / max(1, count) - mean * mean)), 1 + 1e-6


def content_digest(header: Mapping[str, Any], names: Iterable[str], load: Callable[[str], Tensor]) -> str:
    """sha256 of a header without its ``digest``, and of the tensors: names, dtypes, shapes and bytes, by name."""
    rest = {name: value for name, value in header.items() if name != "digest"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(names):
        tensor = load(name).contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _loader(path: Path) -> Callable[[str], Tensor]:
    def load(name: str) -> Tensor:
        try:
            with safe_open(path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
        except (OSError, SafetensorError) as broken:
            raise GoldenFileError(f"{path}: {name}: cannot be read ({broken}); record the file again") from broken
        return tensor

    return load

"""``record``: run a reference once and write a golden file, for machines that do not have the reference."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from converters.checkpoint.cache_folders import sha256_of
from converters.engine.output_folder import make_folders
from golden.errors import GoldenError, UnknownLevelError, UnverifiableError
from golden.evidence.beside_weights import beside_weights
from golden.evidence.calibration import LOW_PRECISION, Calibration, attention_spread, calibrate, to_json
from golden.evidence.extremes import divided, extremes
from golden.evidence.golden_file import GoldenEvidence, content_digest
from golden.evidence.golden_header import HEADER, TOKENIZERS, VERSION
from golden.evidence.live import LiveEvidence, open_reference
from golden.evidence.prompts import prompt_length, reference_prompts
from golden.evidence.sketch import ROW_PROJECTIONS, Sketch, fitting_sketch, project
from golden.evidence.stages import diagnosis_prompt
from golden.evidence.versions import installed_versions
from golden.models.failures import enough_memory
from golden.models.folders import check_folder, read_config, stored_elements, vocabulary, weight_files
from golden.models.loading import load_model
from golden.models.memory import available_bytes, plan_run
from golden.models.obstacles import obstacle
from golden.models.running import CHUNK, ModelRunner
from golden.references import is_native, native_files
from golden.watching import Progress

SEED = 0
FEWEST_TOKENS = 32
"""The greedy text starts from so many, and a shorter prompt hides faults of positions."""
FULL_LIMIT = 64 * 2**20
"""Form ``auto`` takes the full form up to this many bytes of logits."""


def record(
    source: Path | str,
    output: Path | str,
    *,
    form: str = "auto",
    dtypes: Iterable[str] = tuple(LOW_PRECISION),
    hidden: bool = False,
    tokens: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Run a reference and write its golden file.

    Args:
        source: model folder of a transformers family (or of MixFormer, to judge ways back).
        form: ``full`` keeps all logits, ``compact`` a few columns made of them; ``auto`` takes full up to 64 MiB.
        dtypes: low precisions to measure the floor of L3 in.
        hidden: also keep hidden states of one short prompt, for the diagnosis of a failure.
        tokens: length of a prompt at most, for a smaller file; what a model does at a length of its own (a window, a
            change of its rotary frequencies) is reached all the same.
        force: replace an existing file.

    Raises:
        GoldenError: ``output`` exists or cannot be written.
        UnknownLevelError: ``form`` is not known, or ``tokens`` is below 32.
        FolderError, UnusableReferenceError, NondeterministicReferenceError: the source cannot be a reference.
        UnverifiableError: the source does not fit into memory, or its model cannot be built or run.
    """
    folder, target = Path(source), Path(output)
    if form not in ("auto", "full", "compact"):
        raise UnknownLevelError(f"form {form!r} is not one of auto, full, compact")
    if tokens is not None and tokens < FEWEST_TOKENS:
        raise UnknownLevelError(f"prompts of {tokens} tokens show too little; give {FEWEST_TOKENS} or more")
    _check_target(target, force)
    check_folder(folder)
    with enough_memory(f"{folder} cannot be recorded"):
        live = _reference(folder, tokens)
        header, tensors = _recorded(live, folder, form, tuple(dtypes), hidden, progress)
    _write(target, header | {"version": VERSION}, tensors)
    return target


def _reference(folder: Path, tokens: int | None) -> LiveEvidence:
    """The opened reference, with prompts of that many tokens at most."""
    return open_reference(
        folder, lambda r, used: reference_prompts(folder, r.model.config, used, most=tokens), _dtype(folder)
    )


def _recorded(
    live: LiveEvidence, folder: Path, form: str, dtypes: tuple[str, ...], hidden: bool, progress: Progress | None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of the golden file."""
    header, tensors = _logits(live, form, progress)
    evidence = GoldenEvidence(header, tensors.__getitem__)
    _add_text(live, header, tensors)
    _add_rows(live, tensors)
    if hidden:
        stages = live.stages(diagnosis_prompt(live.prompts))
        header["stages"] = [name for name, _ in stages]
        tensors |= {f"stage.{j}": values.contiguous() for j, (_, values) in enumerate(stages)}
    header["spread"] = _float32_spread(folder, live)
    header |= {"config": read_config(folder), "calibrations": {}}
    for dtype in dtypes:
        if obstacle(header["config"], LOW_PRECISION[dtype]):
            continue
        _add_calibration(calibrate(folder, dtype, evidence, live.runner), header, tensors)
    header |= _provenance(folder, live)
    return header, tensors


def _check_target(target: Path, force: bool) -> None:
    """Refuses a bad target before the reference runs, which takes minutes."""
    if target.is_dir():
        raise GoldenError(f"{target} is a folder; give the name of a file")
    if target.exists() and not force:
        raise GoldenError(f"{target} exists already; choose another name, or replace it with --force")
    try:
        make_folders(target.parent)
    except OSError as unwritable:
        raise GoldenError(f"{target.parent}: not a folder that can be written to ({unwritable})") from unwritable


def _write(target: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Writes under another name first, so that a file with the target's name is always complete."""
    header["digest"] = content_digest(header, tensors, tensors.__getitem__)
    partial = target.with_name(f".{target.name}.partial")
    metadata = {HEADER: json.dumps(header, sort_keys=True)}
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata)
        partial.chmod(0o644)  # whatever the umask
        partial.replace(target)
    except (OSError, SafetensorError) as unwritable:
        raise GoldenError(f"{target}: cannot be written ({unwritable})") from unwritable
    finally:
        partial.unlink(missing_ok=True)


def _dtype(folder: Path) -> torch.dtype:
    elements = stored_elements(folder)
    plan = plan_run(elements, 0, prompt_length(elements) * vocabulary(folder), available_bytes())
    if not plan.fits:
        raise UnverifiableError(f"{folder}: recording {plan}")
    return torch.float64 if plan.itemsize == 8 else torch.float32


def _logits(live: LiveEvidence, form: str, progress: Progress | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors with prompts and logits, in the form asked for."""
    tensors: dict[str, Tensor] = {}
    values, sketch = [], None
    for index, prompt in enumerate(live.prompts):
        if progress is not None:
            progress(f"record: {prompt.name}", index, len(live.prompts))
        logits = live.runner.logits(prompt.ids)  # (tokens, vocab)
        if not index:
            sketch = _sketch(form, logits, sum(len(prompt.ids) for prompt in live.prompts))
        divisors = extremes(logits)
        common = divided(logits, divisors)
        values.append((common.sum(dtype=torch.float64), common.double().square().sum(), common.numel()))
        tensors[f"prompt.{index}"] = torch.tensor(prompt.ids)
        tensors |= {f"logits.{index}": logits} if sketch is None else _columns(index, sketch, common, divisors)
    header: dict[str, Any] = {"seed": SEED, "vocab": logits.shape[1], "std": _std(values)}
    header |= {"form": "full"} if sketch is None else {"form": "compact", "sketch": _words(sketch)}
    header["divided"] = [i for i in range(len(live.prompts)) if f"divisors.{i}" in tensors]
    return header | {"prompts": [prompt.name for prompt in live.prompts]}, tensors


def _std(values: list[tuple[Tensor, Tensor, int]]) -> float:
    count = sum(n for _, _, n in values)
    mean = float(sum(float(total) for total, _, _ in values)) / count
    return float(max(0.0, sum(float(squares) for _, squares, _ in values) / count - mean * mean) ** 0.5)


def _sketch(form: str, logits: Tensor, tokens: int) -> Sketch | None:
    """How logits are made small; None for the full form, which a small vocabulary always gets."""
    full = tokens * logits.shape[1] * logits.element_size() <= FULL_LIMIT if form == "auto" else form == "full"
    return None if full else fitting_sketch(logits.shape[1])


def _columns(index: int, sketch: Sketch, common: Tensor, divisors: Tensor | None) -> dict[str, Tensor]:
    largest = sketch.largest(common)
    found = {f"top.{index}": largest, f"columns.{index}": sketch.columns(common, largest)}
    return found if divisors is None else found | {f"divisors.{index}": divisors}


def _words(sketch: Sketch) -> dict[str, int]:
    return {"vocab": sketch.vocab, "top": sketch.top, "projections": sketch.projections, "seed": sketch.seed}


def _add_text(live: LiveEvidence, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    text = live.continuation()
    header["continuation_fresh"] = text.fresh
    tensors["continuation.prompt"] = torch.tensor(text.prompt)
    tensors["continuation.ids"] = torch.tensor(text.ids)
    tensors["continuation.margins"] = torch.tensor(text.margins, dtype=torch.float64)


def _add_rows(live: LiveEvidence, tensors: dict[str, Tensor]) -> None:
    for table, size in live.table_sizes.items():
        chunks = [live.runner.rows(table, at, min(size, at + CHUNK)) for at in range(0, size, CHUNK)]
        tensors[f"rows.{table}"] = torch.cat([project(rows, ROW_PROJECTIONS, SEED) for rows in chunks])


def _float32_spread(folder: Path, live: LiveEvidence) -> float:
    if live.runner.model.dtype is torch.float32:
        return live.spread()
    return attention_spread(ModelRunner(load_model(folder, torch.float32, "eager")), live.prompts)


def _add_calibration(calibration: Calibration, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    words = [{"name": probe.name, "role": probe.role, "own": probe.own} for probe in calibration.probes]
    header["calibrations"][calibration.dtype] = to_json(calibration) | {"probes": words}
    for j, probe in enumerate(calibration.probes):
        tensors[f"probe.{calibration.dtype}.{j}.given"] = probe.given
        tensors[f"probe.{calibration.dtype}.{j}.truth"] = probe.truth


def _provenance(folder: Path, live: LiveEvidence) -> Mapping[str, Any]:
    return {
        "family": read_config(folder).get("model_type"),
        "dtype": str(live.runner.model.dtype).removeprefix("torch."),
        "used_vocab": live.used_vocab,
        "table_sizes": dict(live.table_sizes),
        "hashes": dict(_hashes(folder)),
        "versions": installed_versions(),
        "beside": beside_weights(folder).to_json(),
        "texts": [prompt.name for prompt in live.prompts if prompt.text is not None],
    }


def _hashes(folder: Path) -> Iterator[tuple[str, str]]:
    """sha256 of weights, config and tokenizer files."""
    files = native_files(folder) if is_native(folder) else weight_files(folder)
    place = folder if folder.is_dir() else folder.parent
    names = [path.name for path in files]
    names += ["config.json", *TOKENIZERS]
    for name in names if folder.is_dir() else names[: len(files)]:
        path = place / name
        if path.exists():
            yield name, sha256_of(path)

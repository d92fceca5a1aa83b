"""`convert`: one conversion from a source folder to an output folder."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from converters import provenance
from converters.checkpoint.cache_folders import snapshot_of
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.json_files import as_bytes
from converters.checkpoint.opening import open_checkpoint
from converters.checkpoint.side_files import README, side_files
from converters.config.table import RESIDUE
from converters.engine.checks import run_checks
from converters.engine.output_folder import (
    check_target,
    copy_file,
    existing_above,
    make_folders,
    new_folder,
    write_file,
)
from converters.engine.shard_layout import Shard, index_json, lay_out
from converters.engine.shard_writing import Writing, write_shards
from converters.errors import HeadDiffers, NotInvertible, TargetRefused
from converters.family import OURS, dialect_of, get_family
from converters.family_of import target_family
from converters.paging import pager_of
from converters.plan.baking import with_bake
from converters.plan.options import DEFAULTS, Options
from converters.plan.plan import Plan, make_plan
from converters.plan.translation import unstored
from converters.remote_code.exported import AUTO_MAP, CLASSES, code_files

if TYPE_CHECKING:
    from converters.forms.native_files import NativeForm

MARGIN = 16 << 20  # bytes that stay free on the target's disk


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did. `nbytes` of tensors; `up_to_date`: the target was complete already, nothing was written.

    nonfinite: the number of values that are NaN or infinite, by key of the source; they are copied unchanged.
    """

    family: str
    to: str
    source: Path
    output: Path
    tensors: int
    nbytes: int
    files: tuple[str, ...]
    up_to_date: bool = False
    notes: tuple[str, ...] = ()
    nonfinite: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """Options of a conversion, as on the command line.

    max_shard_size: in bytes, None for the source's own shards. native: write the target family's own file form. code:
    beside a MixFormer, write the code that transformers loads it with where this package is not installed. update:
    replace an output that answers another request, if nobody has changed it since it was written.
    """

    options: Options = DEFAULTS
    max_shard_size: int | None = None
    force: bool = False
    writing: Writing = field(default_factory=Writing)
    native: bool = False
    code: bool = True
    update: bool = False

    def writes_code(self, to: str) -> bool:
        """Whether the output holds code: that of a MixFormer, unless it is left out."""
        return self.code and to == OURS and not self.native


def convert(
    source: str | Path | Checkpoint,
    family: str | None = None,
    to: str = OURS,
    output: str | Path | None = None,
    request: Request | None = None,
) -> ConversionReport:
    """Converts a checkpoint. The output is complete or does not exist.

    Args:
        source: a model folder, or one that is open already.
        family: the family of the source; None: it is found by `model_type`.
        to: the family to convert to.
        output: the target folder; None: `./<source name>-<to>`.
        request: options.

    Raises:
        ConversionError: see `converters.errors`; nothing was written.
        OSError: the disk failed while writing; nothing was kept.
    """
    request = request or Request()
    options = request.options
    if not isinstance(source, Checkpoint):
        source = open_checkpoint(Path(source), dequantize=options.dequantize)
    checkpoint = with_bake(source) if options.bake else source
    provenance.read_record(checkpoint.folder)  # a broken one is refused, as in every command
    target = Path(output) if output else default_output(checkpoint.folder, to)
    plan = (make_plan if checkpoint.unpack else checked_plan)(checkpoint, family, to, options)
    form = _native(plan.to) if request.native else None
    code = code_files() if request.writes_code(plan.to) else {}
    asked = provenance.request(plan, request.max_shard_size, native=request.native, code=bool(code))
    if not request.force and provenance.up_to_date(target, asked):
        return _report(plan, target, (), up_to_date=True)
    request = replace(request, force=request.force or (request.update and provenance.is_untouched(target)))
    check_target(checkpoint.folder, target, force=request.force)
    if checkpoint.unpack:
        _check_space(target, 2 * plan.nbytes)
        plan = checked_plan(checkpoint.unpacked(existing_above(target.absolute().parent)), family, to, options)
    shards = form.lay_out(plan) if form else lay_out(plan, request.max_shard_size)
    _check_space(target, sum(shard.nbytes for shard in shards))
    small = form.small(plan) if form else _small(plan, shards, code)
    files = _write(plan, shards, target, request, asked, form, small)
    report = _report(plan, target, files)
    notes = (*report.notes, *_form_notes(plan, form))
    return replace(report, notes=notes, nonfinite=request.writing.nonfinite)


def checked_plan(source: Checkpoint, family: str | None, to: str, options: Options) -> Plan:
    """The plan, after the checks that need the data.

    A model that says tied but has a head of its own is planned again as untied. Tensors that the source did not store,
    because all of their values were equal, are written where they have other values now.

    Raises:
        ConversionError: as `make_plan` and `run_checks`.
    """
    try:
        plan = make_plan(source, family, to, options)
        run_checks(plan)
    except HeadDiffers:
        if options.own_head:  # something else than the head differed
            raise
        return checked_plan(source, family, to, replace(options, own_head=True))
    except NotInvertible:
        if options.trained or not unstored(source.config, target_family(to, source.config)):
            raise
        return checked_plan(source, family, to, replace(options, trained=True))
    return plan


def default_output(source: Path, to: str) -> Path:
    """`./<source name>-<to>`, without the suffix of a file; a repo in the Hub's cache goes by its own name."""
    if snapshot := snapshot_of(source):
        return Path(f"{source.stem if source.is_file() else snapshot.name}-{to}")
    source = source.resolve()
    return Path(f"{source.stem if source.is_file() else source.name}-{to}")


def _native(family: str) -> "NativeForm":
    """The native form of a family. Only this import loads the readers of other forms."""
    from converters.forms.native_files import native_form

    return native_form(family)


def _form_notes(plan: Plan, form: "NativeForm | None") -> list[str]:
    """What a native form leaves out, or that one was not written."""
    if form:
        left_out = (form.left_out, *form.notes(plan))
        return [f"not in {form.name}: {name}" for name in left_out if name]
    to = plan.to
    if not dialect_of(to) or get_family(to).is_folder:
        return []
    from converters.forms.native_files import FORMS

    told = f"written as safetensors with the key names of {to}, which programs for {to} do not read"
    return [f"{told}; --format native writes {FORMS[to].name}" if to in FORMS else told]


def _report(plan: Plan, target: Path, files: tuple[str, ...], *, up_to_date: bool = False) -> ConversionReport:
    source, dropped = plan.source.folder, tuple(f"{key} was left out (--drop-buffers)" for key in plan.dropped)
    for step in plan.source.lossy:
        if step["step"] == "bake":
            dropped += (
                f"lossy step: {step['tensors']} parametrised matrices were divided by their lengths (recorded)",
            )
            continue
        dropped += (f"lossy step: quantised tensors ({', '.join(step['types'])}) were converted to float32 (recorded)",)
    if plan.left_out:
        dropped += (f"lossy step: {', '.join(plan.left_out)} left out (--drop, recorded)",)
    if plan.cropped_from:
        rows = f"{plan.options.crop_vocab}..{plan.cropped_from - 1}"
        dropped += (f"lossy step: rows {rows} of the vocabulary were cut off (recorded)",)
    if any(tensor.cast_from for tensor in plan.tensors):
        dropped += (f"lossy step: every floating-point tensor was cast to {plan.options.dtype} (recorded)",)
    size = (len(plan.tensors), plan.nbytes)
    return ConversionReport(plan.family, plan.to, source, target, *size, files, up_to_date, (*plan.notes, *dropped))


def _check_space(target: Path, need: int) -> None:
    """Refuses a target that does not fit on the disk, before anything is written."""
    have = shutil.disk_usage(existing_above(target.absolute().parent)).free
    if have < need + MARGIN:
        raise TargetRefused(f"{target} needs {need + MARGIN:,} bytes of disk space, {have:,} are free")


def _write(
    plan: Plan,
    shards: tuple[Shard, ...],
    target: Path,
    request: Request,
    asked: dict[str, object],
    form: "NativeForm | None",
    small: Mapping[str, bytes],
) -> tuple[str, ...]:
    durable = request.writing.fsync
    with new_folder(target, replace=request.force, durable=durable) as folder:
        try:
            digests = write_shards(shards, plan.source, folder, request.writing)
            if form:
                digests = form.finished(plan, folder, digests, request.writing)
            digests |= _write_small(plan, small, folder, durable=durable)
        except OSError as error:
            free = shutil.disk_usage(folder).free
            reason = f"{os.strerror(error.errno) if error.errno else error} ({free:,} bytes free)"
            raise TargetRefused(f"writing {target} failed: {reason}; nothing was kept") from error
        if not request.writing.hash:
            digests = dict.fromkeys(digests)
        recorded = {name: digest for name, digest in digests.items() if name != README}  # a card may be edited
        content = {
            **provenance.record(asked, plan, recorded, request.writing.errors),
            **_streamed(plan.source),
            "written": provenance.written(folder, recorded),
        }
        write_file(folder / provenance.NAME, as_bytes(content), durable=durable)
    return tuple(sorted([*digests, provenance.NAME]))


def _streamed(source: Checkpoint) -> dict[str, object]:
    """What is recorded of a source that was never whole on disk."""
    pager = pager_of(source.folder)
    return {"streamed": dict(pager.report())} if pager else {}


def _small(plan: Plan, shards: tuple[Shard, ...], code: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files that are made here: config.json, the index, the code."""
    index = index_json(shards)
    config = {**plan.config, AUTO_MAP: dict(CLASSES)} if code else plan.config
    found = {"config.json": as_bytes(config), **code}
    return {**found, "model.safetensors.index.json": index.encode()} if index else found


def _write_small(plan: Plan, made: Mapping[str, bytes], folder: Path, *, durable: bool) -> dict[str, str | None]:
    """Writes the files that are made here and the side files; returns their sha256."""
    residue = plan.source.config.get(RESIDUE)
    home = plan.to != OURS and isinstance(residue, dict) and residue.get("family") == plan.to
    for name, data in made.items():
        write_file(folder / name, data, durable=durable)
    found: dict[str, str | None] = {name: hashlib.sha256(data).hexdigest() for name, data in made.items()}
    for name, path in side_files(plan.source.folder, home=home).items():
        make_folders((folder / name).parent)
        found[name] = copy_file(path, folder / name, durable=durable)
    return found

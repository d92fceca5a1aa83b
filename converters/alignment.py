"""Two checkpoints held against each other, also across families: what the mapping says of one, the other must hold.

The mapping is derived from both config files. Nothing that a conversion wrote about itself is read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters.algebra.boxes import whole
from converters.checkpoint.checkpoint import Checkpoint, StoredTensor
from converters.checkpoint.opening import open_checkpoint
from converters.checkpoint.side_files import differing_side_files
from converters.checkpoint.users_word import RECORD, check_said
from converters.config.kinds import same
from converters.config.layout import resolve
from converters.config.table import RESIDUE
from converters.config.waivers import is_said
from converters.config_alignment import DTYPES, UNNAMED, compare_configs, families_of
from converters.conversion import checked_plan
from converters.engine.bytewise import Difference, differing_element
from converters.engine.checks import run_checks
from converters.errors import Refused
from converters.family import OURS, dialect_of, get_family
from converters.family_of import family_of, is_unnamed
from converters.plan.known_buffers import find_buffers
from converters.plan.leaving_out import found_patterns
from converters.plan.options import DEFAULTS, Options
from converters.plan.plan import Plan
from converters.plan.rules import TargetTensor
from converters.plan.translation import as_it_is, without_copies
from converters.plan.vocabulary import cropped_config, is_padded_low
from converters.provenance import read_record, recorded_options
from converters.readable_sides import open_reference, readable
from converters.remote_code.exported import AUTO_MAP, differing_code, is_ours

WIDER = {"BF16": ("F32", "F64"), "F16": ("F32", "F64"), "F32": ("F64",)}  # dtypes that hold every number of another
Counted = Callable[[int, int], object]  # called with the bytes that are done, and with all
MISSING, EXTRA = "is missing", "is not expected"


@dataclass(frozen=True)
class TensorDifference:
    """A tensor that is not what the mapping gives for the reference; `element`: the first differing flat index."""

    reference_key: str
    candidate_key: str
    element: int | None
    reason: str


@dataclass(frozen=True)
class Alignment:
    """What a mapping says about two checkpoints.

    mapped: a mapping between the two families exists. problems: what is wrong with keys, shapes, dtypes or config, one
    sentence each. doubts: fields of which nothing is known but that they differ. plan: makes one side in the layout of
    the other, `held`. swapped: the plan starts at the candidate. unplanned: tensors of the candidate that no plan could
    be made for, so that nothing was compared.
    """

    mapped: bool
    problems: tuple[str, ...]
    plan: Plan | None = None
    held: Checkpoint | None = None
    swapped: bool = False
    doubts: tuple[str, ...] = ()
    unplanned: int = 0

    def differing(self, progress: Counted | None = None) -> Iterator[TensorDifference]:
        """Tensors that are not what the mapping gives for the other side: missing, extra, or with other contents."""
        if self.plan is None or self.held is None:
            return
        done = 0
        for tensor in self.plan.tensors:
            if progress:
                progress(done, self.plan.nbytes)
            done += tensor.nbytes
            stored = self.held.tensors.get(tensor.key)
            sources = ", ".join(tensor.sources)
            if stored is None:
                yield self._difference(sources, tensor.key, None, MISSING)
            elif reason := _other_kind(stored, tensor):
                yield self._difference(sources, tensor.key, None, reason)
            elif found := differing_element(self.plan.source, widened(tensor, stored.dtype), self.held):
                yield self._difference(_source_key(tensor, found), tensor.key, found.element, str(found))
        for key in sorted(self.held.tensors.keys() - {tensor.key for tensor in self.plan.tensors}):
            yield self._difference("nothing", key, None, EXTRA)

    def wider(self) -> Iterator[str]:
        """Tensors that are stored in a wider dtype than the mapping gives, a sentence each."""
        for tensor in self.plan.tensors if self.plan and self.held else ():
            stored = self.held.tensors.get(tensor.key) if self.held else None
            if stored and stored.dtype in WIDER.get(tensor.dtype, ()):
                yield f"{tensor.key} is {stored.dtype}, expected {tensor.dtype}"

    def _difference(self, source: str, held: str, element: int | None, reason: str) -> TensorDifference:
        """`source` is a key of where the plan starts, `held` one of the other side."""
        turned = {MISSING: EXTRA, EXTRA: MISSING}.get(reason, reason) if self.swapped else reason
        return TensorDifference(*((held, source) if self.swapped else (source, held)), element, turned)


def _other_kind(stored: StoredTensor, expected: TargetTensor) -> str:
    """What is wrong with shape or dtype, in words; empty where the values can be compared.

    A wider dtype can hold the same numbers, and is no difference as long as it does.
    """
    if stored.shape == expected.shape and stored.dtype in (expected.dtype, *WIDER.get(expected.dtype, ())):
        return ""
    was, wanted = f"{stored.dtype} {list(stored.shape)}", f"{expected.dtype} {list(expected.shape)}"
    return f"is {was}, expected {wanted}"


def widened(tensor: TargetTensor, dtype: str) -> TargetTensor:
    """The tensor in a wider dtype, which holds the same numbers."""
    if dtype == tensor.dtype:
        return tensor
    return replace(tensor, dtype=dtype, cast_from=tensor.cast_from or tensor.dtype)


def _source_key(tensor: TargetTensor, found: Difference) -> str:
    """The source tensor that the differing element comes from."""
    before = [piece for piece in tensor.pieces if piece.target_offset <= found.element and piece.source]
    return (before[-1].source if before else None) or ", ".join(tensor.sources)


def align(candidate: str | Path, reference: str | Path, *, casts: bool = True) -> Alignment:
    """Compares a candidate with a reference through the mapping between their families.

    Across families both are held against each other in MixFormer's layout, so that a form which says the same (a
    wrapped key, a redundant head) is no difference. casts: a cast that the candidate recorded is applied first, and
    buffers that it says were dropped are none of the reference's. Fields that a side says were waived mean nothing.

    Raises:
        ConversionError: one of the two cannot be read, or the reference itself is not a sound checkpoint.
    """
    one = readable(open_checkpoint(Path(candidate)), Path(candidate))
    other = open_reference(Path(reference), one)
    for side in (one, other):
        check_said(side)
    if casts:
        one, other = _bare(one), _bare(other)
    families = families_of(one.config, other.config)
    if families[0] == families[1]:
        return _aligned(identity(other), one, swapped=False)
    asked = replace(recorded_options(one.folder) if casts else DEFAULTS, qkv_shards=None)
    cast = replace(asked, waive=_waived(other, asked.waive, one, other), drop=found_patterns(other, asked.drop))
    if OURS not in families:
        return _translated(one, other, families, cast)
    if families[0] == OURS:
        options = replace(cast, pad_vocab=_padding(other, one), pad_low=is_padded_low(one.config))
        return _aligned(checked_plan(other, families[1], OURS, options), one, swapped=False)
    try:
        waived = _waived(one, asked.waive, one, other)
        options = replace(DEFAULTS, waive=waived, pad_vocab=_padding(one, other), pad_low=is_padded_low(other.config))
        plan = checked_plan(one, families[0], OURS, options)
    except Refused as error:
        return Alignment(True, (str(error),), unplanned=len(one.tensors))
    if cast.dtype or cast.crop_vocab or cast.drop:
        plan = checked_plan(other, families[1], families[0], cast)
        return _aligned(plan, one, swapped=False)
    found = _aligned(plan, other, swapped=True)
    return (_other_way(one, other, families) or found) if found.problems else found


def _other_way(one: Checkpoint, other: Checkpoint, families: tuple[str, str]) -> Alignment | None:
    """A candidate that is what the mapping gives for the reference, and that the way back cannot tell.

    It has tensors that the reference does not have (biases of zero), or holds some in a wider dtype. Tables that a
    formula gives are checked and left out.
    """
    try:
        held = _without_buffers(one, families[0])
        found = _aligned(checked_plan(other, families[1], families[0], DEFAULTS), held, swapped=False)
    except Refused:
        return None
    return None if found.problems else found


def _without_buffers(side: Checkpoint, name: str) -> Checkpoint:
    family = get_family(name)
    known = find_buffers(side, family.buffers, resolve(family.config.to_ours(side.config, name))).keys()
    return replace(side, tensors={key: tensor for key, tensor in side.tensors.items() if key not in known})


def _bare(side: Checkpoint) -> Checkpoint:
    """A MixFormer without the copy of its embedding and the rotary tables that files of torch hold, if they are these.

    Anything else stays, and is then a tensor that is not expected.
    """
    if not side.generation:  # no MixFormer
        return side
    try:
        model = without_copies(as_it_is(side))
        run_checks(Plan(side, OURS, OURS, side.config, (), model.checks))
    except Refused:
        return side
    return replace(side, tensors={key: side.tensors[key] for key in model.tensors})


def _translated(one: Checkpoint, other: Checkpoint, families: tuple[str, str], cast: Options) -> Alignment:
    """Compares two families other than MixFormer: one side is converted to the family of the other.

    A dialect is the one that is translated, for it may hold tables that a formula gives and the other does not have.
    """
    swapped = dialect_of(families[0]) != "" and cast == DEFAULTS
    source, held, to = (one, other, families[1]) if swapped else (other, one, families[0])
    try:
        plan = checked_plan(source, None, to, cast)
    except Refused as error:
        why = f"{family_of(source.config)} cannot be converted to {to}: {error}"
        return Alignment(False, (why,), unplanned=len(one.tensors))
    found = _aligned(plan, held, swapped=swapped)
    return (_other_way(one, other, families) or found) if swapped and found.problems else found


def _waived(source: Checkpoint, asked: Sequence[str], *sides: Checkpoint) -> tuple[str, ...]:
    """Fields of the source's config that the conversion was asked to waive, or that a MixFormer says were waived."""
    residues = [side.config.get(RESIDUE) for side in sides]
    told = [residue.get("waived") for residue in residues if isinstance(residue, dict)]
    names = {*asked, *(name for listed in told if isinstance(listed, list) for name in listed if isinstance(name, str))}
    return tuple(sorted(name for name in names if is_said(source.config, name)))


def _padding(theirs: Checkpoint, ours: Checkpoint) -> int | None:
    """Rows of our vocabulary where they are more than theirs: the multiple that theirs were padded to."""
    rows, most = theirs.config.get("vocab_size"), ours.config.get("vocab_size")
    return most if type(rows) is int and type(most) is int and most > rows else None


def _aligned(plan: Plan, held: Checkpoint, *, swapped: bool) -> Alignment:
    candidate, reference = (plan.source, held) if swapped else (held, plan.source)
    found = compare_configs(candidate.config, _as_asked(reference.config, plan), plan.options.waive)
    return Alignment(True, (*_structure(plan, held), *found.problems), plan, held, swapped, found.doubts)


def _as_asked(reference: Mapping[str, Any], plan: Plan) -> Mapping[str, Any]:
    """The reference's config, with the dtype of a cast and the rows of a vocabulary that were asked for."""
    if plan.options.crop_vocab:
        reference = cropped_config(reference, plan.options.crop_vocab)
    if not plan.options.dtype:
        return reference
    return {**reference, **{name: plan.options.dtype for name in DTYPES if name in reference}}


def identity(source: Checkpoint) -> Plan:
    """The plan that changes nothing."""
    tensors = tuple(
        TargetTensor(t.key, t.dtype, t.shape, (whole(t.key, t.shape),), (t.key,)) for t in source.tensors.values()
    )
    name = UNNAMED if is_unnamed(source.config) else family_of(source.config)
    return Plan(source, name, name, source.config, tensors, ())


def _structure(plan: Plan, held: Checkpoint) -> Iterator[str]:
    expected = {tensor.key: tensor for tensor in plan.tensors}
    for key in sorted(set(expected) - set(held.tensors)):
        yield f"{key} {MISSING}"
    for key in sorted(set(held.tensors) - set(expected)):
        yield f"{key} {EXTRA}"
    for key in sorted(set(expected) & set(held.tensors)):
        if reason := _other_kind(held.tensors[key], expected[key]):
            yield f"{key} {reason}"


def equal_folders(one: str | Path, other: str | Path, progress: Counted | None = None) -> list[str]:
    """Differences between two folders as `convert diff` prints them; empty if they are equal.

    Tensor bytes, config as JSON and side files count; sharding and conversion.json do not. The code that this version
    writes beside a MixFormer may be there or not; other code counts.

    Raises:
        ConversionError: one of the two cannot be read.
    """
    for folder in (one, other):
        read_record(Path(folder))  # it counts for nothing, but a broken one is told
    alignment = align(other, one, casts=False)
    found = list(alignment.problems)
    found += alignment.wider()
    found += (f"{d.candidate_key}: {d.reason}" for d in alignment.differing(progress) if d.element is not None)
    if alignment.plan is not None and alignment.held is not None and alignment.plan.family == alignment.plan.to:
        found += _json_differences(alignment.plan.source.config, alignment.held.config)
        found += differing_side_files(Path(one), Path(other))
        found += differing_code(Path(one), Path(other)) if alignment.plan.family == OURS else ()
    return list(dict.fromkeys(found))


def _json_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    one, other = _without_own_code(one), _without_own_code(other)
    for name in sorted((one.keys() | other.keys()) - {RECORD}):
        if name not in one or name not in other:
            yield f"config.json: {name} is only in {'the first' if name in one else 'the second'}"
        elif not same(one[name], other[name]):
            yield f"config.json: {name} is {one[name]!r} and {other[name]!r}"


def _without_own_code(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config without the `auto_map` that a conversion writes."""
    return {name: value for name, value in config.items() if name != AUTO_MAP or not is_ours(value)}

"""Two checkpoints held against each other, also across families: what the mapping says of one, the other must hold.

The mapping is derived from both config files. Nothing that a conversion wrote about itself is read.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters.algebra.boxes import whole
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.opening import open_checkpoint
from converters.checkpoint.side_files import differing_side_files
from converters.checkpoint.users_word import RECORD, check_n_head
from converters.config import layout
from converters.config.entries import Theirs
from converters.config.kinds import same
from converters.config.table import BASE, OURS_FREE, RESIDUE
from converters.conversion import checked_plan
from converters.engine.bytewise import Difference, differing_element
from converters.errors import Refused
from converters.family import OURS, dialect_of, family_of, get_family
from converters.plan.options import DEFAULTS, Options
from converters.plan.plan import Plan
from converters.plan.rules import TargetTensor
from converters.provenance import recorded_dequantisation, recorded_options

# Fields that may differ between two checkpoints of one function.
FREE = BASE | OURS_FREE | {"dtype", "use_cache", "initializer_range", "pad_vocab_size_multiple"}


@dataclass(frozen=True)
class TensorDifference:
    """A tensor that is not what the mapping makes of the reference; `element` is the first differing flat index."""

    reference_key: str
    candidate_key: str
    element: int | None
    reason: str


@dataclass(frozen=True)
class Alignment:
    """What a mapping says about two checkpoints.

    mapped: a mapping between the two families exists. problems: what is wrong with keys, shapes, dtypes or config, one
    sentence each. plan: makes one side in the layout of the other, `held`. swapped: the plan starts at the candidate.
    """

    mapped: bool
    problems: tuple[str, ...]
    plan: Plan | None = None
    held: Checkpoint | None = None
    swapped: bool = False

    def differing(self) -> Iterator[TensorDifference]:
        """Tensors whose bytes differ; those with problems of shape are left out, they are listed already."""
        if self.plan is None or self.held is None:
            return
        for tensor in self.plan.tensors:
            stored = self.held.tensors.get(tensor.key)
            if stored is None or stored.shape != tensor.shape or stored.dtype != tensor.dtype:
                continue
            found = differing_element(self.plan.source, tensor, self.held)
            if found:
                keys = (_source_key(tensor, found), tensor.key)
                yield TensorDifference(*(keys[::-1] if self.swapped else keys), found.element, str(found))


def _source_key(tensor: TargetTensor, found: Difference) -> str:
    """The source tensor that the differing element comes from."""
    before = [piece for piece in tensor.pieces if piece.target_offset <= found.element and piece.source]
    return (before[-1].source if before else None) or ", ".join(tensor.sources)


def align(candidate: str | Path, reference: str | Path, *, casts: bool = True) -> Alignment:
    """Holds a candidate against a reference through the mapping between their families.

    Across families both are held against each other in MixFormer's layout, so that a form which says the same (a
    wrapped key, a redundant head) is no difference. casts: a cast that the candidate recorded is applied first, and
    buffers that it says were dropped are none of the reference's. Fields that a side says were waived mean nothing.

    Raises:
        ConversionError: one of the two cannot be read, or the reference itself is not a sound checkpoint.
    """
    one = open_checkpoint(Path(candidate))
    other = _reference(Path(reference), one)
    for side in (one, other):
        check_n_head(side)
    families = family_of(one.config, _origin(other.config)), family_of(other.config, _origin(one.config))
    if families[0] == families[1]:
        return _aligned(identity(other), one, families, swapped=False)
    asked = recorded_options(one.folder) if casts else DEFAULTS
    cast = replace(asked, waive=_waived(other, asked.waive, one, other))
    if OURS not in families:
        return _translated(one, other, families, cast)
    if families[0] == OURS:
        options = replace(cast, pad_vocab=_padding(other, one))
        return _aligned(checked_plan(other, families[1], OURS, options), one, families, swapped=False)
    try:
        waived = _waived(one, asked.waive, one, other)
        options = replace(DEFAULTS, waive=waived, pad_vocab=_padding(one, other))
        plan = checked_plan(one, families[0], OURS, options)
    except Refused as error:
        return Alignment(True, (str(error),))
    if cast.dtype:
        plan = checked_plan(other, families[1], families[0], cast)
        return _aligned(plan, one, families, swapped=False)
    found = _aligned(plan, other, families, swapped=True)
    return (_other_way(one, other, families) or found) if found.problems else found


def _other_way(one: Checkpoint, other: Checkpoint, families: tuple[str, str]) -> Alignment | None:
    """A candidate that is what the mapping makes of ours, though it says more than ours does (biases of zero)."""
    try:
        found = _aligned(checked_plan(other, families[1], families[0], DEFAULTS), one, families, swapped=False)
    except Refused:
        return None
    return None if found.problems else found


def _reference(path: Path, candidate: Checkpoint) -> Checkpoint:
    """The reference, dequantised where the candidate's record says that it was."""
    if not recorded_dequantisation(candidate.folder):
        return open_checkpoint(path)
    beside = candidate.folder.absolute().parent
    place = beside if os.access(beside, os.W_OK) else Path(tempfile.gettempdir())
    return open_checkpoint(path, dequantize=True).unpacked(place)


def _translated(one: Checkpoint, other: Checkpoint, families: tuple[str, str], cast: Options) -> Alignment:
    """Two families that are not ours: the reference, translated, against the candidate, or the other way round.

    A dialect is the one that is translated, for it may hold tables that a formula gives and the other does not have.
    """
    swapped = dialect_of(families[0]) != "" and cast == DEFAULTS
    source, held, to = (one, other, families[1]) if swapped else (other, one, families[0])
    try:
        plan = checked_plan(source, None, to, cast)
    except Refused as error:
        return Alignment(False, (f"no mapping leads from {family_of(source.config)} to {to}: {error}",))
    return _aligned(plan, held, families, swapped=swapped)


def _origin(config: Mapping[str, Any]) -> str | None:
    """The family that a MixFormer says it came from, which tells what the other is where several families fit it."""
    residue = config.get(RESIDUE)
    family = residue.get("family") if isinstance(residue, dict) else None
    return family if isinstance(family, str) else None


def _waived(source: Checkpoint, asked: Sequence[str], *sides: Checkpoint) -> tuple[str, ...]:
    """Fields of the source's config that the conversion was asked to waive, or that a MixFormer says were waived."""
    residues = [side.config.get(RESIDUE) for side in sides]
    told = [residue.get("waived") for residue in residues if isinstance(residue, dict)]
    names = {*asked, *(name for listed in told if isinstance(listed, list) for name in listed if isinstance(name, str))}
    return tuple(sorted(names & source.config.keys()))


def _padding(theirs: Checkpoint, ours: Checkpoint) -> int | None:
    """Rows of our vocabulary where they are more than theirs: the multiple that theirs were padded to."""
    rows, most = theirs.config.get("vocab_size"), ours.config.get("vocab_size")
    return most if type(rows) is int and type(most) is int and most > rows else None


def _aligned(plan: Plan, held: Checkpoint, families: tuple[str, str], *, swapped: bool) -> Alignment:
    configs = (plan.source.config, held.config) if swapped else (held.config, plan.source.config)
    problems = [*_structure(plan, held), *_config(*configs, families)]
    return Alignment(True, tuple(problems), plan, held, swapped)


def identity(source: Checkpoint) -> Plan:
    """The plan that changes nothing."""
    tensors = tuple(
        TargetTensor(t.key, t.dtype, t.shape, (whole(t.key, t.shape),), (t.key,)) for t in source.tensors.values()
    )
    name = family_of(source.config)
    return Plan(source, name, name, source.config, tensors, ())


def _structure(plan: Plan, held: Checkpoint) -> Iterator[str]:
    expected = {tensor.key: tensor for tensor in plan.tensors}
    for key in sorted(set(expected) - set(held.tensors)):
        yield f"{key} is missing"
    for key in sorted(set(held.tensors) - set(expected)):
        yield f"{key} is not expected"
    for key in sorted(set(expected) & set(held.tensors)):
        found, wanted = held.tensors[key], expected[key]
        if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
            was, is_ = f"{found.dtype} {list(found.shape)}", f"{wanted.dtype} {list(wanted.shape)}"
            yield f"{key} is {was}, expected {is_}"


def config_problems(candidate: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    """What two config.json say differently of one model, one sentence each, in our words.

    Raises:
        ConfigRefused: one of them is of no known family.
    """
    families = family_of(candidate, _origin(reference)), family_of(reference, _origin(candidate))
    return list(_config(candidate, reference, families))


def _config(candidate: Mapping[str, Any], reference: Mapping[str, Any], families: tuple[str, str]) -> list[str]:
    """Fields that mean different things on both sides, in our words."""
    try:
        found = _differing(_meaning(candidate, families[0]), _meaning(reference, families[1]), families)
    except Refused as error:
        return [f"config.json of the candidate: {error}"]
    if found and OURS in families and families[0] != families[1]:
        with suppress(Refused):
            one, other = _through_theirs(candidate, *families), _through_theirs(reference, *families[::-1])
            return _differing(one, other, families)
    return found


def _through_theirs(config: Mapping[str, Any], family: str, other: str) -> dict[str, Any]:
    """What a config means; that of ours said in the words of theirs, for ours has several words for one function."""
    return _meaning(_in_theirs(config, other), other) if family == OURS else _meaning(config, family)


def _in_theirs(ours: Mapping[str, Any], family: str) -> dict[str, Any]:
    """The config that a MixFormer means, by its fields and how far its vocabulary is padded alone."""
    residue = ours.get(RESIDUE)
    padding = residue.get("padding") if isinstance(residue, dict) else None
    return get_family(family).config.to_theirs({**ours, RESIDUE: {"padding": padding} if padding else {}}, family)


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], families: tuple[str, str]) -> list[str]:
    names = {name for name in one.keys() | other.keys() if name.split(".")[0] not in FREE and name not in FREE}
    shared = _spoken(families)
    return [
        f"config: {name} is {one.get(name)!r}, the reference says {other.get(name)!r}"
        for name in sorted(names if shared is None else names & shared)
        if not same(one.get(name), other.get(name))
    ]


def _spoken(families: tuple[str, str]) -> set[str] | None:
    """The paths of ours that both families speak of; None between two MixFormers."""
    tables = [get_family(name).config for name in families if name != OURS]
    spoken = [{path for entry in table.entries for path in entry.ours} for table in tables]
    return set.intersection(*spoken) if spoken else None


def _meaning(config: Mapping[str, Any], family: str) -> dict[str, Any]:
    if family == OURS:
        return layout.resolve(config)
    table = get_family(family).config
    mute = {name for entry in table.entries if isinstance(entry, Theirs) for name in entry.theirs}  # they mean nothing
    return layout.resolve(table.read({name: value for name, value in config.items() if name not in mute}))


def equal_folders(one: str | Path, other: str | Path) -> list[str]:
    """Differences between two folders as `convert diff` prints them; empty if they are equal.

    Tensor bytes, config as JSON and side files count; sharding and conversion.json do not.

    Raises:
        ConversionError: one of the two cannot be read.
    """
    alignment = align(other, one, casts=False)
    found = list(alignment.problems)
    found += (f"{d.candidate_key}: {d.reason}" for d in alignment.differing())
    if alignment.plan is not None and alignment.held is not None and alignment.plan.family == alignment.plan.to:
        found += _json_differences(alignment.plan.source.config, alignment.held.config)
        found += differing_side_files(Path(one), Path(other))
    return list(dict.fromkeys(found))


def _json_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted((one.keys() | other.keys()) - {RECORD}):
        if name not in one or name not in other:
            yield f"config.json: {name} is only in {'the first' if name in one else 'the second'}"
        elif not same(one[name], other[name]):
            yield f"config.json: {name} is {one[name]!r} and {other[name]!r}"

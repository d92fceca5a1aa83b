"""The two halves of a conversion: from a checkpoint of theirs to a planned MixFormer, and from that to theirs.

Both halves work on views, not on bytes. So one can follow the other: a conversion from one family to another is as
lossless and as fast as one to MixFormer, and nothing is written in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from converters.algebra.dims import Dims
from converters.algebra.moves import Tie
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.users_word import QKV_SHARDS
from converters.config import layout
from converters.config.mixer_defaults import positive
from converters.config.table import RESIDUE, residue_of
from converters.config.waivers import is_said
from converters.counts import counted
from converters.errors import ConfigRefused
from converters.family import OURS, Family, get_family
from converters.plan.heads import NOTES, TIE, Head, find_head, head_of
from converters.plan.known_buffers import Buffers, buffers_of, find_buffers, still_true, used
from converters.plan.leaving_out import named, remaining, without
from converters.plan.model import Model
from converters.plan.naming import naming_in, naming_of, unwrapped
from converters.plan.options import DEFAULTS, Options
from converters.plan.our_buffers import LEFT_OUT, compared, tables_of
from converters.plan.rules import TargetTensor, apply, bound_rules, check_keys, theirs_shapes, unmoved
from converters.plan.vocabulary import padded, padding, padding_notes

TRAINED = "tensors that the source did not store, as all of their values were equal, are written: they were trained"


def as_it_is(source: Checkpoint) -> Model:
    """A checkpoint, unchanged."""
    return Model(source, source.config, unmoved(source), notes=source.notes)


def to_ours(stored: Checkpoint, family: Family, options: Options) -> Model:
    """The MixFormer that a checkpoint of a family means.

    Raises:
        Refused: config, keys or shapes do not fit the family.
    """
    naming = naming_in(stored, family)
    source = unwrapped(stored, naming, (family.head_prefix,))
    head = Head() if family.own_head else find_head(source, family.head, own=options.own_head, tied=family.tied)
    copies = [key for key in family.copies if key in source.tensors]
    theirs = head.effective(source.config)
    said = {QKV_SHARDS: options.qkv_shards} if options.qkv_shards else {}
    bare = layout.resolve(family.config.to_ours(theirs, family.name, options.waive))
    _check_depth(bare, source)
    known = [key for key in source.tensors if any(key.endswith(rule.suffix) for rule in family.buffers)]
    buffers = Buffers() if options.drop_buffers else find_buffers(source, family.buffers, bare)
    names = naming.residue()
    pads = padding(bare, options)
    extra = {**head.residue(), **buffers.residue(), **({"keys": names} if names else {}), **pads, **said}
    extra |= {"copies": copies} if copies else {}
    config = family.config.to_ours(theirs, family.name, options.waive, extra)
    if options.pad_vocab:
        config["vocab_size"] = padded(bare["vocab_size"], options.pad_vocab)
    resolved = layout.resolve(config)
    rules, dims, ours = bound_rules(family, resolved), family.dims(resolved), family.tensors(resolved)
    expected = theirs_shapes(rules, dims, ours)
    left = [key for key in named(source, options.drop, expected) if key not in known]
    given = remaining(unmoved(source), left)
    check_keys(given, expected, known, family.head)
    tensors, checks = apply(given, [(r.theirs, r.move, r.ours) for r in rules], dims, ours)
    checks += tuple(used(source.tensors[key]) for key in (*known, *left))
    notes = (*source.notes, *filter(None, [NOTES.get(head.kind)]), *padding_notes(pads, resolved))
    if said:
        notes += (f"{QKV_SHARDS} {options.qkv_shards} is your word (--qkv-shards): another number is another function",)
    return Model(source, config, tensors, checks, notes, tuple(known) if options.drop_buffers else (), tuple(left))


def to_theirs(ours: Model, family: Family, options: Options) -> Model:
    """The checkpoint of a family that means the same as a MixFormer.

    Raises:
        Refused: the family cannot hold the model, or keys or shapes do not fit it.
    """
    ours = without_copies(ours, options)
    live, foreign = _home(ours.config, family)
    live = _with_all_stored(live, family) if options.trained else live
    resolved, residue = layout.resolve(live), residue_of(live, family.name)
    config = family.config.to_theirs(
        {**live, "dtype": options.dtype} if options.dtype else live, family.name, options.waive
    )
    config = head_of(live).restored(config) if residue else config
    _readable(config, family, (*options.waive, *residue.get("waived", ())))
    _check_depth(resolved, ours.source)
    rules, dims, shapes = bound_rules(family, resolved), family.dims(resolved), family.tensors(resolved)
    ours = without(ours, options.drop, shapes)
    check_keys(ours.tensors, shapes)
    expected = theirs_shapes(rules, dims, shapes)
    tensors, checks = apply(ours.tensors, [(r.ours, r.move.inverse, r.theirs) for r in rules], dims, expected)
    naming = naming_of(residue, family, expected)
    remembered = Buffers() if options.drop_buffers else buffers_of(residue, family.buffers, resolved)
    buffers = still_true(remembered, resolved, expected)
    tensors |= {key: TargetTensor(key, v.dtype, v.shape, v.pieces, ()) for key, v in buffers.views().items()}
    stored = {naming.stored(key): replace(tensor, key=naming.stored(key)) for key, tensor in tensors.items()}
    stale = sorted(remembered.keys() - buffers.keys())
    notes = (*foreign, *(f"{key} was left out, because it is no longer what its formula gives" for key in stale))
    notes += (TRAINED,) if options.trained else ()
    notes += _lost(resolved, family)
    told, every = (*ours.notes, *notes), (*ours.checks, *checks)
    return replace(ours, config=config, tensors=stored, checks=every, notes=told)


def without_copies(ours: Model, options: Options = DEFAULTS) -> Model:
    """A MixFormer without tensors that say what others or the config say; the checks compare them.

    Raises:
        HeadDiffers, NotInvertible: they say something else.
    """
    return _without_tables(_without_copy(ours, own=options.own_head), drop=options.drop_buffers)


def _without_copy(ours: Model, *, own: bool) -> Model:
    """A tied MixFormer without the head that files of torch hold beside the embedding; `own`: it was found to differ.

    Raises:
        HeadDiffers: it has another shape or dtype than the embedding.
    """
    head = f"layers.{positive(layout.resolve(ours.config), 'n_layer') + 1}.linear.weight"
    embedding, copy = ours.tensors.get("layers.0.wte.weight"), ours.tensors.get(head)
    if ours.config.get(TIE) is not True or embedding is None or copy is None:
        return ours
    if own:
        return replace(ours, config={**ours.config, TIE: False}, notes=(*ours.notes, NOTES["own"]))
    moved = Tie()([embedding.view, copy.view], Dims({}))
    kept = {key: tensor for key, tensor in ours.tensors.items() if key != head}
    return replace(ours, tensors=kept, checks=(*ours.checks, *moved.checks))


def _without_tables(ours: Model, *, drop: bool) -> Model:
    """A MixFormer without the rotary tables that files of its first generation hold."""
    keys = [key for key in tables_of(ours.source) if key in ours.tensors]
    if not keys:
        return ours
    checks = compared(ours.source, keys, layout.resolve(ours.config), drop=drop)
    kept = {key: tensor for key, tensor in ours.tensors.items() if key not in keys}
    notes, dropped = (ours.notes, (*ours.dropped, *keys)) if drop else ((*ours.notes, LEFT_OUT), ours.dropped)
    return replace(ours, tensors=kept, checks=(*ours.checks, *checks), notes=notes, dropped=dropped)


def _home(config: Mapping[str, Any], family: Family) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The config without the residue of another family, and a note on the fields that are lost by that.

    How far the vocabulary was padded stays, because it is a fact about the tensors.
    """
    residue = config.get(RESIDUE)
    if not isinstance(residue, dict) or residue.get("family") == family.name:
        return config, ()
    kept = {"padding": residue["padding"]} if "padding" in residue else {}
    fields = residue.get("fields")
    lost = sorted(set(fields) - family.config.known) if isinstance(fields, dict) else []
    told = (f"left out, because a {family.name} config does not have them: {', '.join(lost)}",) if lost else ()
    return {**{name: value for name, value in config.items() if name != RESIDUE}, RESIDUE: kept}, told


def _lost(resolved: Mapping[str, Any], family: Family) -> tuple[str, ...]:
    """A note on settings of the training that a form of theirs has no field for."""
    lost = ", ".join(f"{path} {value}" for path, value in family.config.lost(resolved).items())
    why = f"because a {family.name} config does not have them, and inference does not use them"
    return (f"left out, {why}: {lost}",) if lost else ()


def unstored(config: Mapping[str, Any], to: str) -> bool:
    """Whether a config of ours remembers that a family's source did not store all tensors of the model."""
    return to != OURS and bool(get_family(to).unstored & residue_of(config, to).get("fields", {}).keys())


def _with_all_stored(config: Mapping[str, Any], family: Family) -> Mapping[str, Any]:
    """The config without what its residue says of tensors that were not stored, as they had one constant value."""
    residue = residue_of(config, family.name)
    fields = {name: value for name, value in residue.get("fields", {}).items() if name not in family.unstored}
    return {**config, RESIDUE: {**residue, "fields": fields}}


def _readable(config: Mapping[str, Any], family: Family, waived: Sequence[str]) -> None:
    """Checks that the config to be written can be read again; a residue changed by hand may spoil it."""
    try:
        family.config.to_ours(config, family.name, [name for name in waived if is_said(config, name)])
        if config.get("model_type", family.model_types[0]) not in family.model_types:
            raise ConfigRefused(f"model_type would be {config.get('model_type')!r}")
    except ConfigRefused as error:
        raise ConfigRefused(
            f"{RESIDUE} in config.json does not give a valid config ({error}); remove it or correct it"
        ) from None


def _check_depth(resolved: Mapping[str, Any], source: Checkpoint) -> None:
    """Refuses more layers than tensors, before anything is made for each layer."""
    if resolved["n_layer"] > len(source.tensors):
        raise ConfigRefused(
            f"config.json says {resolved['n_layer']} layers, but there are {counted(len(source.tensors), 'tensor')}"
        )

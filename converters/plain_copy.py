"""A plain copy of a checkpoint that transformers can load: safetensors, plain key names, a config with the right tie.

Nothing is mapped: wrappers are removed from names, and bytes are copied. It is the reference of a verdict where
transformers cannot load the source: a pickle, wrapped keys, a head that config.json does not tell.

A MixFormer of an earlier generation keeps its own config and names: the package `mixformer` reads them by its own code,
so that a verdict does not judge a conversion by the reading that it came from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from converters.algebra.boxes import whole
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.json_files import as_bytes
from converters.checkpoint.opening import read_config
from converters.checkpoint.side_files import side_files
from converters.config_alignment import DTYPES
from converters.engine.output_folder import copy_file, make_folders, new_folder, write_file
from converters.engine.shard_layout import index_json, lay_out
from converters.engine.shard_writing import Writing, write_shards
from converters.families.shared.transformers_fields import DTYPE_WORDS
from converters.family import OURS, Family, get_family
from converters.family_of import family_of
from converters.generations.wrappers import find_wrapping
from converters.plan.heads import Head, find_head
from converters.plan.naming import naming_in, unwrapped
from converters.plan.plan import Plan
from converters.plan.rules import TargetTensor


def is_plain(source: Checkpoint, name: str | None = None, *, own_head: bool = False) -> bool:
    """Whether transformers loads the folder without changes, as the right model.

    name: the family of a source whose config.json does not say it.
    """
    if family_of(source.config, name) == OURS:
        names = [tensor.name for tensor in source.tensors.values()]
        return source.stored[0].suffix == ".safetensors" and not find_wrapping(names).at
    family = get_family(family_of(source.config, name))
    naming = naming_in(source, family)
    inside = unwrapped(source, naming, (family.head_prefix,))
    head = Head() if family.own_head else find_head(inside, family.head, own=own_head, tied=family.tied)
    return (
        says_itself(source.config)
        and source.stored[0].suffix == ".safetensors"
        and not naming.changes
        and head.kind != "missing"
    )


def says_itself(config: Mapping[str, Any]) -> bool:
    """Whether transformers finds the class and the dtype in a config.json."""
    return bool(config.get("model_type")) and _in_plain_words(config) == config


def write_plain(
    source: Checkpoint,
    target: Path,
    name: str | None = None,
    *,
    right_tie: bool = True,
    left_out: Sequence[str] = (),
) -> Path:
    """Writes the checkpoint in its plain form into a new folder; `name` as in `is_plain`.

    right_tie: the config says of the head what the tensors show, whatever it said before. left_out: patterns of keys
    that are not copied.

    Raises:
        ConversionError: the folder cannot be written.
    """
    name = family_of(source.config, name)
    inside, config = _ours(source) if name == OURS else _theirs(source, get_family(name), right_tie=right_tie)
    tensors = tuple(
        TargetTensor(t.key, t.dtype, t.shape, (whole(t.key, t.shape),), (t.name,))
        for t in inside.tensors.values()
        if not any(fnmatchcase(key, pattern) for key in (t.key, t.name) for pattern in left_out)
    )
    plan = Plan(inside, name, name, config, tensors, ())
    shards = lay_out(plan)
    with new_folder(target, replace=False, durable=False) as folder:
        write_shards(shards, inside, folder, replace(Writing(), hash=False, fsync=False))
        write_file(folder / "config.json", as_bytes(config), durable=False)
        index = index_json(shards)
        if index:
            write_file(folder / "model.safetensors.index.json", index.encode(), durable=False)
        for name, path in side_files(source.folder, home=False).items():
            make_folders((folder / name).parent)
            copy_file(path, folder / name, durable=False)
    return target


def _theirs(source: Checkpoint, family: Family, *, right_tie: bool) -> tuple[Checkpoint, dict[str, Any]]:
    """The checkpoint under its family's key names, and the config in words that transformers knows."""
    heads = (family.head_prefix,)
    inside = unwrapped(source, naming_in(source, family), heads)
    config = inside.config
    if right_tie:
        config = find_head(inside, family.head, own=False, tied=family.tied).effective(config)
    return inside, {"model_type": family.model_types[0], **_in_plain_words(config)}


def _in_plain_words(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the dtype as transformers 5 spells it; words that it does not know are left out."""
    meant = {name: dict(DTYPE_WORDS).get(str(config[name]), config[name]) for name in DTYPES if name in config}
    return {name: meant.get(name, value) for name, value in config.items() if name not in meant or meant[name]}


def _ours(source: Checkpoint) -> tuple[Checkpoint, dict[str, Any]]:
    """The MixFormer under the names that it is stored with, but for wrappers, and its config as it is written."""
    wrapping = find_wrapping(tensor.name for tensor in source.tensors.values())
    names = {key: wrapping.own(tensor.name) for key, tensor in source.tensors.items()}
    tensors = {names[key]: replace(tensor, key=names[key]) for key, tensor in source.tensors.items()}
    return replace(source, tensors=tensors), read_config(source.folder)

"""What an output carries so that transformers can load it without the package: two flat files and `auto_map`."""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from converters.remote_code.joining import flat_file
from converters.remote_code.modules import in_import_order, package_folder, read_modules
from converters.remote_code.naming import names_of

AUTO_MAP = "auto_map"
CONFIGURATION, MODELING = "configuration_mixformer_sequential", "modeling_mixformer_sequential"
FILES = (f"{CONFIGURATION}.py", f"{MODELING}.py")
CLASSES: Mapping[str, str] = {
    "AutoConfig": f"{CONFIGURATION}.MixFormerSequentialConfig",
    "AutoModelForCausalLM": f"{MODELING}.MixFormerSequentialForCausalLM",
    "AutoModelForSequenceClassification": f"{MODELING}.MixFormerSequentialForSequenceClassification",
}


@cache
def code_files(folder: Path | None = None) -> Mapping[str, bytes]:
    """Name -> content of the two files, made from the package's text; equal packages give equal bytes.

    folder: the package; None: the one that belongs to this version.

    Raises:
        TargetRefused: the package is not here, or holds what a flat file cannot.
    """
    modules = read_modules(folder or package_folder())
    config = in_import_order(modules, CONFIGURATION)
    rest = [module for module in in_import_order(modules, MODELING) if module not in config]
    names = names_of([*config, *rest])
    one = flat_file("The configuration of a MixFormer.", config, names, {})
    other = flat_file("The model classes of a MixFormer.", rest, names, {CONFIGURATION: config})
    return {FILES[0]: one.encode(), FILES[1]: other.encode()}


def is_ours(auto_map: Any) -> bool:
    """Whether an `auto_map` names classes of the two files and nothing else; transformers may list fewer of them."""
    return isinstance(auto_map, dict) and bool(auto_map) and all(CLASSES.get(k) == v for k, v in auto_map.items())


def loads_by_itself(auto_map: Any) -> bool:
    """Whether an `auto_map` of ours has the entries without which a language model does not load."""
    return is_ours(auto_map) and {"AutoConfig", "AutoModelForCausalLM"} <= auto_map.keys()


def foreign_code(folder: Path, config: Mapping[str, Any]) -> str:
    """What a model's folder says of its code that is not what this version writes, in words; empty if nothing is.

    A folder without code and one that holds what this version writes are alike.
    """
    named = config.get(AUTO_MAP)
    if named is not None and not is_ours(named):
        return f"{AUTO_MAP} in config.json names other classes than MixFormer's"
    if not folder.is_dir():
        return ""
    there = [name for name in FILES if (folder / name).is_file()]
    differing = [name for name in there if not is_current(folder / name)]
    if differing:
        verb = "differ" if len(differing) > 1 else "differs"
        return f"{' and '.join(differing)} {verb} from what this version writes"
    gone = [name for name in FILES if name not in there]
    return f"{AUTO_MAP} names {' and '.join(gone)}, which the folder does not hold" if named and gone else ""


def is_current(path: Path) -> bool:
    """Whether a file is one of the two, as this version writes it."""
    made = code_files().get(path.name) if path.name in FILES else None
    return made is not None and path.stat().st_size == len(made) and path.read_bytes() == made


def differing_code(one: Path, other: Path) -> Iterator[str]:
    """What differs in the code of two folders, a sentence each. A folder without code lacks nothing that counts."""
    for name in FILES:
        first, second = one / name, other / name
        there = [path for path in (first, second) if path.is_file()]
        if len(there) == 2 and _sha256(first) != _sha256(second):
            yield f"{name} differs"
        elif len(there) == 1 and not is_current(there[0]):
            yield f"{name} is only in {there[0].parent}, and is not what this version writes"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

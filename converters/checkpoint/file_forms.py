"""File forms: the registry of the readers in `converters.forms`, and finding the form of a source.

A form is any way to store a checkpoint that is no Hugging Face folder. Its reader gives named tensors on a file and a
config whose `model_type` names the dialect, so that the rest of a conversion sees an ordinary checkpoint of an ordinary
family. The content of a file decides its form. In a folder the usual names are looked at, and a Hugging Face model
comes first. A new form is one file in `converters/forms/` with a `FORM`, and its name in `READERS`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.weight_files import consolidated, holds_weights
from converters.errors import UnsafeFile

FORMS = "converters.forms"  # found by its name, so that imports go down only
READERS = (
    "dcp_folder",
    "deepspeed_folder",
    "evintunador_file",
    "gguf_file",
    "litgpt_file",
    "llama2c_file",
    "meta_shards",
    "modded_nanogpt_file",
    "nanogpt_file",
    "nvidia_ngpt_file",
    "state_dict_file",
    "torchtune_file",
)
OWN_NAMES = ("config.json", "model.safetensors")  # a file of this name means its folder


@dataclass(frozen=True)
class Form:
    """A file format: `name` in a word, `title` in words.

    names: patterns of names in a folder. recognises: whether a file is of this form, by its content.
    read: opens the checkpoint that a file belongs to; its second argument allows quantised tensors to be dequantised.
    anything: so little is asked of a file that in a folder it counts only where there is none of another form.
    """

    name: str
    title: str
    names: tuple[str, ...]
    recognises: Callable[[Path], bool]
    read: Callable[[Path, bool], Checkpoint]
    anything: bool = False


class Found(NamedTuple):
    """A file and the form it is of."""

    form: Form
    path: Path


def titles() -> list[str]:
    """The titles of all forms."""
    return [form.title for form in _forms()]


def named_forms() -> list[str]:
    """Patterns of the names that files of these forms have in a folder."""
    return [name for form in _forms() for name in form.names]


def find_form(source: Path) -> Found | None:
    """The form of a source; None for a Hugging Face folder, and for what is of no known form.

    Raises:
        UnsafeFile: a folder holds several models, or a file has the name that only one form has, and not its content.
    """
    if source.is_file():
        files = [] if source.name in OWN_NAMES else [source]
        found = [one for file in files for one in forms_of(file)][:1]
    elif not source.is_dir() or holds_weights(source):
        return None
    else:
        files = sorted(file for file in source.iterdir() if file.is_file())
        found = [one for file in files for one in forms_of(file, by_name=True)]
        found = [one for one in found if not one.form.anything] or found
        files = [] if (source / "config.json").exists() else files
    if len(found) > 1:
        listed = ", ".join(f"{one.path.name} ({one.form.title})" for one in found)
        raise UnsafeFile(
            f"{source} holds {len(found)} models: {listed}; give the path of one, for example {found[0].path}"
        )
    if not found:
        _refuse_misnamed(files)
    return found[0] if found else None


def _refuse_misnamed(files: Iterable[Path]) -> None:
    for file in files:
        if file.name == "params.json" and (why := consolidated(file.parent)):
            raise UnsafeFile(f"{file.parent} has no config.json; {why}")
        named = [form.title for form in _forms() if file.name in form.names]  # by its own name, not by an ending
        if named:
            raise UnsafeFile(f"{file} has the name of {' or '.join(named)}, but not its content; it may be truncated")


def forms_of(file: Path, *, by_name: bool = False) -> Iterator[Found]:
    for form in _forms():
        if (not by_name or any(fnmatchcase(file.name, name) for name in form.names)) and form.recognises(file):
            yield Found(form, file)


@cache
def _forms() -> tuple[Form, ...]:
    return tuple(import_module(f"{FORMS}.{name}").FORM for name in READERS)

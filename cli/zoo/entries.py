"""A zoo file: which models are to be converted, read from TOML and checked before anything is done."""

import inspect
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cli.hub.addresses import address_of
from converters.errors import UsageError, nearest
from converters.family import OURS

KEYS = ("source", "family", "to", "output", "push", "options")
TOP = ("output", "model")
FIXED = ("source", "to", "output", "push", "json", "quiet", "debug", "force", "update")  # not to be options
Value = bool | int | str | tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One model. `family` is None where it is to be found; `output` is a path; `options` are those of `convert`."""

    source: str
    to: str
    output: str
    family: str | None = None
    push: str | None = None
    options: tuple[tuple[str, Value], ...] = ()

    def words(self) -> list[str]:
        """The options as words of a command line."""
        return [word for name, value in self.options for word in _words(name, value)]


def _words(name: str, value: Value) -> Iterator[str]:
    if value is True:
        yield f"--{name}"
    elif value is False:
        yield f"--no-{name}"
    else:
        for one in value if isinstance(value, tuple) else (value,):
            yield f"--{name}={one}"


def read_zoo(path: Path) -> list[Entry]:
    """The models of a zoo file; relative paths in it begin at its folder.

    Raises:
        UsageError: it cannot be read, an entry says something else than it may, or two entries write one output.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    _check_keys(path, content, TOP)
    models, place = content.get("model"), content.get("output", ".")
    if not isinstance(models, list) or not models or not all(isinstance(model, dict) for model in models):
        raise UsageError(f"{path} lists no models; write [[model]], then source = and to = below it")
    if not isinstance(place, str):
        raise UsageError(f"{path}: output is {place!r}, expected the name of a folder")
    entries = [_entry(f"{path}: model {k}", model, place, path.parent) for k, model in enumerate(models, 1)]
    _check_outputs(path, entries)
    return entries


def _entry(where: str, model: Mapping[str, Any], place: str, home: Path) -> Entry:
    _check_keys(where, model, KEYS)
    for name in KEYS[:-1]:
        if name in model and (not isinstance(model[name], str) or not model[name]):
            raise UsageError(f"{where}: {name} is {model[name]!r}, expected text")
    source, to = model.get("source"), model.get("to", OURS)
    if source is None:
        raise UsageError(f"{where}: source is missing, a path or org/name on the Hub")
    options = model.get("options", {})
    if not isinstance(options, dict):
        raise UsageError(f"{where}: options is {options!r}, expected a table such as {{ dtype = 'bfloat16' }}")
    output = model.get("output") or str(Path(place) / _default_output(source, to, home))
    made = tuple((name, _value(where, name, value)) for name, value in options.items())
    return Entry(source, to, output, model.get("family"), model.get("push"), made)


def _default_output(source: str, to: str, home: Path) -> str:
    from converters.conversion import default_output

    there = home / source
    address = None if there.exists() else address_of(source)
    return f"{address.repo.partition('/')[2]}-{to}" if address else str(default_output(there, to))


def _check_keys(where: object, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in found:
        if name not in known:
            raise UsageError(f"{where}: there is no {name!r}{nearest(name, known)}; there are {', '.join(known)}")


@cache
def option_kinds() -> dict[str, str]:
    """Names of options of `convert FAMILY`, without the dashes -> how they are annotated."""
    from cli.conversion import verb

    found = inspect.signature(verb(OURS)).parameters.values()
    kinds = {one.name.replace("_", "-"): str(getattr(one.annotation, "__origin__", "")) for one in found}
    return {name: kind for name, kind in kinds.items() if name not in FIXED}


ON = ("code", "fsync", "hash", "parity")  # options that have a --no- of their own


def _value(where: str, name: str, value: object) -> Value:
    """The value of an option.

    Raises:
        UsageError: there is no such option, or it takes another kind of value.
    """
    kinds = option_kinds()
    if name not in kinds:
        raise UsageError(f"{where}: options has {name!r}, which is none of `convert`{nearest(name, list(kinds))}")
    switch = "bool" in kinds[name]
    if switch and isinstance(value, bool) and (value or name in ON):
        return value
    if not switch and isinstance(value, str | int) and not isinstance(value, bool):
        return value
    if "list" in kinds[name] and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    wanted = ("true or false" if name in ON else "true") if switch else "a value"
    raise UsageError(f"{where}: options has {name} = {value!r}, expected {wanted}")


def _check_outputs(path: Path, entries: list[Entry]) -> None:
    outputs: dict[Path, int] = {}
    for k, entry in enumerate(entries, 1):
        place = (path.parent / entry.output).absolute()
        first = outputs.setdefault(place, k)
        if first != k:
            raise UsageError(f"{path}: models {first} and {k} would both write {entry.output}; give one an output")

"""Comparing two config.json, also of different families: differences in function, and other differences."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from converters.checkpoint.users_word import RECORD
from converters.config import layout
from converters.config.echo import Echo
from converters.config.entries import Theirs
from converters.config.kinds import same
from converters.config.neutral import says_nothing
from converters.config.table import BASE, OURS_FIXED, OURS_FREE, RESIDUE
from converters.config.waivers import ROPE, is_said, without
from converters.errors import Refused
from converters.families.shared.rope import SAID as ROPE_SAID
from converters.family import OURS, get_family
from converters.family_of import family_of, is_unnamed
from converters.remote_code.exported import AUTO_MAP, loads_by_itself

# Fields that may differ between two checkpoints of one function.
FREE = BASE | OURS_FREE | {"dtype", "use_cache", "initializer_range", "pad_vocab_size_multiple"}
# Defaults at the top of a MixFormer config. They are judged where they take effect, in the architecture.
ECHOES = ("n_head_kv", "n_inner", "rotary_dim", "activation_function", "layer_norm_epsilon")
ROWS = "vocab_size"  # may be padded: the shapes of the tensors are held against it, and the rows before it compared
WIDTHS = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
DTYPES = ("dtype", "torch_dtype")
TIE = "tie_word_embeddings"
SAID = (RESIDUE, ROWS, layout.SOURCE_VOCAB, RECORD)  # judged by themselves, but for who told what, which is free
UNNAMED = ""
Config = Mapping[str, Any]


@dataclass(frozen=True)
class ConfigFindings:
    """The differences of two config.json, a sentence each.

    problems: of the function, or of how it is stored. doubts: of generation, training or identity, and fields that
    nobody knows; the logits cannot tell whether they matter.
    """

    problems: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def origin(config: Config) -> str | None:
    """The family that a MixFormer says it came from, which tells what the other is where several families fit it."""
    residue = config.get(RESIDUE)
    family = residue.get("family") if isinstance(residue, dict) else None
    return family if isinstance(family, str) else None


def families_of(candidate: Config, reference: Config) -> tuple[str, str]:
    """The families of two config.json; UNNAMED where neither says what it is of.

    Raises:
        ConfigRefused: one of them is of no known family.
    """
    if is_unnamed(candidate) and is_unnamed(reference):
        return UNNAMED, UNNAMED
    return family_of(candidate, origin(reference)), family_of(reference, origin(candidate))


def _raw_doubts(one: Config, other: Config) -> Iterator[str]:
    """Fields that differ in two configs of which nothing is known."""
    for name in sorted(one.keys() | other.keys()):
        if not same(one.get(name), other.get(name)):
            yield f"config: {name} is {one.get(name)!r}, of the reference it is {other.get(name)!r}"


def compare_configs(candidate: Config, reference: Config, waived: Collection[str] = ()) -> ConfigFindings:
    """What two config.json say differently of one model, in our words where they are of two families.

    waived: fields of theirs that a conversion was asked to waive.

    Raises:
        ConfigRefused: one of them is of no known family.
    """
    families = families_of(candidate, reference)
    if families[0] == UNNAMED:
        return ConfigFindings(doubts=tuple(_raw_doubts(candidate, reference)))
    waived = (*waived, *_said_alike(candidate, reference))
    problems = [*differing_meaning(without(candidate, waived), without(reference, waived), families)]
    try:
        expected = _expected(reference, families, waived)
    except Refused as error:
        return ConfigFindings((*problems, *(() if problems else (f"config.json of the reference: {error}",))))
    problems += _dtype_problems(candidate, expected)
    doubts = [*_doubts(candidate, expected, families), *_residue_doubts(candidate, expected)]
    return ConfigFindings(tuple(problems), tuple(doubts))


def _said_alike(one: Config, other: Config) -> Iterator[str]:
    """Parameters of a rope that no rope type has, and that both sides say alike."""
    for field in ROPE:
        mine, theirs = one.get(field), other.get(field)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            alike = (name for name in mine if name in theirs and same(mine[name], theirs[name]))
            yield from (f"{field}.{name}" for name in alike if name not in ROPE_SAID)


def differing_meaning(candidate: Config, reference: Config, families: tuple[str, str]) -> list[str]:
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


def _through_theirs(config: Config, family: str, other: str) -> dict[str, Any]:
    """What a config means; that of ours said in the words of theirs, for ours has several words for one function."""
    return _meaning(_in_theirs(config, other), other) if family == OURS else _meaning(config, family)


def _in_theirs(ours: Config, family: str) -> dict[str, Any]:
    """The config that a MixFormer means, by its fields and how far its vocabulary is padded alone."""
    residue = ours.get(RESIDUE)
    padding = residue.get("padding") if isinstance(residue, dict) else None
    return get_family(family).config.to_theirs({**ours, RESIDUE: {"padding": padding} if padding else {}}, family)


def _differing(one: Config, other: Config, families: tuple[str, str]) -> list[str]:
    shared = _spoken(families)
    names = {name for name in one.keys() | other.keys() if not _free(name)}
    return [
        f"config: {_in_words(name, families[0])} is {one.get(name)!r}, the reference says {other.get(name)!r}"
        for name in sorted(names if shared is None else names & shared)
        if not same(one.get(name), other.get(name))
    ]


def _in_words(path: str, family: str) -> str:
    """A path of ours, after the name that the candidate's own family has for it."""
    entries = () if family == OURS else get_family(family).config.entries
    named = [name for entry in entries if path in entry.ours for name in entry.theirs[:1]]
    return f"{named[0]} ({path} in MixFormer)" if named and named[0] != path else path


def _free(name: str) -> bool:
    return name.split(".")[0] in FREE or name in FREE


def _spoken(families: tuple[str, str]) -> set[str] | None:
    """The paths of ours that both families speak of; None between two MixFormers."""
    tables = [get_family(name).config for name in families if name != OURS]
    spoken = [{path for entry in table.entries for path in entry.ours} for table in tables]
    return set.intersection(*spoken) | OURS_FIXED.keys() if spoken else None


def _meaning(config: Config, family: str) -> dict[str, Any]:
    if family == OURS:
        return layout.resolve(config)
    table = get_family(family).config
    mute = {
        name for entry in table.entries if isinstance(entry, Theirs | Echo) for name in entry.theirs
    }  # they mean nothing
    return layout.resolve(table.read({name: value for name, value in config.items() if name not in mute}))


def _expected(reference: Config, families: tuple[str, str], waived: Collection[str]) -> Config:
    """What config.json would be if the reference were converted to the candidate's family."""
    candidate, family = families
    if candidate == family:
        return reference
    waived = [name for name in waived if is_said(reference, name)]
    ours = reference if family == OURS else get_family(family).config.to_ours(reference, family, waived)
    return ours if candidate == OURS else get_family(candidate).config.to_theirs(ours, candidate)


def _dtype_problems(candidate: Config, expected: Config) -> Iterator[str]:
    """A dtype that is narrower than the weights are stored in: whoever loads the model would round them."""
    mine, theirs = _dtype(candidate), _dtype(expected)
    if theirs is not None and mine is not None and WIDTHS.get(mine) is not None and mine != theirs:
        if WIDTHS[mine] <= WIDTHS.get(theirs, 8):
            yield f"config: dtype is {mine!r}, the reference says {theirs!r}"


def _is_dtype_word(value: Any) -> bool:
    """Whether a dtype has another name than transformers 5 gives it; which one it is, is judged by itself."""
    return value not in WIDTHS


def _dtype(config: Config) -> str | None:
    values = [str(config[name]).removeprefix("torch.") for name in DTYPES if config.get(name) is not None]
    return values[0] if values else None


def _doubts(candidate: Config, expected: Config, families: tuple[str, str]) -> Iterator[str]:
    """Fields that no rule gives a meaning to, and that say something else than the reference's."""
    try:
        mine, theirs = _every_field(candidate, families[0]), _every_field(expected, families[0])
    except Refused:
        return  # said already
    judged, mute = _judged(families[0], _spoken(families)), _mute(families[0])
    for name in sorted(mine.keys() | theirs.keys()):
        one, other = mine.get(name), theirs.get(name)
        if judged(name) or same(one, other) or _alike(name, one, other, mute.get(name)):
            continue
        yield f"config: {name} is {one!r}, of the reference it is {other!r}"


def _alike(name: str, one: Any, other: Any, mute: Theirs | None) -> bool:
    """Whether both values say nothing; a dtype is judged by itself, but for one that is no dtype."""
    if name in DTYPES:
        return all(value is None or str(value).removeprefix("torch.") in WIDTHS for value in (one, other))
    return all(says_nothing(name, value) or (mute is not None and mute.holds(value)) for value in (one, other))


def _every_field(config: Config, family: str) -> dict[str, Any]:
    fields, echoes = (layout.resolve(config), ECHOES) if family == OURS else (dict(config), ())
    code = [AUTO_MAP] if family == OURS and loads_by_itself(config.get(AUTO_MAP)) else []
    return {name: value for name, value in fields.items() if name not in {ROWS, *SAID, *echoes, *code}}


def _judged(family: str, spoken: Collection[str] | None) -> Callable[[str], bool]:
    """Whether a field of the candidate is judged by what it means."""
    if family == OURS:
        return lambda name: not _free(name) and (spoken is None or name in spoken)
    entries = get_family(family).config.entries
    read = {name for entry in entries if not isinstance(entry, Theirs | Echo) for name in entry.theirs}
    return lambda name: not _free(name) and name in read


def _mute(family: str) -> dict[str, Theirs]:
    """Fields of a family that MixFormer has no setting for, and their entries, which know what means nothing."""
    entries = () if family == OURS else get_family(family).config.entries
    return {entry.name: entry for entry in entries if isinstance(entry, Theirs)}


def _residue_doubts(candidate: Config, expected: Config) -> Iterator[str]:
    """What the candidate remembers of its source, where the reference says otherwise: the way back would differ."""
    mine, theirs = candidate.get(RESIDUE), expected.get(RESIDUE)
    if mine is not None and not isinstance(mine, dict):
        yield f"config: {RESIDUE} is {mine!r}, which no conversion writes"
    if not isinstance(mine, dict) or not isinstance(theirs, dict):
        return
    for name in sorted(mine):
        if name == "fields":
            yield from _field_doubts(mine[name], theirs.get(name))
        elif (name == "absent" or name in theirs) and not same(_said(mine[name]), _said(theirs.get(name))):
            yield f"config: {RESIDUE}.{name} is {mine[name]!r}, of the reference it is {theirs.get(name)!r}"


def _said(value: Any) -> Any:
    """A list of absent fields without the head's tie, judged by itself, and the type, which a judged copy says."""
    return [name for name in value if name not in (TIE, "model_type")] if isinstance(value, list) else value


def _field_doubts(mine: Any, theirs: Any) -> Iterator[str]:
    """Remembered fields of which the reference says something else, but for those that are judged elsewhere or free."""
    if not isinstance(mine, dict):
        yield f"config: {RESIDUE}.fields is {mine!r}, which no conversion writes"
        return
    known = theirs if isinstance(theirs, dict) else {}
    for name, value in mine.items():
        if name in (TIE, RECORD) or (name in DTYPES and _is_dtype_word(value)):
            continue
        if not same(value, known.get(name)):
            yield f"config: {RESIDUE}.fields.{name} is {value!r}, of the reference it is {known.get(name)!r}"

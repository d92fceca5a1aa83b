"""The part of L0 that looks at what lies beside the weights: the tokenizer and the settings of text generation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden.evidence.beside_weights import GENERATION, Beside, generation_settings
from golden.evidence.tokenizer import STRUCTURE, TokenizerEvidence, read_tokenizer, tokenizer_files
from golden.models.folders import read_config
from golden.models.loading import MIXFORMER
from golden.references import is_native

OLD_GOLDEN = "the golden file holds no tokenizer and no generation settings; record it again to have them judged"


@dataclass(frozen=True)
class Findings:
    """Sentences: problems make the level FAIL, doubts make it UNVERIFIED, notes say what is not judged."""

    problems: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def compare_beside(candidate: Path, reference: Path) -> Findings:
    """Tokenizer and generation settings of two folders, by bytes, and by what they do where the bytes differ."""
    mine, theirs = tokenizer_files(candidate), tokenizer_files(reference)
    equal = mine == theirs
    wanted = TokenizerEvidence(theirs) if equal else read_tokenizer(reference, theirs)
    return _findings(candidate, Beside(wanted, generation_settings(reference)), mine)


def compare_recorded(candidate: Path, recorded: Beside | None) -> Findings:
    """The same against what a golden file recorded; None for a golden file from before it was recorded."""
    if recorded is None:
        return Findings(doubts=(OLD_GOLDEN,))
    return _findings(candidate, recorded, tokenizer_files(candidate))


def _findings(candidate: Path, expected: Beside, files: Mapping[str, str]) -> Findings:
    if is_native(candidate):
        return Findings(notes=("a file of its own form carries no tokenizer: tokenizers are not judged",))
    tokenizers = _tokenizers(candidate, expected.tokenizer, files)
    problems = (*tokenizers.problems, *_generation_problems(candidate, expected.generation))
    code = _code_notes(candidate)
    no_place = "the reference is a file without generation settings: those of the candidate are not judged"
    notes = (no_place,) if expected.generation is None else ()
    return Findings(problems, tokenizers.doubts, (*tokenizers.notes, *notes, *code))


def _code_notes(candidate: Path) -> Iterator[str]:
    """That the installed classes were judged, where the folder of a MixFormer holds other code; none of it is run."""
    from converters.remote_code.exported import foreign_code

    config = read_config(candidate)
    if config.get("model_type") == MIXFORMER and (other := foreign_code(candidate, config)):
        yield f"{other}: the installed package was judged, and not the folder's code"


def _tokenizers(candidate: Path, expected: TokenizerEvidence, files: Mapping[str, str]) -> Findings:
    if dict(files) == dict(expected.files):
        return Findings()
    mine = read_tokenizer(candidate, files)
    if not expected.exists:
        extra = mine.exists
        return Findings(notes=("the reference has no tokenizer: the candidate's is not judged",) if extra else ())
    if not mine.exists:
        return Findings(("the reference has a tokenizer, the candidate has none",))
    listed = _listed(sorted(n for n in {*files, *expected.files} if files.get(n) != expected.files.get(n)))
    if expected.why:
        return Findings(doubts=(f"the reference's tokenizer cannot be loaded ({expected.why}); {listed}",))
    if mine.why:
        return Findings((f"its tokenizer cannot be loaded ({mine.why}); {listed}",))
    aspects = [name for name in expected.aspects if mine.aspects.get(name) != expected.aspects[name]]
    if aspects == [STRUCTURE]:
        return Findings(doubts=(f"its tokenizer does the same on all texts tried, but is built otherwise; {listed}",))
    if aspects:
        shown = [name for name in aspects if name != STRUCTURE]
        return Findings((f"its tokenizer differs from the reference's in {', '.join(shown)}; {listed}",))
    return Findings()


def _listed(names: list[str]) -> str:
    return f"{', '.join(names)} {'differs' if len(names) == 1 else 'differ'}"


def _generation_problems(candidate: Path, expected: Mapping[str, Any] | None) -> Iterator[str]:
    mine = generation_settings(candidate)
    if mine is None or expected is None:
        return
    for name in sorted({*mine, *expected}):
        if json.dumps(mine.get(name)) != json.dumps(expected.get(name)):
            yield f"{GENERATION}: {name} is {mine.get(name)!r}, the reference says {expected.get(name)!r}"

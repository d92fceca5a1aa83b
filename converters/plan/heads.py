"""The output head: whether it is tied to the embedding, decided from tensors and config together.

| config says | head stored | what it is | ours |
| --- | --- | --- | --- |
| tied | no | the usual tied model | tied |
| untied | yes | the usual untied model | untied |
| tied | yes, equal | a redundant copy | tied; the copy returns on the way back |
| tied | yes, another | what transformers 5 runs is untied | untied; the config returns on the way back |
| untied | no | only a tie gives it a head | tied, with a note; the config returns on the way back |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint
from converters.errors import ConfigRefused, CoverageRefused

TIE = "tie_word_embeddings"
ABSENT = "absent"
WITH_HEAD = ("ForCausalLM", "LMHeadModel", "DoubleHeadsModel")  # ends of the class names in transformers with a head
TIED = {"redundant": True, "missing": True, "own": False}
NOTES = {
    "redundant": "the head is tied and also stored; the copy is left out, and written again on the way back",
    "missing": "config.json says untied, but there is no head: the model is converted as tied",
    "own": "config.json says tied, but the head differs from the embedding: the model is converted as untied",
}


@dataclass(frozen=True)
class Head:
    """`kind`: how tensors and config disagree, empty if they agree; `said`: the tie in config.json, or `absent`."""

    kind: str = ""
    said: Any = ABSENT

    def effective(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config with the tie that the tensors mean."""
        return {**config, TIE: TIED[self.kind]} if self.kind else dict(config)

    def residue(self) -> dict[str, Any]:
        """What the residue keeps for the way back."""
        return {"head": {"kind": self.kind, "said": self.said}} if self.kind else {}

    def restored(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config of theirs with its old value for the tie."""
        if not self.kind or self.said == ABSENT:
            return {name: value for name, value in config.items() if not (self.kind and name == TIE)}
        return {**config, TIE: self.said}


def find_head(source: Checkpoint, head: str, *, own: bool, tied: bool = False) -> Head:
    """The head of a checkpoint; `own`: its data were compared and differ from the embedding.

    tied: what a config without the field means.

    Raises:
        CoverageRefused: the checkpoint is a bare decoder, so it has no head and none can be made.
    """
    said = source.config.get(TIE, ABSENT)
    if said not in (ABSENT, True, False) or not isinstance(said, bool | str):
        raise ConfigRefused(f"{TIE} is {said!r}, expected true or false")
    tied, stored = tied if said == ABSENT else said is True, head in source.tensors
    if tied == stored:
        if stored:
            return Head("own" if own else "redundant", said)
        names = source.config.get("architectures")
        if names and not any(kind in str(names) for kind in WITH_HEAD):
            raise CoverageRefused(
                f"{head} is missing: {names} has no output head. Save the model as a causal language model first"
            )
        return Head("missing", said)
    return Head()


def head_of(config: Mapping[str, Any]) -> Head:
    """The disagreement in the residue, if the tie of ours was not changed since.

    Raises:
        ConfigRefused: the residue was changed by hand.
    """
    residue = config.get("converted_from")
    said = residue.get("head") if isinstance(residue, dict) else None
    if said is None:
        return Head()
    kind, was = (said.get("kind"), said.get("said", ABSENT)) if isinstance(said, dict) else (None, None)
    if not isinstance(kind, str) or kind not in TIED or not (isinstance(was, bool) or was == ABSENT):
        raise ConfigRefused(f"converted_from.head in config.json was changed by hand: it is {said!r}; remove it")
    live = bool(config.get(TIE, False))
    return Head(kind, was) if TIED[kind] == live else Head()

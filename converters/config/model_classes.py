"""Which class a config.json is of: `architectures`, and `auto_map`, which names code that a repository brings along."""

from dataclasses import dataclass
from typing import Any

from converters.config.entries import Config, Theirs
from converters.errors import ConfigRefused, shown

WRAPPERS = ("FSDP", "DDP")  # what torch's fully_shard and replicate put before the name of a class
CLASSIFIER = (
    "only causal language models can be converted; for a classifier, save its base model with a causal head first"
)
JUDGED = ("AutoConfig", "AutoModel", "AutoModelForCausalLM")  # of the others, none computes logits of a language model


@dataclass(frozen=True)
class Architectures(Theirs):
    """`architectures`: the family's classes, however they are wrapped; none and several of them are sound too.

    beside: classes of its own that have another head too. borrowed: classes of another family that run its models; they
    do not tell the family where `model_type` does not.
    """

    beside: tuple[str, ...] = ()
    borrowed: tuple[str, ...] = ()

    def holds(self, value: Any) -> bool:
        """Whether every class is the family's."""
        return value is None or (isinstance(value, list) and all(map(self._is_own, value)))

    def names(self, value: Any) -> bool:
        """Whether a class is the family's own, not borrowed."""
        return self.holds(value) and not any(_unwrapped(name) in self.borrowed for name in value or ())

    def _is_own(self, name: Any) -> bool:
        known = {one for names in self.values if names for one in (*names, *self.beside, *self.borrowed)}
        plain = _unwrapped(name)
        return isinstance(plain, str) and plain.casefold() in {one.casefold() for one in known}

    def read(self, theirs: Config) -> dict[str, Any]:
        """Nothing, if the classes are the family's.

        Raises:
            ConfigRefused: one is not, so this may be another model.
        """
        said = theirs.get(self.name)
        if self.holds(said):
            return {}
        if any(part in str(said) for part in ("Classification", "QuestionAnswering", "Reward")):
            raise ConfigRefused(f"this model cannot be converted: {self.name} is {shown(said)}; {CLASSIFIER}")
        raise ConfigRefused(
            f"this model cannot be converted: {self.name} is {shown(said)}, expected {self.values[0]!r}; a class of"
            f" another name may be another model. If you know that it computes the same, pass --waive {self.name}"
        )


def _unwrapped(name: Any) -> Any:
    while isinstance(name, str) and name.startswith(WRAPPERS):
        name = name.removeprefix(next(wrapper for wrapper in WRAPPERS if name.startswith(wrapper)))
    return name


@dataclass(frozen=True)
class AutoMap(Theirs):
    """`auto_map`: sound where the code that it names is also in transformers, under the same names.

    module: what the names of its files end with. classes: of transformers, config first.
    """

    module: str = ""
    classes: tuple[str, ...] = ()

    def holds(self, value: Any) -> bool:
        """Whether config and models are named as transformers names its own."""
        if not isinstance(value, dict):
            return value is None
        return all(self._in_transformers(value[name]) for name in JUDGED if name in value)

    def _in_transformers(self, place: Any) -> bool:
        known = {f"configuration_{self.module}.{self.classes[0]}"} if self.classes else set()
        known |= {f"modeling_{self.module}.{name}" for name in self.classes[1:]}
        own = {name.casefold() for name in known}  # MosaicML's own code spells MPTConfig
        return isinstance(place, str) and place.rpartition("--")[2].casefold() in own

    def read(self, theirs: Config) -> dict[str, Any]:
        """Nothing, if the code is known.

        Raises:
            ConfigRefused: it is not.
        """
        if self.name in theirs and not self.holds(theirs[self.name]):
            raise ConfigRefused(
                f"this model cannot be converted: {self.name} is {shown(theirs[self.name])}, which is code of its own"
                f" that may compute something else than modeling_{self.module} of transformers; save it as a model of"
                f" transformers first"
            )
        return {}

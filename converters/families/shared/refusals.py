"""Fields that mark a checkpoint of a family's model_type as one that is not converted, with what to do instead."""

from typing import Any

from converters.config.entries import Theirs

QUANTISED = "dequantise the model first: in transformers, `model.dequantize()` and `save_pretrained`"

EXPERTS = ("num_local_experts", "num_experts")

REFUSED = (
    Theirs("quantization_config", (None,), QUANTISED, written=False),
    Theirs("quantization", (None,), "MLX has quantised it; convert the model that it was made from", written=False),
    Theirs("vision_config", (None,), "convert the text model alone: save `model.language_model` first", written=False),
    *(Theirs(name, (None,), "this family has no mixture of experts; others have", written=False) for name in EXPERTS),
)


def relics(**values: tuple[Any, ...]) -> tuple[Theirs, ...]:
    """Fields that people's configs of a family have and that nothing reads, with the values that mean nothing.

    Null means nothing either. Any other value is refused.
    """
    why = "only these are known to mean nothing"
    return tuple(Theirs(name, (*known, None), f"{why}; or --waive {name}", False) for name, known in values.items())

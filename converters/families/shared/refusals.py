"""Fields that mark a checkpoint of a family's model_type as one that is not converted, with what to do instead."""

from converters.config.entries import Theirs

HEADLESS = (
    "only causal language models can be converted; for a classifier, save its base model with a causal head first"
)

REFUSED = (
    Theirs(
        "quantization_config",
        (None,),
        "dequantise the model first: in transformers, `model.dequantize()` and `save_pretrained`",
        written=False,
    ),
    Theirs("vision_config", (None,), "convert the text model alone: save `model.language_model` first", written=False),
    Theirs("num_local_experts", (None,), "a mixture of experts has no MixFormer counterpart", written=False),
    Theirs("num_experts", (None,), "a mixture of experts has no MixFormer counterpart", written=False),
    Theirs(
        "auto_map",
        (None,),
        "the model may run its own code; if it does not need it, pass --waive auto_map",
        written=False,
    ),
)

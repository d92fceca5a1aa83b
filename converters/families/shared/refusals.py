"""Kinds of checkpoints that share a model_type with a family and are something else, each with what to do instead."""

from converters.config.entries import Theirs

HEADLESS = "only causal language models are; for a classifier, save its backbone with a causal head first"

REFUSED = (
    Theirs(
        "quantization_config",
        (None,),
        "dequantise it first: in transformers, `model.dequantize()` and `save_pretrained`",
        written=False,
    ),
    Theirs("vision_config", (None,), "convert the text model alone: save `model.language_model` first", written=False),
    Theirs("num_local_experts", (None,), "a mixture of experts has no MixFormer counterpart", written=False),
    Theirs("num_experts", (None,), "a mixture of experts has no MixFormer counterpart", written=False),
    Theirs("auto_map", (None,), "it runs code of its own; if it is an ordinary model, pass --waive", written=False),
)

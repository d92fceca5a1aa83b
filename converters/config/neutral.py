"""Config fields that say nothing about the function of a decoder: which values say nothing at all.

`convert` carries all of these as they are. A verdict asks more: a candidate whose field says something else than the
reference's would train, generate or present itself in another way, though its logits are the same.
"""

from collections.abc import Mapping
from typing import Any

from converters.config.kinds import same

# They name a place, a version or a tool. No value of theirs changes anything.
SILENT = frozenset(
    """
    _name_or_path _model_name_or_path _commit_hash transformers_version phyagi_version unsloth_version unsloth_fixed
    transformers.js_config model_type
    """.split()
)

_LABELS = ({"0": "LABEL_0", "1": "LABEL_1"}, {0: "LABEL_0", 1: "LABEL_1"})
_NAMES = ({"LABEL_0": 0, "LABEL_1": 1},)

# Defaults of transformers' base config (PretrainedConfig 4.x and 5.23): to say them is to say nothing. So is null.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        """is_decoder add_cross_attention is_encoder_decoder output_attentions output_hidden_states output_scores
        return_dict_in_generate torchscript use_bfloat16 tie_encoder_decoder do_sample early_stopping
        remove_invalid_values tf_legacy_loss gradient_checkpointing _attn_implementation_autoset
        _flash_attn_2_enabled""".split(),
        (False,),
    ),
    **dict.fromkeys(
        "chunk_size_feed_forward min_length no_repeat_ngram_size encoder_no_repeat_ngram_size".split(), (0,)
    ),
    **dict.fromkeys("num_beams num_beam_groups num_return_sequences pretraining_tp cp_size tp_size".split(), (1,)),
    **dict.fromkeys("temperature top_p typical_p repetition_penalty length_penalty".split(), (1.0,)),
    **dict.fromkeys("return_dict use_cache".split(), (True,)),
    **dict.fromkeys("bos_token_id eos_token_id pad_token_id".split(), (-1,)),  # no such token
    "diversity_penalty": (0.0,),
    "top_k": (50,),
    "max_length": (20,),
    "pruned_heads": ({},),
    "id2label": _LABELS,
    "label2id": _NAMES,
    "num_labels": (2,),
    "initializer_range": (0.02,),
    "architecture.mixer.flash_attn": (True,),
    "architecture.mixer.fused_dense": (True,),
    "architecture.mixer.flash_rotary": (True,),
    "architecture.loss.loss_cls": ("causal_lm",),
    "architecture.loss.shift_labels": (True,),
    "architecture.loss.ignore_index": (-100,),
    "architecture.loss.reduction": ("mean",),
    "architecture.loss.flash_cross_entropy_loss": (False,),
    "architecture.loss.inplace_backward": (False,),
}


def says_nothing(name: str, value: Any) -> bool:
    """Whether a field of this name and value is as good as absent."""
    return name in SILENT or value is None or any(same(value, neutral) for neutral in NEUTRAL.get(name, ()))

"""Config entries of litgpt's model_config.yaml: what it can say of a LLaMA, and its rotary embeddings.

Source: litgpt 0.5.13, `config.py` and `model.py` (`GPT.rope_cache`, `build_rope_cache`).
"""

from collections.abc import Mapping
from typing import Any

from converters.config.cannot_hold import CannotHold
from converters.config.entries import Config, Entry, Theirs
from converters.config.kinds import POSITIVE, Kind, spelled
from converters.errors import ConfigRefused
from converters.families.shared.rope import BASE, PARAMETERS

REMEDY = (
    "run `litgpt convert_from_litgpt` and convert the model.pth that it writes, with the config.json of transformers"
    " beside it"
)
FIXED: Mapping[str, tuple[Any, ...]] = {
    "mlp_class_name": ("LLaMAMLP",),
    "norm_class_name": ("RMSNorm",),
    "parallel_residual": (False,),
    "shared_attention_norm": (False,),
    "bias": (False,),
    "lm_head_bias": (False,),
    "norm_1": (True,),
    "norm_2": (True,),
    "norm_qk": (False,),
    "post_attention_norm": (False,),
    "post_mlp_norm": (False,),
    "rotary_percentage": (1.0,),
    "rope_interleave": (False,),
    "rope_local_base_freq": (None,),
    "rope_indices": (None,),
    "scale_embeddings": (False,),
    "attention_scores_scalar": (None,),
    "attention_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "sliding_window_size": (None,),
    "sliding_window_indices": (None,),
    "latent_attention": (None,),
    "n_expert": (0,),
    "n_shared_expert": (None, 0),
    "first_k_dense_replace": (None,),
}
"""Field -> the values that a LLaMA has; other values are another function."""
UNREAD = frozenset(
    """
    hf_config vocab_size padding_multiple gelu_approximate norm_qk_type moe_intermediate_size n_expert_groups
    n_topk_groups n_topk_scores_per_group n_expert_per_token routed_scaling_factor norm_topk_prob
    sliding_window_layer_placing
    """.split()
)
"""Fields that a LLaMA's forward pass does not read; its vocabulary has `padded_vocab_size` rows, all of them real.

`sliding_window_layer_placing`, of litgpt 0.4 and of 0.5 at first, is read where there is a `sliding_window_size` only.
"""
NO_GEMMA = Kind(
    "a name without Gemma in it, whose norms add one to their weights",
    lambda v: isinstance(v, str) and "Gemma" not in v,
)
LLAMA3 = {"factor": "factor", "low_freq_factor": "low_freq_factor", "high_freq_factor": "high_freq_factor"} | {
    "original_max_seq_len": "original_max_position_embeddings"
}


def litgpt_block() -> tuple[Entry, ...]:
    """All fields that must be a LLaMA's."""
    return Theirs("name", ("",), REMEDY, kind=NO_GEMMA), *(Theirs(n, values, REMEDY) for n, values in FIXED.items())


class LitgptRope:
    """`rope_base`; positions divided by `rope_condense_ratio`; or `rope_adjustments`, linear or those of LLaMA 3.1."""

    theirs: tuple[str, ...] = ("rope_base", "rope_condense_ratio", "rope_adjustments")
    ours: tuple[str, ...] = (BASE, PARAMETERS)
    also: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """`rotary_base`, and `rope_parameters` where they are scaled.

        Raises:
            ConfigRefused: a value is unsound, there are two scalings, or one that is not read.
        """
        theta, ratio = theirs.get("rope_base", 10000), theirs.get("rope_condense_ratio", 1)
        for name, value in (("rope_base", theta), ("rope_condense_ratio", ratio)):
            if not POSITIVE.holds(value):
                raise ConfigRefused(f"{name} is {spelled(value)}, expected {POSITIVE.words}")
        scaled = _adjusted(theirs.get("rope_adjustments"))
        if ratio != 1 and scaled:
            raise ConfigRefused(f"rope_condense_ratio is {ratio} and there are rope_adjustments; expected one scaling")
        scaled = {"rope_type": "linear", "factor": ratio} if ratio != 1 else scaled
        return {BASE: theta, PARAMETERS: {**scaled, "rope_theta": theta}} if scaled else {BASE: theta}

    def write(self, ours: Config) -> dict[str, Any]:
        """The same in litgpt's words.

        Raises:
            CannotHold: another rope type.
        """
        theta, given = ours[BASE], ours.get(PARAMETERS)
        said: dict[str, Any] = {"rope_base": theta, "rope_condense_ratio": 1, "rope_adjustments": None}
        if given is None:
            return said
        rest = {name: v for name, v in dict(given).items() if name not in ("rope_type", "rope_theta")}
        names = {"linear": {"factor": "factor"}, "llama3": LLAMA3}.get(given.get("rope_type"), {})
        if not names or set(names.values()) != rest.keys():
            raise CannotHold(f"it uses the rotary scaling {given!r}", "a linear one, or that of LLaMA 3.1", PARAMETERS)
        return {**said, "rope_adjustments": {name: rest[mine] for name, mine in names.items()}}


def _adjusted(said: Any) -> dict[str, Any]:
    """The parameters that `rope_adjustments` mean; empty for none."""
    if said is None or said == {}:
        return {}
    known = isinstance(said, dict) and said.keys() in ({"factor"}, LLAMA3.keys())
    if not known or not all(map(POSITIVE.holds, said.values())):
        raise ConfigRefused(
            f"rope_adjustments is {said!r}, expected null, a positive factor, or {', '.join(LLAMA3)}; {REMEDY}"
        )
    kind = "linear" if said.keys() == {"factor"} else "llama3"
    return {"rope_type": kind, **{LLAMA3[name]: value for name, value in said.items()}}

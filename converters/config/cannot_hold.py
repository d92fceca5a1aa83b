"""What a family cannot hold: settings of a MixFormer in the words of the field, and the refusal that says them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from converters.config.kinds import same, spelled
from converters.errors import ConfigRefused

MIXER, NORM, MLP, HEAD = "architecture.mixer.", "architecture.norm.", "architecture.mlp.", "architecture.head."


@dataclass(frozen=True)
class Setting:
    """What the values of a path are called. words: (value, words) pairs. other: for other values, `{}` is the value."""

    words: tuple[tuple[Any, str], ...] = ()
    other: str = ""

    def called(self, value: Any) -> str:
        """The words for a value; empty where there are none."""
        return next((words for known, words in self.words if same(known, value)), self.other.format(spelled(value)))


def _switch(on: str, off: str) -> Setting:
    return Setting(((True, on), (False, off)))


SETTINGS = {
    "embd_layer": Setting(
        (
            ("default", "rotary positions"),
            ("positional", "learned positions"),
            ("positional_offset", "learned positions from row 2 on"),
            ("normed", "a norm behind the embedding"),
            ("scaled", "multiplied embeddings"),
            ("scaled_table", "multiplied rows of the embedding"),
        )
    ),
    "embd_pdrop": Setting(((0.0, "no dropout on embeddings"),), "dropout {} on embeddings"),
    "resid_pdrop": Setting(((0.0, "no dropout on residuals"),), "dropout {} on residuals"),
    "tie_word_embeddings": _switch("a head tied to the embedding", "a head that is not tied to the embedding"),
    "architecture.block_cls": Setting(
        (
            ("sequential", "sequential blocks"),
            ("parallel", "parallel blocks"),
            ("ngpt", "normalised blocks"),
            ("parallel_two_norms", "parallel blocks with two norms"),
            ("residual", "residual blocks"),
        )
    ),
    "architecture.norms": Setting(
        (("before", "norms before branches"), ("after", "norms after branches"), ("both", "norms before and after"))
    ),
    "architecture.residual_scale": Setting(((1.0, "branches added as they are"),), "branches multiplied by {}"),
    "embd_scale": Setting(((None, "embeddings as they are"),), "embeddings multiplied by {}"),
    "architecture.residual": Setting((("add", "branches that are added"), ("lerp", "branches that are interpolated"))),
    NORM + "norm_cls": Setting(
        (
            ("rms", "RMS norms"),
            ("flash_rms", "RMS norms"),
            ("torch", "LayerNorms"),
            ("low_precision", "LayerNorms"),
            ("l2", "norms to length 1"),
        )
    ),
    NORM + "zero_centered_weight": _switch("norms around 1", "norms with plain weights"),
    NORM + "bias": _switch("norms with biases", "norms without biases"),
    NORM + "elementwise_affine": _switch("norms with weights", "norms without weights"),
    NORM + "eps": Setting(other="norms with eps {}"),
    MLP + "mlp_cls": Setting(
        (
            ("glu", "a gated MLP"),
            ("glu_bias", "a gated MLP with biases"),
            ("glu_scaled", "a gated MLP with a learned scale"),
            ("mlp", "a plain MLP"),
            ("mlp_no_bias", "a plain MLP without biases"),
            ("mlp_xielu", "a plain MLP whose activation learns"),
            ("fused_mlp", "a plain MLP"),
            ("moe", "a mixture of experts"),
        )
    ),
    MLP + "act_fn": Setting(other="the activation {}"),
    MLP + "bias": _switch("biases in the MLP", "no biases in the MLP"),
    MLP + "router_jitter": Setting(((0.0, "no noise on the router"),), "noise {} on the router"),
    MLP + "shared_inner": Setting(((None, "no shared expert"),), "a shared expert of width {}"),
    MLP + "shared_gate": _switch("a gate of the shared expert", "no gate of the shared expert"),
    HEAD + "use_norm": _switch("a norm before the output head", "no norm before the output head"),
    HEAD + "logit_multiplier": Setting(((1.0, "logits as they are"),), "logits multiplied by {}"),
    HEAD + "logit_softcap": Setting(((0.0, "no cap on logits"),), "logits capped at {}"),
    HEAD + "use_bias": _switch("a bias on the output head", "no bias on the output head"),
    MIXER + "bias": _switch("biases on queries, keys and values", "no biases on queries, keys and values"),
    MIXER + "out_bias": _switch("a bias on the attention output", "no bias on the attention output"),
    MIXER + "qk_norm": _switch("normalised queries and keys", "queries and keys without norms"),
    MIXER + "qk_norm_over": Setting(
        (("head", "one norm for all heads"), ("each_head", "norms of each head"), ("width", "norms over all heads"))
    ),
    MIXER + "clip_qkv": Setting(
        ((None, "unbounded queries, keys and values"),), "queries, keys and values bounded to {}"
    ),
    MIXER + "query_growth": Setting(((None, "queries that do not grow"),), "queries that grow by {}"),
    MIXER + "qk_l2_norm": _switch("queries and keys of length 1", "queries and keys of any length"),
    MIXER + "attn_fn": Setting(other="the attention function {}"),
    MIXER + "use_alibi": _switch("ALiBi", "no ALiBi"),
    MIXER + "alibi_formula": Setting(other="ALiBi with the slopes {}"),
    MIXER + "alibi_bias_max": Setting(other="ALiBi with the largest bias {}"),
    MIXER + "causal": _switch("causal attention", "attention that is not causal"),
    MIXER + "dropout": Setting(((0.0, "no dropout in attention"),), "dropout {} in attention"),
    MIXER + "softcap": Setting(((0.0, "no cap on attention scores"),), "attention scores capped at {}"),
    MIXER + "window_size": Setting(((None, "attention without a window"),), "a sliding window {}"),
    MIXER + "softmax_scale": Setting(
        ((None, "attention scores scaled by 1/sqrt(head_dim)"),), "attention scores scaled by {}"
    ),
    MIXER + "scale_attn_by_inverse_layer_idx": _switch("attention scores scaled by layer", "no scaling by layer"),
    MIXER + "head_dim": Setting(other="heads of {} dimensions"),
    MIXER + "rotary_dim": Setting(
        ((0, "no rotary positions"), (-1, "no rotary positions")), "rotary positions on {} dimensions of each head"
    ),
    MIXER + "rotary_base": Setting(other="rotary positions with base {}"),
    MIXER + "rotary_style": Setting(other="the rotary style {}"),
    MIXER + "rotary_formula": Setting(other="the rotary formula {}"),
    MIXER + "rotary_scale_base": Setting(((None, "no YaRN of the SDK"),), "YaRN of the SDK"),
    MIXER + "rope_scaling": Setting(((None, "no YaRN of the SDK"),), "YaRN of the SDK"),
    MIXER + "rope_parameters": Setting(((None, "rotary positions without scaling"),), "scaled rotary positions"),
    MIXER + "qk_scaled": Setting((("q", "a scale of queries alone"),), "a scale of queries and keys"),
    MIXER + "qk_scale.init": Setting(other="a scale of queries and keys that starts at {}"),
    HEAD + "logit_scale.init": Setting(other="a scale of logits that starts at {}"),
    MLP + "uv_scale.init": Setting(other="a scale in the MLP that starts at {}"),
    MLP + "uv_scale.scaling": Setting(other="a scale in the MLP that is stored in units of {}"),
    "architecture.attn_alpha.init": Setting(other="rates of attention that start at {}"),
    "architecture.mlp_alpha.init": Setting(other="rates of the MLP that start at {}"),
    "architecture.signed_rates": _switch("rates of either sign", "rates without a sign"),
    "architecture.normalize_stream": _switch("a stream that is normalised", "a stream that is used as it is"),
}
"""Path of ours -> what its values are called."""


class CannotHold(ConfigRefused):
    """A setting of a MixFormer that the target family cannot hold.

    uses: what the model has, as a clause (`it uses ALiBi`). needs: what the family needs instead. where: the field,
    with the values that the family can hold where there are a few.
    """

    def __init__(self, uses: str, needs: str, where: str) -> None:
        self.clauses = uses, needs, where
        super().__init__(self.of("the target family", "it"))

    def of(self, family: str, called: str) -> str:
        """The sentence for a family; `called`: its name as people write it."""
        uses, needs, where = self.clauses
        return f"{family} cannot hold this model: {uses}, {called} needs {needs} ({where})"


def cannot_hold(path: str, value: Any, values: Sequence[Any]) -> CannotHold:
    """The refusal of a value of ours where a family has only some values."""
    setting = SETTINGS.get(path, Setting())
    found, wanted = setting.called(value), setting.called(values[0])
    needs = _short(wanted, found) if found and wanted else "another value"
    return CannotHold(uses((path, value)), needs, f"{path} {' or '.join(map(spelled, values))}")


def uses(*found: tuple[str, Any]) -> str:
    """What a model has, as a clause, from paths of ours and their values."""
    words = [SETTINGS.get(path, Setting()).called(value) for path, value in found]
    if all(words):
        return f"it uses {' and '.join(words)}"
    return " and ".join(f"its {path} is {spelled(value)}" for path, value in found)


def _short(wanted: str, found: str) -> str:
    """`none` for `no ...`; `learned ones` where the same noun was said just before."""
    if wanted.startswith("no "):
        return "none"
    words, before = wanted.split(), found.split()
    alike = len(words) == len(before) == 2 and words[1] == before[1] and words[1].endswith("s")
    return f"{words[0]} ones" if alike else wanted

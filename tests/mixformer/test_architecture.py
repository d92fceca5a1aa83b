"""The architecture grammar: defaults, lists, aliases, and errors that say where and what."""

from __future__ import annotations

import copy
import inspect
import logging
from typing import Any

import pytest
import torch
from torch import nn

from mixformer import (
    MixFormerError,
    MixFormerSequentialConfig,
    MixFormerSequentialForCausalLM,
    MixFormerSequentialForSequenceClassification,
)
from mixformer.blocks import BLOCKS, get_block
from mixformer.blocks.heads import HEADS, LOSSES, get_head, get_loss
from mixformer.blocks.mixers import MIXERS, get_mixer
from mixformer.blocks.mlps import MLPS, get_mlp
from mixformer.blocks.norms import NORMS, get_norm

SMALL: dict[str, Any] = {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 20, "pad_vocab_size_multiple": 1}


def config(**kwargs: Any) -> MixFormerSequentialConfig:
    return MixFormerSequentialConfig(**{**SMALL, **kwargs})


def model(architecture: Any, **kwargs: Any) -> MixFormerSequentialForCausalLM:
    return MixFormerSequentialForCausalLM(config(architecture=architecture, **kwargs))


@pytest.mark.parametrize("empty", [None, {}, []])
def test_nothing_means_the_default_block(empty: Any) -> None:
    assert config(architecture=empty).architecture == {
        "block_cls": "parallel",
        "norm": {"norm_cls": "torch"},
        "mixer": {"mixer_cls": "mha"},
        "mlp": {"mlp_cls": "fused_mlp"},
    }


@pytest.mark.parametrize("architecture", [{"block_cls": "sequential"}, [{"mixer": {"mixer_cls": "mha"}}, {}]])
def test_the_callers_architecture_is_never_mutated_nor_shared(architecture: Any) -> None:
    before = copy.deepcopy(architecture)
    first = model(architecture)
    for block in [first.config.architecture] if isinstance(architecture, dict) else first.config.architecture:
        block["mixer"]["window_size"] = 3
        block["norm"]["eps"] = 7.0
    assert architecture == before
    assert config(architecture=architecture).architecture != first.config.architecture
    assert "eps" not in config().architecture["norm"]


def test_a_list_builds_one_block_per_item_and_sets_n_layer(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        built = model([{"block_cls": "sequential"}, {"block_cls": "parallel"}, {}], n_layer=1)
    assert [type(block).__name__ for block in built.layers[1:-1]] == [
        "SequentialBlock",
        "ParallelBlock",
        "ParallelBlock",
    ]
    assert built.config.n_layer == 3
    assert "Overriding 1 with 3" in caplog.text


def test_a_list_takes_head_loss_and_final_norm_beside_it() -> None:
    built = model(
        [{}, {}],
        head={"head_cls": "causal_lm", "use_bias": False},
        final_norm={"norm_cls": "rms", "eps": 1e-3},
        loss={"loss_cls": "causal_lm", "ignore_index": 5},
    )
    assert built.layers[-1].linear.bias is None
    assert built.layers[-1].ln.eps == 1e-3
    assert built.loss.ignore_index == 5
    again = MixFormerSequentialConfig.from_dict(built.config.to_dict())
    assert (again.head, again.final_norm, again.loss) == (built.config.head, built.config.final_norm, built.config.loss)


def test_a_list_without_final_norm_ends_in_a_layer_norm_with_the_configured_epsilon() -> None:
    built = model([{"norm": {"norm_cls": "rms"}}], layer_norm_epsilon=1e-3)
    assert type(built.layers[-1].ln).__name__ == "LayerNorm"
    assert built.layers[-1].ln.eps == 1e-3


def test_blocks_take_their_epsilon_from_the_norm_and_never_from_layer_norm_epsilon() -> None:
    for norm, eps in (({"norm_cls": "rms"}, 1e-5), ({"norm_cls": "rms", "eps": 1e-6}, 1e-6)):
        built = model({"norm": norm}, layer_norm_epsilon=1e-3)
        assert {m.eps for m in built.modules() if isinstance(m, nn.LayerNorm)} == {eps}


def test_legacy_names_still_work() -> None:
    old = config(
        blocks={"path": "sequential", "block_cls": "parallel"}, input_emb_layer="positional", cross_sample_sep=3
    )
    assert old.architecture["block_cls"] == "sequential"
    assert old.embd_layer == "positional"
    assert old.cross_sample_token_id == 3
    assert type(MixFormerSequentialForCausalLM(old).layers[1]).__name__ == "SequentialBlock"


def test_standard_names_of_transformers_are_aliases() -> None:
    sizes = MixFormerSequentialConfig(hidden_size=24, num_attention_heads=3, num_hidden_layers=2, n_ctx=64)
    assert (sizes.n_embd, sizes.n_head, sizes.n_layer, sizes.max_position_embeddings) == (24, 3, 2, 64)


@pytest.mark.parametrize(("given", "multiple", "stored"), [(50257, 64, 50304), (50257, 1, 50257), (64, 64, 64)])
def test_the_vocabulary_is_padded(given: int, multiple: int, stored: int) -> None:
    assert MixFormerSequentialConfig(vocab_size=given, pad_vocab_size_multiple=multiple).vocab_size == stored


def test_an_override_at_loading_is_merged_into_the_stored_architecture() -> None:
    stored = config(architecture={"mixer": {"mixer_cls": "mha", "window_size": 5}}).to_dict()
    merged = MixFormerSequentialConfig.from_dict(stored, architecture={"mixer": {"dropout": 0.5}}).architecture
    assert merged["mixer"] == {"mixer_cls": "mha", "window_size": 5, "dropout": 0.5}


def test_the_head_has_to_match_the_class() -> None:
    for kind in ("head", "loss"):
        with pytest.raises(
            ValueError, match=rf"`architecture.{kind}.{kind}_cls` must be 'causal_lm', but got 'seq_cls'"
        ):
            model({kind: {f"{kind}_cls": "seq_cls"}})
        with pytest.raises(ValueError, match=rf"`{kind}.{kind}_cls` must be 'causal_lm', but got 'seq_cls'"):
            model([{}], **{kind: {f"{kind}_cls": "seq_cls"}})
    with pytest.raises(ValueError, match="must be 'seq_cls', but got 'causal_lm'"):
        MixFormerSequentialForSequenceClassification(config(architecture={"head": {"head_cls": "causal_lm"}}))


SDK_KEYWORDS: dict[Any, dict[str, Any]] = {
    MIXERS["mha"]: {
        "n_head": None, "n_head_kv": None, "head_dim": None, "flash_attn": True, "causal": True, "use_alibi": False,
        "softmax_scale": None, "window_size": None, "dropout": 0.0, "fused_dense": True, "bias": True,
        "out_bias": None, "qk_norm": False, "flash_rotary": True, "rotary_dim": None, "rotary_base": 10000.0,
        "rotary_scale_base": None, "rope_scaling": None, "device": None, "layer_idx": None,
    },
    MLPS["glu"]: {"n_inner": None, "act_fn": None, "dtype": None},
    MLPS["mlp"]: {"n_inner": None, "act_fn": None, "dtype": None},
    MLPS["fused_mlp"]: {"n_inner": None, "act_fn": None, "dtype": None},
    NORMS["low_precision"]: {"eps": 1e-5, "elementwise_affine": True, "device": None, "dtype": None},
    NORMS["rms"]: {"eps": 1e-5, "device": None, "dtype": None},
    NORMS["flash_rms"]: {"eps": 1e-5, "dropout_p": 0.0, "device": None, "dtype": None},
    HEADS["causal_lm"]: {"dtype": None, "use_bias": True},
    HEADS["seq_cls"]: {"use_bias": False},
    LOSSES["causal_lm"]: {
        "shift_labels": True, "ignore_index": -100, "reduction": "mean", "flash_cross_entropy_loss": False,
        "inplace_backward": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("module_class", SDK_KEYWORDS, ids=lambda c: c.__name__)
def test_every_keyword_of_the_sdk_exists_with_its_default(module_class: Any) -> None:
    parameters = inspect.signature(module_class.__init__).parameters
    found = {name: parameters[name].default for name in SDK_KEYWORDS[module_class] if name in parameters}
    assert found == SDK_KEYWORDS[module_class]


UNKNOWN_NAMES = [
    (
        {"block_cls": "foo"},
        "`architecture.block_cls` must be one of ['parallel', 'sequential', 'ngpt', ",
    ),
    ({"mixer": {"mixer_cls": "foo"}}, "`architecture.mixer.mixer_cls` must be one of ['mha'], but got 'foo'."),
    (
        {"mlp": {"mlp_cls": "foo"}},
        "`architecture.mlp.mlp_cls` must be one of ['glu', 'fused_mlp', 'mlp', 'glu_bias', ",
    ),
    ({"norm": {"norm_cls": "foo"}}, "`architecture.norm.norm_cls` must be one of ['torch', 'low_precision', 'rms', "),
    ([{}, {"mixer": {"mixer_cls": 3}}], "`architecture[1].mixer.mixer_cls` must be one of ['mha'], but got 3."),
]


@pytest.mark.parametrize(("architecture", "message"), UNKNOWN_NAMES, ids=str)
def test_an_unknown_name_lists_what_exists(architecture: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        model(architecture)
    assert message in str(caught.value)
    assert isinstance(caught.value, MixFormerError)


def test_an_unknown_embedding_lists_what_exists() -> None:
    with pytest.raises(ValueError, match=r"`embd_layer` must be one of \['default', 'positional', .*\], but got 'foo'"):
        model(None, embd_layer="foo")


UNKNOWN_KEYWORDS = [
    ({"mixer": {"mixer_cls": "mha", "use_bias": True}}, "`architecture.mixer.use_bias`"),
    ({"mlp": {"mlp_cls": "mlp", "bias": False}}, "`architecture.mlp.bias`"),
    ({"mlp": {"mlp_cls": "glu", "use_bias": True}}, "`architecture.mlp.use_bias`"),
    ({"mlp": {"mlp_cls": "fused_mlp", "foo": 1}}, "`architecture.mlp.foo`"),
    ({"norm": {"norm_cls": "rms", "bias": True}}, "`architecture.norm.bias`"),
    ({"head": {"head_cls": "causal_lm", "bias": False}}, "`architecture.head.bias`"),
    ({"loss": {"loss_cls": "causal_lm", "z_loss": 1}}, "`architecture.loss.z_loss`"),
    ({"foo": 1}, "`architecture.foo`"),
    ([{}, {}, {}, {"mixer": {"mixer_cls": "mha", "windows": 3}}], "`architecture[3].mixer.windows`"),
]


@pytest.mark.parametrize(("architecture", "place"), UNKNOWN_KEYWORDS, ids=str)
def test_an_unknown_keyword_is_refused_with_its_place_and_the_known_ones(architecture: Any, place: str) -> None:
    with pytest.raises(TypeError) as caught:
        model(architecture)
    assert place in str(caught.value)
    assert "takes [" in str(caught.value)
    assert isinstance(caught.value, ValueError)


BAD_FORMS = [
    ("parallel", TypeError, "must be a dictionary or list of dictionaries, but got str"),
    ([{}, "parallel"], TypeError, r"`architecture\[1\]` must be a dictionary, but got 'parallel'"),
    ({"mixer": "mha"}, TypeError, r"`architecture.mixer` must be a dictionary, but got 'mha'"),
    ({"mixer": {"bias": True}}, ValueError, r"`architecture.mixer.mixer_cls` must be specified"),
    ({"norm": {}}, ValueError, r"`architecture.norm.norm_cls` must be specified"),
    ([{"mlp": {}}], ValueError, r"`architecture\[0\].mlp.mlp_cls` must be specified"),
    ({"head": {"use_bias": True}}, ValueError, r"`architecture.head.head_cls` must be specified"),
]


@pytest.mark.parametrize(("architecture", "error", "message"), BAD_FORMS, ids=str)
def test_a_malformed_architecture_is_refused(architecture: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        config(architecture=architecture)


@pytest.mark.parametrize("key", ["head", "loss", "final_norm"])
def test_keys_of_a_list_are_refused_beside_a_dict(key: str) -> None:
    with pytest.raises(ValueError, match=f"`{key}` goes with a list architecture"):
        config(**{key: {"x_cls": "y"}})
    with pytest.raises(TypeError, match=f"`{key}` must be a dictionary"):
        config(architecture=[{}], **{key: "causal_lm"})


def mixer(**kwargs: Any) -> dict[str, Any]:
    return {"mixer": {"mixer_cls": "mha", **kwargs}}


BAD_SIZES = [
    (mixer(n_head=3), {}, "`architecture.mixer.n_head` must be a divisor of n_embd = 16"),
    (mixer(n_head=4, n_head_kv=3), {}, "`architecture.mixer.n_head_kv` must be a divisor of n_head = 4, but got 3"),
    (None, {"n_head": 3}, "`architecture.mixer.n_head` must be a divisor of n_embd = 16"),
    (mixer(head_dim=0), {}, "`architecture.mixer.head_dim` must be a whole number >= 1, but got 0"),
    (mixer(head_dim="8"), {}, "`architecture.mixer.head_dim` must be of type int | None, but got '8'"),
    (mixer(rotary_dim=10), {}, "`architecture.mixer.rotary_dim` must be an even number up to head_dim = 8, but got 10"),
    (mixer(rotary_dim=3), {}, "`architecture.mixer.rotary_dim` must be an even number up to head_dim = 8, but got 3"),
    (None, {"rotary_dim": 10}, "`rotary_dim` must be an even number up to head_dim = 8, but got 10"),
    ({"mlp": {"mlp_cls": "glu", "n_inner": 0}}, {}, "`architecture.mlp.n_inner` must be a whole number >= 1"),
    ({"mlp": {"mlp_cls": "mlp", "act_fn": "foo"}}, {}, "`architecture.mlp.act_fn` must be one of ["),
    ({"mlp": {"mlp_cls": "mlp", "dtype": "int8"}}, {}, "`architecture.mlp.dtype` must be the name of a floating dtype"),
    (None, {"activation_function": "foo"}, "`activation_function` must be one of ["),
    (None, {"n_embd": "16"}, "`n_embd` must be a whole number >= 1, but got '16'"),
    (None, {"n_layer": 0}, "`n_layer` must be a whole number >= 1, but got 0"),
    (None, {"n_head": True}, "`n_head` must be a whole number >= 1, but got True"),
    (None, {"tp_size": 3}, "`n_head` must be a multiple of cp_size * tp_size = 3, but got 2"),
    (mixer(bias="false"), {}, "`architecture.mixer.bias` must be of type bool, but got 'false'"),
    (mixer(rotary_base="1e4"), {}, "`architecture.mixer.rotary_base` must be of type float, but got '1e4'"),
    (mixer(softmax_scale=True), {}, "`architecture.mixer.softmax_scale` must be of type float | None, but got True"),
    (mixer(rope_parameters="linear"), {}, "`architecture.mixer.rope_parameters` must be of type dict"),
    (mixer(dropout=1.5), {}, "`architecture.mixer.dropout` must be a probability, but got 1.5"),
    ({"head": {"head_cls": "causal_lm", "use_bias": "no"}}, {}, "`architecture.head.use_bias` must be of type bool"),
    ({"norm": {"norm_cls": "torch", "eps": "1e-5"}}, {}, "`architecture.norm.eps` must be of type float, but got"),
    ({"norm": {"norm_cls": "torch", "eps": -1e-5}}, {}, "`architecture.norm.eps` must be a number >= 0"),
    ({"norm": {"norm_cls": "rms", "dtype": "int8"}}, {}, "`architecture.norm.dtype` must be the name of a floating"),
    (None, {"resid_pdrop": 2}, "`resid_pdrop` must be a number from 0 to 1.0, but got 2"),
    (None, {"layer_norm_epsilon": "1e-5"}, "`layer_norm_epsilon` must be a number >= 0, but got '1e-5'"),
    (None, {"tie_word_embeddings": "no"}, "`tie_word_embeddings` must be true or false, but got 'no'"),
    (mixer(rotary_scale_base=2.0), {}, "`architecture.mixer.rotary_scale_base` must be None unless rope_scaling"),
    (mixer(rope_scaling={"rope_type": "linear"}), {}, "`architecture.mixer.rope_scaling.rope_type` must be 'yarn'"),
    (mixer(rope_scaling={"type": "yarn", "factor": 2}), {}, "`architecture.mixer.rope_scaling.factor`"),
    (mixer(rope_parameters={"rope_type": "foo"}), {}, "`architecture.mixer.rope_parameters.rope_type` must be one of"),
    (mixer(rope_parameters={"rope_type": "llama3"}), {}, "`architecture.mixer.rope_parameters` of type 'llama3' lacks"),
    (mixer(rope_parameters={"rope_type": "linear", "factor": "2"}), {}, "of type 'linear' cannot be computed"),
    (mixer(rope_parameters={"rope_type": "longrope", "short_factor": [1.0]}), {}, "a list of 4 numbers"),
    (mixer(rotary_base=5e5, rope_parameters={"rope_theta": 1e6}), {}, "contradicts rotary_base"),
]  # fmt: skip


@pytest.mark.parametrize(("architecture", "kwargs", "message"), BAD_SIZES, ids=lambda x: str(x)[:60])
def test_contradicting_sizes_are_refused_by_path(architecture: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        model(architecture, **kwargs)
    assert message in str(caught.value)
    assert isinstance(caught.value, MixFormerError)


@pytest.mark.parametrize("given", [None, 0, 4, 6, 8, -1])
def test_the_configuration_says_how_much_of_a_head_rotates(given: int | None) -> None:
    found = config(rotary_dim=given)  # heads of 8
    assert found.rotary_dim == (given or 8)
    assert found.to_dict()["rotary_dim"] == (given or 8)
    assert MixFormerSequentialConfig.from_dict({**found.to_dict(), "phyagi_version": "3"}).rotary_dim == (given or 8)
    assert MixFormerSequentialForCausalLM(found).layers[1].mixer.sizes.rotary_dim == max(given or 8, 0)


ROTARY_DIMS: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    ({}, {"head_dim": 12}, 8),  # as in the SDK: the configuration's whole heads, of 8
    ({}, {"n_head": 1}, 8),
    ({"rotary_dim": 4}, {"head_dim": 12}, 4),
    ({}, {"head_dim": 12, "rotary_dim": 12}, 12),
    ({}, {"n_head": 4}, 4),  # the SDK's forward pass fails
    ({}, {"head_dim": 6}, 6),
    ({"rotary_dim": 2}, {"head_dim": 6}, 2),
    ({}, {"rotary_dim": 0}, 0),
    ({"rotary_dim": -1}, {}, 0),
]


@pytest.mark.parametrize(("kwargs", "keywords", "rotary_dim"), ROTARY_DIMS, ids=str)
def test_a_mixer_rotates_what_the_configuration_says(
    kwargs: dict[str, Any], keywords: dict[str, Any], rotary_dim: int
) -> None:
    built = model(mixer(**keywords), **kwargs).layers[1].mixer
    assert built.rotary_dim == rotary_dim
    assert (0 if built.rotary_emb is None else 2 * len(built.rotary_emb.inv_freq)) == rotary_dim


@pytest.mark.parametrize(
    ("given", "window"),
    [
        (None, (-1, -1)),
        (5, (5, 0)),
        ((3, 2), (3, 2)),
        ([3, 2], (3, 2)),
        ("(2047, 0)", (2047, 0)),
        ("2047,0", (2047, 0)),
        ("[4, -1]", (4, -1)),
        ("128", (128, 0)),
        ("None", (-1, -1)),
    ],
)
def test_a_window_may_have_any_form_of_the_sdk(given: Any, window: tuple[int, int]) -> None:
    assert model(mixer(window_size=given)).layers[1].mixer.inner_attn.window == window


BAD_WINDOWS = ["__import__('os').getpid()", "(1, 2, 3)", (1,), 2.5, True, -2, (1, -2), {"left": 1}, "", "(1, 'a')"]


@pytest.mark.parametrize("window", BAD_WINDOWS, ids=str)
def test_a_window_of_a_wrong_form_is_refused_and_never_executed(window: Any) -> None:
    with pytest.raises(ValueError, match=r"`architecture\[1\].mixer.window_size` must be None, a whole number"):
        model([{}, mixer(window_size=window)])


def test_factories_build_without_an_architecture_as_the_sdk_does() -> None:
    plain = config()
    assert type(get_mixer(plain)).__name__ == "MHA"
    assert type(get_mlp(plain)).__name__ == "FusedMLP"
    assert type(get_norm(8)).__name__ == "LayerNorm"
    assert get_norm(8, eps=1e-3).eps == 1e-3
    assert type(get_head(plain)).__name__ == "CausalLMHead"
    assert type(get_loss()).__name__ == "CausalLMLoss"
    assert len(get_block(plain)) == 2


def test_a_list_architecture_builds_qk_norm_with_the_norm_of_its_block() -> None:
    built = model([{**mixer(qk_norm=True), "norm": {"norm_cls": "rms", "eps": 1e-3}}, {}])
    assert built.layers[1].mixer.q_norm.eps == 1e-3


class Scaled(nn.Module):
    def __init__(self, config: Any, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, None]:
        return x * self.factor, None


@pytest.mark.parametrize("block", ["parallel", "sequential"])
def test_a_custom_mixer_that_returns_a_tuple_and_takes_no_index_works_in_both_blocks(
    block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MIXERS, "scaled", Scaled)
    built = model({"block_cls": block, "mixer": {"mixer_cls": "scaled", "factor": 3.0}})
    assert built(torch.zeros(1, 4, dtype=torch.long)).logits.shape == (1, 4, 20)
    with pytest.raises(TypeError, match=r"unknown keyword `architecture.mixer.foo`: .* takes \['factor'\]"):
        model({"mixer": {"mixer_cls": "scaled", "foo": 1}})


class Plain(nn.Module):
    def __init__(self, config: Any, width: int = 1) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return x * self.width


def test_a_custom_block_gets_its_own_keys_and_may_return_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCKS, "plain", Plain)
    built = model({"block_cls": "plain", "width": 3})
    assert built.layers[1].width == 3
    assert built(torch.zeros(1, 4, dtype=torch.long)).logits.shape == (1, 4, 20)
    with pytest.raises(TypeError, match=r"`architecture.depth`"):
        model({"block_cls": "plain", "depth": 3})


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu", "gelu_new"])
def test_fused_mlp_computes_the_activation_it_was_asked_for(activation: str) -> None:
    from transformers.activations import ACT2FN

    mlp = get_mlp(config(), {"mlp_cls": "fused_mlp", "act_fn": activation}).mlp
    x = torch.randn(3, 16)
    assert torch.equal(mlp(x), mlp.fc2(ACT2FN[activation](mlp.fc1(x))))


def test_flash_rms_takes_the_keywords_of_its_kernel() -> None:
    x = torch.randn(3, 16)
    zero = get_norm(16, {"norm_cls": "flash_rms", "zero_centered_weight": True, "eps": 1e-4})
    one = get_norm(16, {"norm_cls": "rms", "eps": 1e-4})
    assert torch.equal(zero.weight, torch.zeros(16))
    assert torch.equal(zero(x), one(x))
    built = model({"norm": {"norm_cls": "flash_rms", "zero_centered_weight": True}})
    assert torch.equal(built.layers[1].ln.weight, torch.zeros(16))


def test_low_precision_norm_computes_in_the_autocast_dtype() -> None:
    norm, x = get_norm(16, {"norm_cls": "low_precision"}), torch.randn(3, 16)
    assert torch.equal(norm(x), nn.functional.layer_norm(x, (16,), norm.weight, norm.bias, norm.eps))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert norm(x).dtype == torch.bfloat16

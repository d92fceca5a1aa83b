"""One family to another through a MixFormer that is never written: one function, or a refusal that names the field."""

import json

import pytest

from converters import convert
from converters.errors import ConfigRefused
from golden import compare
from golden.models.hot import make_hot

WHOLE_HEADS = {"partial_rotary_factor": 1.0}
PAIRS = [
    ("llama", "mistral", {}),
    ("llama", "phi3", {"tie_word_embeddings": True}),
    ("mistral", "llama", {"sliding_window": None}),
    ("mistral", "phi3", {}),
    ("phi3", "mistral", WHOLE_HEADS),
    ("phi3", "llama", WHOLE_HEADS | {"sliding_window": None}),
    ("gptj", "codegen", {}),
    ("codegen", "gptj", {}),
]
REFUSED = [
    ("mistral", "llama", {}, "a sliding window '(23, 0)', LLaMA needs attention without a window"),
    ("qwen2", "llama", {}, "no bias on the attention output, LLaMA needs one value for both (attention_bias"),
    ("qwen3", "llama", {}, "normalised queries and keys, LLaMA needs queries and keys without norms"),
    ("llama", "gpt2", {}, "rotary positions, GPT-2 needs learned ones (embd_layer 'positional')"),
    ("gpt2", "llama", {}, "learned positions, LLaMA needs rotary ones (embd_layer 'default')"),
    ("phi", "gptj", {}, "2 key-value heads for 4 query heads, GPT-J needs as many key-value heads"),
    ("phi3", "mistral", {}, "rotary positions on 14 dimensions of each head, Mistral needs one value for both"),
    ("llama", "gptj", {}, "sequential blocks, GPT-J needs parallel ones (architecture.block_cls 'parallel')"),
]


@pytest.mark.parametrize(("family", "to", "changes"), PAIRS)
def test_families_whose_functions_agree_convert_into_each_other(family, to, changes, tmp_path):
    source = make_hot(family, tmp_path / "hot", **changes)
    output = convert(source, family, to, tmp_path / "out").output
    assert json.loads((output / "config.json").read_text())["model_type"] == to
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hot", "out"]  # nothing in between
    verdict = compare(output, source, levels=["L0", "L1", "L2"])
    assert verdict.verdict == "PASS", verdict
    assert (verdict.level("L2").number or 0.0) <= 1e-10


def test_a_fault_between_two_families_is_found(tmp_path):
    source = make_hot("llama", tmp_path / "hot")
    output = convert(source, "llama", "mistral", tmp_path / "out").output
    config = json.loads((output / "config.json").read_text())
    (output / "config.json").write_text(json.dumps({**config, "sliding_window": 24}))
    verdict = compare(output, source, levels=["L0", "L1", "L2"])
    assert [str(level.status) for level in verdict.levels[:3]] == ["FAIL", "PASS", "FAIL"]


@pytest.mark.parametrize(("family", "to", "changes", "sentence"), REFUSED)
def test_a_pair_that_cannot_agree_is_refused_with_the_field_in_the_way(family, to, changes, sentence, tmp_path):
    source = make_hot(family, tmp_path / "hot", **changes)
    with pytest.raises(ConfigRefused) as refused:
        convert(source, family, to, tmp_path / "out")
    assert str(refused.value).startswith(f"{to} cannot hold this model")
    assert sentence in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_what_a_way_home_remembered_does_not_follow_into_another_family(tmp_path):
    """A LLaMA stored with a redundant head becomes a plain Mistral, also by way of a MixFormer on disk."""
    from safetensors.torch import load_file, save_file

    source = make_hot("llama", tmp_path / "hot", tie_word_embeddings=True)
    weights = load_file(source / "model.safetensors")
    head = weights["model.embed_tokens.weight"].clone()
    save_file({**weights, "lm_head.weight": head}, source / "model.safetensors", metadata={"format": "pt"})
    ours = convert(source, output=tmp_path / "ours").output
    mistral = convert(ours, to="mistral", output=tmp_path / "mistral").output
    assert "lm_head.weight" not in load_file(mistral / "model.safetensors")
    assert "pretraining_tp" not in json.loads((mistral / "config.json").read_text())
    assert compare(mistral, source, levels=["L2"]).verdict == "PASS"

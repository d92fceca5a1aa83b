"""What transformers expects of a model: generation, checkpointing, resizing, devices, compiling."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import pipeline

from mixformer import (
    MixFormerError,
    MixFormerSequentialForCausalLM,
)

Build = Callable[..., MixFormerSequentialForCausalLM]

SEQUENTIAL = {"block_cls": "sequential", "mlp": {"mlp_cls": "glu"}, "norm": {"norm_cls": "rms"}}
MASK = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]])


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 61, (2, 7))


GENERATION: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 0.7, "top_k": 9},
    "beams": {"num_beams": 3, "do_sample": False},
    "sampled beams": {"num_beams": 2, "do_sample": True},
    "several sequences": {"do_sample": True, "num_return_sequences": 3},
}


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
@pytest.mark.parametrize("mode", GENERATION)
def test_generation_is_the_same_with_every_cache(build: Build, ids: Tensor, mode: str, mask: Tensor | None) -> None:
    model = build(architecture=SEQUENTIAL)
    texts = []
    for cache in ({"use_cache": False}, {}, {"cache_implementation": "static"}):
        torch.manual_seed(5)
        out = model.generate(ids, attention_mask=mask, max_new_tokens=6, pad_token_id=0, **GENERATION[mode], **cache)
        texts.append(out)
    assert texts[0].shape[1] == 13
    assert torch.equal(texts[0], texts[1])
    assert torch.equal(texts[0], texts[2])


def test_generation_from_embeddings_equals_generation_from_ids(build: Build, ids: Tensor) -> None:
    model = build()
    ids = ids.clamp(min=1)  # generate takes pad tokens among ids for padding
    embeds = model.get_input_embeddings()(ids)
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(model.generate(inputs_embeds=embeds, **options), model.generate(ids, **options)[:, 7:])


def test_embeddings_in_place_of_ids_give_equal_logits(build: Build, ids: Tensor) -> None:
    for embedding in ("default", "positional"):
        model = build(embd_layer=embedding)
        embeds = model.get_input_embeddings()(ids)
        assert torch.equal(model(inputs_embeds=embeds).logits, model(ids).logits)


def test_only_the_wanted_logits_are_computed(build: Build, ids: Tensor) -> None:
    model = build()
    full = model(ids).logits
    assert torch.allclose(model(ids, logits_to_keep=2).logits, full[:, -2:])
    assert torch.allclose(model(ids, logits_to_keep=torch.tensor([0, 3])).logits, full[:, [0, 3]])


def test_hidden_states_are_the_inputs_of_the_blocks_and_the_last_output(build: Build, ids: Tensor) -> None:
    model = build(n_layer=3)
    seen: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    out = model(ids, output_hidden_states=True)
    assert len(out.hidden_states) == 4
    assert all(torch.equal(x, y) for x, y in zip(out.hidden_states[:3], seen, strict=True))
    assert torch.equal(model.layers[-1](out.hidden_states[-1]), out.logits)
    assert model(ids).hidden_states is None


def test_a_tuple_is_returned_where_asked_for(build: Build, ids: Tensor) -> None:
    loss, logits = build()(ids, labels=ids, return_dict=False, use_cache=False)
    assert loss.ndim == 0
    assert logits.shape == (2, 7, 61)


def test_the_loss_is_the_cross_entropy_of_the_next_token(build: Build, ids: Tensor) -> None:
    model = build()
    labels = ids.clone()
    labels[0, 3] = -100
    out = model(ids, labels=labels)
    logits, target = out.logits[:, :-1].reshape(-1, 61), labels[:, 1:].reshape(-1)
    kept = target != -100
    expected = -torch.log_softmax(logits, -1)[kept, target[kept]]
    assert torch.allclose(out.loss, expected.mean())
    assert torch.allclose(model(ids, labels=labels, num_items_in_batch=40).loss, expected.sum() / 40)
    assert torch.allclose(model(ids, labels=labels, num_items_in_batch=torch.tensor(40)).loss, expected.sum() / 40)


def test_the_loss_takes_its_keywords_from_the_architecture(build: Build, ids: Tensor) -> None:
    options = {"loss_cls": "causal_lm", "shift_labels": False, "reduction": "none", "ignore_index": 3}
    model = build(architecture={"loss": options})
    out = model(ids, labels=ids)
    assert out.loss.shape == (14,)
    expected = nn.functional.cross_entropy(out.logits.flatten(0, 1), ids.flatten(), ignore_index=3, reduction="none")
    assert torch.equal(out.loss, expected)


def gradients(model: nn.Module, **inputs: Any) -> list[Tensor]:
    model.zero_grad()
    model(**inputs).loss.backward()
    return [p.grad.clone() for p in model.parameters()]


def is_checkpointing(model: Any) -> bool:
    """What transformers says of a model, under the name that it has since 5.23 or the one before."""
    return (
        model.is_activation_checkpointing
        if hasattr(model, "is_activation_checkpointing")
        else model.is_gradient_checkpointing
    )


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_keeps_every_argument(
    build: Build, ids: Tensor, reentrant: bool, checkpoint_activations: Callable[..., None]
) -> None:
    model = build(architecture={"mixer": {"mixer_cls": "mha", "window_size": 3, "use_alibi": True}}).train()
    arguments: list[dict[str, Any]] = [
        {},
        {"attention_mask": MASK},
        {"cu_seqlens": torch.tensor([0, 3, 7, 12, 14], dtype=torch.int32)},
        {"position_ids": torch.arange(7)[None] * 2},
        {"sample_ids": torch.tensor([[1, 1, 2, 2, 2, 3, 3], [1, 1, 1, 1, 2, 2, 2]])},
    ]
    plain = [gradients(model, input_ids=ids, labels=ids, **extra) for extra in arguments]
    model.gradient_checkpointing = True
    checkpoint_activations(model, {"use_reentrant": reentrant})
    assert is_checkpointing(model)
    recomputed = 0

    def count(module: nn.Module, args: Any) -> None:
        nonlocal recomputed
        recomputed += 1

    model.layers[1].register_forward_pre_hook(count)
    for extra, expected in zip(arguments, plain, strict=True):
        found = gradients(model, input_ids=ids, labels=ids, **extra)
        assert all(torch.allclose(x, y, rtol=1e-10, atol=1e-14) for x, y in zip(found, expected, strict=True))
    assert recomputed == 2 * len(arguments)
    assert max(float((x - y).abs().max()) for x, y in zip(plain[0], plain[2], strict=True)) > 1e-6


def test_gradient_checkpointing_can_be_asked_for_in_the_configuration(build: Build, ids: Tensor) -> None:
    model = build(gradient_checkpointing=True).train()
    assert is_checkpointing(model)
    assert model(ids, labels=ids, use_cache=True).past_key_values is None
    model(ids, labels=ids).loss.backward()


def test_checkpointing_with_a_cache_is_refused_since_it_would_append_twice(build: Build, ids: Tensor) -> None:
    cache = build()(ids).past_key_values
    with pytest.raises(MixFormerError, match="append to past_key_values twice"):
        build(gradient_checkpointing=True).train()(ids, past_key_values=cache)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [50, 70])
def test_a_resized_model_keeps_its_rows_and_survives_a_round_trip(
    build: Build, ids: Tensor, tmp_path: Path, size: int, tied: bool
) -> None:
    model = build(tie_word_embeddings=tied, vocab_size=60, pad_vocab_size_multiple=4)
    ids = ids % 50
    before = model(ids).logits
    model.resize_token_embeddings(size)
    assert model.config.vocab_size == size
    assert (model.layers[0].wte.weight is model.layers[-1].linear.weight) == tied
    assert torch.allclose(model(ids).logits[..., :50], before[..., :50])
    model.save_pretrained(tmp_path)
    again = MixFormerSequentialForCausalLM.from_pretrained(tmp_path)
    assert again.config.vocab_size == size
    assert torch.allclose(again(ids).logits, model(ids).logits, rtol=1e-10)


def test_tied_weights_stay_tied_in_training(build: Build, ids: Tensor) -> None:
    model = build(tie_word_embeddings=True)
    assert model.layers[0].wte.weight is model.layers[-1].linear.weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    assert torch.equal(model.layers[0].wte.weight, model.layers[-1].linear.weight)
    assert len({id(p) for p in model.parameters()}) == len(list(model.parameters()))


SPREAD = {"layers.0": "cpu", "layers.1": "disk", "layers.2": "cpu", "layers.3": "disk"}


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}, SPREAD], ids=["auto", "cpu", "spread"])
def test_a_device_map_gives_equal_logits(build: Build, ids: Tensor, tmp_path: Path, device_map: Any) -> None:
    model = build(architecture=SEQUENTIAL).float()
    model.save_pretrained(tmp_path)
    again = MixFormerSequentialForCausalLM.from_pretrained(
        tmp_path, device_map=device_map, offload_folder=tmp_path / "offload"
    )
    for extra in ({}, {"attention_mask": MASK}):
        assert torch.allclose(again(ids, **extra).logits, model(ids, **extra).logits, atol=1e-6)


@pytest.mark.parametrize("architecture", [None, SEQUENTIAL, {"mixer": {"mixer_cls": "mha", "window_size": 3}}])
def test_the_default_path_compiles_without_graph_breaks(build: Build, ids: Tensor, architecture: Any) -> None:
    torch.compiler.reset()
    model = build(architecture=architecture)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    out = compiled(ids, labels=ids, use_cache=False)
    expected = model(ids, labels=ids, use_cache=False)
    assert torch.allclose(out.logits, expected.logits, rtol=1e-12, atol=1e-12)
    out.loss.backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    expected.loss.backward()
    assert all(torch.allclose(x, p.grad, rtol=1e-9, atol=1e-12) for x, p in zip(found, model.parameters(), strict=True))


def test_a_padded_batch_compiles_without_graph_breaks(build: Build, ids: Tensor) -> None:
    torch.compiler.reset()
    model = build()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = compiled(ids, attention_mask=MASK, use_cache=False).logits[MASK.bool()]
    assert torch.allclose(found, model(ids, attention_mask=MASK, use_cache=False).logits[MASK.bool()], rtol=1e-12)


def test_the_attention_implementation_can_be_switched(build: Build, ids: Tensor) -> None:
    model = build()
    assert model.config._attn_implementation == "sdpa"
    sdpa = model(ids).logits
    model.set_attn_implementation("eager")
    assert torch.allclose(model(ids).logits, sdpa, rtol=1e-12)
    assert not torch.equal(model(ids).logits, sdpa)
    with pytest.raises(ValueError):
        model.set_attn_implementation("flex_attention")


def test_a_model_can_be_copied_and_pickled(build: Build, ids: Tensor) -> None:
    model = build()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(ids).logits, model(ids).logits)


def test_autocast_computes_in_its_dtype(build: Build, ids: Tensor) -> None:
    model = build(architecture={"norm": {"norm_cls": "low_precision"}}).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids).logits
    assert logits.dtype == torch.bfloat16
    assert torch.allclose(logits.float(), model(ids).logits, atol=0.5)


def test_a_model_works_in_a_pipeline(build: Build) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(61)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", unk_token="w0")
    generate = pipeline("text-generation", model=build().float(), tokenizer=tokenizer, device="cpu")
    text = generate("w3 w5 w7", max_new_tokens=4, do_sample=False)[0]["generated_text"]
    assert text.startswith("w3 w5 w7")
    assert text.count("w") == 7

"""Classification: which token speaks for a row, and which labels go with which problem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from mixformer import (
    MixFormerError,
    MixFormerSequentialConfig,
    MixFormerSequentialForCausalLM,
    MixFormerSequentialForSequenceClassification,
)
from mixformer.blocks.heads import CausalLMLoss, get_loss

Build = Callable[..., MixFormerSequentialForCausalLM]

MASK = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]])


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 61, (2, 7))


@pytest.fixture
def classifier(heat: Any) -> Callable[..., MixFormerSequentialForSequenceClassification]:
    def run(**kwargs: Any) -> MixFormerSequentialForSequenceClassification:
        sizes = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 61, "n_positions": 64}
        task = {"num_labels": 3, "problem_type": "single_label_classification", "pad_vocab_size_multiple": 1}
        config = MixFormerSequentialConfig(**{**sizes, **task, **kwargs})
        return heat(MixFormerSequentialForSequenceClassification(config)).double()

    return run


@pytest.mark.parametrize("side", ["left", "right"])
def test_classification_reads_the_last_token_that_is_no_padding(classifier: Any, ids: Tensor, side: str) -> None:
    model = classifier(pad_token_id=0)
    ids = ids.clamp(min=1)
    mask = MASK if side == "left" else MASK.flip(1)
    alone = torch.cat([model(row[keep][None]).logits for row, keep in zip(ids, mask.bool(), strict=True)])
    assert torch.allclose(model(ids, attention_mask=mask).logits, alone, rtol=1e-10)
    if side == "right":  # without a mask, pad tokens say where a row ends; they are seen by nobody before them
        assert torch.allclose(model(ids * mask).logits, alone, rtol=1e-10)


P = 0  # the pad token
POOLED: list[tuple[list[int], list[int] | None, int]] = [
    # (ids, mask, the token that is read); without a mask as the SDK reads them
    ([3, 4, 5, 6], None, 3),
    ([3, 4, P, P], None, 1),
    ([P, P, 5, 6], None, 3),
    ([3, P, 5, 6], None, 0),  # the first padding ends the row, whatever stands behind it
    ([3, P, 5, 6], [1, 1, 1, 1], 0),
    ([3, 4, P, P], [1, 1, 1, 0], 1),  # a pad token that ends the text is padding, too
    ([P, 4, 5, P], [1, 1, 1, 0], 2),  # it begins with one that is none: the SDK reads the padding at the end
    ([3, 4, 5, 6], [1, 1, 0, 0], 1),
    ([3, 4, 5, 6], [0, 0, 1, 1], 3),
    ([P, P, 5, 6], [0, 0, 1, 1], 3),
]


@pytest.mark.parametrize(("row", "mask", "index"), POOLED, ids=str)
def test_a_row_is_classified_by_the_token_before_its_first_padding(
    classifier: Any, row: list[int], mask: list[int] | None, index: int
) -> None:
    model = classifier(pad_token_id=P)
    ids, shown = torch.tensor([row, [7, 8, 9, 10]]), None
    if mask is not None:
        shown = torch.tensor([mask, [1, 1, 1, 1]])
    x, _, _ = model.run_blocks(ids, attention_mask=shown)
    scores = model.layers[-1](x)
    found = model(ids, attention_mask=shown).logits
    assert torch.equal(found, torch.stack([scores[0, index], scores[1, 3]]))
    assert not any(torch.equal(found[0], scores[0, other]) for other in range(4) if other != index)


def sdk_rule(ids: Tensor, scores: Tensor) -> Tensor:
    """Facts of the SDK: (first pad position) - 1, without padding the last token."""
    first = (ids == P).int().argmax(-1) - 1
    return scores[torch.arange(len(ids)), first]


def test_without_a_mask_the_sdks_rule_holds_for_all_rows(classifier: Any) -> None:
    model, ids = classifier(pad_token_id=P), torch.cartesian_prod(*[torch.tensor([P, 5])] * 5)
    ids = torch.where(ids == P, P, torch.arange(5) + 3)
    x, _, _ = model.run_blocks(ids)
    assert torch.equal(model(ids).logits, sdk_rule(ids, model.layers[-1](x)))


def test_a_batch_without_padding_information_is_refused(classifier: Any, ids: Tensor) -> None:
    with pytest.raises(MixFormerError, match=r"needs an attention_mask or config.pad_token_id"):
        classifier()(ids)
    assert classifier()(ids[:1]).logits.shape == (1, 3)


PROBLEMS: dict[str, tuple[int, Any, Callable[[Tensor, Tensor], Tensor]]] = {
    "single_label_classification": (3, torch.tensor([2, 0]), nn.functional.cross_entropy),
    "multi_label_classification": (
        3,
        torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
        nn.functional.binary_cross_entropy_with_logits,
    ),
    "regression": (1, torch.tensor([0.3, -2.0]), lambda x, y: nn.functional.mse_loss(x[:, 0], y)),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_each_kind_of_problem_has_its_loss(classifier: Any, ids: Tensor, problem: str, tmp_path: Path) -> None:
    labels_count, labels, loss = PROBLEMS[problem]
    model = classifier(num_labels=labels_count, problem_type=problem)
    out = model(ids, attention_mask=MASK, labels=labels)
    labels = labels if labels.dtype == torch.long else labels.double()
    assert torch.allclose(out.loss, loss(out.logits, labels))
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(again) is MixFormerSequentialForSequenceClassification
    assert torch.allclose(again(ids, attention_mask=MASK).logits, out.logits, rtol=1e-10)


@pytest.mark.parametrize("problem", [None, "sorting"])
def test_classification_needs_to_know_its_problem(classifier: Any, problem: str | None) -> None:
    with pytest.raises((ValueError, StrictDataclassError), match="problem_type"):
        classifier(problem_type=problem)


def test_a_language_model_loads_as_a_classifier_with_new_labels(build: Build, ids: Tensor, tmp_path: Path) -> None:
    build(architecture={"block_cls": "parallel"}).save_pretrained(tmp_path)
    model = MixFormerSequentialForSequenceClassification.from_pretrained(
        tmp_path, num_labels=5, problem_type="single_label_classification", ignore_mismatched_sizes=True
    )
    assert model(ids, attention_mask=MASK).logits.shape == (2, 5)


LABELS: list[tuple[str, int, tuple[int, ...], bool]] = [
    ("single_label_classification", 3, (2,), True),
    ("single_label_classification", 3, (2, 1), True),
    ("single_label_classification", 3, (1, 2), False),
    ("single_label_classification", 3, (2, 3), False),
    ("regression", 1, (2,), True),
    ("regression", 1, (2, 1), True),
    ("regression", 3, (2, 3), True),
    ("regression", 3, (6,), True),
    ("regression", 3, (3,), False),
    ("regression", 3, (3, 2), False),
    ("multi_label_classification", 1, (2,), True),
    ("multi_label_classification", 3, (6,), True),
    ("multi_label_classification", 3, (2,), False),
]


@pytest.mark.parametrize(("problem", "labels_count", "shape", "fits"), LABELS, ids=str)
def test_labels_in_one_row_are_read_where_their_number_fits(
    classifier: Any, problem: str, labels_count: int, shape: tuple[int, ...], fits: bool
) -> None:
    config = classifier(num_labels=labels_count, problem_type=problem).config
    loss, logits = get_loss(config, loss_config={"loss_cls": "seq_cls"}), torch.randn(2, labels_count)
    labels = torch.randint(0, 2, shape)
    if not fits:
        with pytest.raises(MixFormerError, match="labels must be"):
            loss(logits, labels)
        return
    usual = labels.flatten() if problem == "single_label_classification" else labels.reshape(2, labels_count)
    assert torch.equal(loss(logits, labels), loss(logits, usual))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shift", [True, False])
def test_labels_of_tokens_may_stand_in_one_row(shift: bool, reduction: str) -> None:
    loss = CausalLMLoss(shift_labels=shift, reduction=reduction)
    logits, labels = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    assert torch.equal(loss(logits, labels.flatten()), loss(logits, labels))
    assert torch.equal(loss(logits[0], labels[0]), loss(logits[:1], labels[:1]))
    for wrong in (labels.t(), labels[:, 1:], labels.flatten()[1:], labels[None]):
        with pytest.raises(MixFormerError, match="one entry per position"):
            loss(logits, wrong)


def test_packed_samples_are_classified_apart(classifier: Any, ids: Tensor) -> None:
    model = classifier()
    numbers = torch.tensor([[1, 1, 1, 2, 2, 2, 2]])
    alone = model(ids[:1, 3:]).logits
    assert torch.allclose(model(ids[:1], sample_ids=numbers).logits, alone, rtol=1e-10)
    assert torch.allclose(model(ids[:1], cu_seqlens=torch.tensor([0, 3, 7])).logits, alone, rtol=1e-10)
    assert not torch.allclose(model(ids[:1]).logits, alone, rtol=1e-3)


def test_arguments_that_nothing_reads_are_refused_and_positions_are_named(
    classifier: Any, build: Build, ids: Tensor
) -> None:
    for model in (classifier(), build()):
        with pytest.raises(MixFormerError, match=r"unknown arguments \['input_embeds'\]"):
            model(ids[:1], input_embeds=torch.zeros(1, 7, 32).double())
        with pytest.raises(TypeError):
            model(ids[:1], None, torch.ones_like(ids[:1]))  # G1's mask, our positions
        assert torch.equal(model(ids[:1], MASK[1:]).logits, model(ids[:1]).logits)

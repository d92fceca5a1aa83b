"""The stages of a forward pass, by names that both models share, to name the first stage that differs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from golden.evidence.prompts import Prompt
from golden.models.modules import ROLE_NAMES, blocks, captured, own_output, role_module
from golden.models.running import ModelRunner

Stages = list[tuple[str, Tensor]]


def diagnosis_prompt(prompts: Sequence[Prompt]) -> int:
    """Index of the diagnosis prompt: the shortest one, because it is run once for each hypothesis."""
    return min(range(len(prompts)), key=lambda i: len(prompts[i].ids))


def stages_of(runner: ModelRunner, prompts: Sequence[Prompt]) -> Stages:
    """(name, values (tokens, width)) of embeddings, norms, attentions, MLPs, blocks and logits, in order."""
    named: list[tuple[str, nn.Module]] = [("embeddings", runner.model.get_input_embeddings())]
    for i, block in enumerate(blocks(runner.model)):
        for role in ROLE_NAMES:
            module = role_module(block, role)
            if module is not None:
                named.append((f"layer {i}, {role.replace('_', ' ')}", module))
        named.append((f"layer {i}, output", block))
    with captured([module for _, module in named]) as calls:
        logits = runner.logits(prompts[diagnosis_prompt(prompts)].ids)
    stages = [
        (name, _flat(own_output(module, call[-1]))) for (name, module), call in zip(named, calls, strict=True) if call
    ]
    return [*stages, ("logits", logits)]


def _flat(values: Tensor) -> Tensor:
    """(tokens, width) of what a module returned for a batch of one."""
    return values.reshape(-1, values.shape[-1])

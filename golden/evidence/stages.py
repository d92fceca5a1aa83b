"""The stages of a forward pass, by names that both models share, to name the first stage that differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from golden.evidence.prompts import Prompt
from golden.models.modules import ROLE_NAMES, blocks, captured_outputs, output_of_call, role_module
from golden.models.running import POSITIONS, ModelRunner

Stages = list[tuple[str, Tensor]]


def diagnosis_prompt(prompts: Sequence[Prompt]) -> int:
    """Index of the diagnosis prompt: the shortest one, because it is run once for each hypothesis."""
    return min(range(len(prompts)), key=lambda i: len(prompts[i].ids))


def stages_of(runner: ModelRunner, prompt: Prompt) -> Stages:
    """(name, values (tokens, width)) of embeddings, norms, attentions, MLPs, blocks and logits, in order."""
    named = list(_named_modules(runner))
    with captured_outputs([module for _, module in named]) as outputs:
        logits = runner.logits(prompt.ids)
    stages = [(name, _flat(found[-1])) for (name, _), found in zip(named, outputs, strict=True) if found]
    return [*stages, ("logits", logits)]


def stage_value(runner: ModelRunner, prompt: Prompt, name: str) -> Tensor | None:
    """The values of one stage; no more of the forward pass is run than they take. None where there is no such stage."""
    if name == "logits":
        return runner.logits(prompt.ids)
    runner.prime(prompt.ids)
    module = dict(_named_modules(runner)).get(name)
    output = None if module is None else output_of_call(module, lambda: runner.logits(prompt.ids))
    return None if output is None else _flat(output)


def _named_modules(runner: ModelRunner) -> Iterator[tuple[str, nn.Module]]:
    yield "embeddings", runner.model.get_input_embeddings()
    if POSITIONS in runner.tables:
        yield "positions", runner.tables[POSITIONS]
    for i, block in enumerate(blocks(runner.model)):
        for role in ROLE_NAMES:
            module = role_module(block, role)
            if module is not None:
                yield f"layer {i}, {role.replace('_', ' ')}", module
        yield f"layer {i}, output", block


def _flat(values: Tensor) -> Tensor:
    """(tokens, width) of what a module returned for a batch of one."""
    return values.reshape(-1, values.shape[-1])

"""The float64 mode: what it lifts, what it must leave alone, and that the verdict needs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from golden.evidence.error_meter import ErrorMeter
from golden.models.loading import load_model
from golden.models.precision import Float64Mode, needs_priming, rebuild_sinusoids
from golden.models.running import ModelRunner

IDS = tuple(range(0, 300, 3))


def test_every_narrowing_cast_is_lifted() -> None:
    x, narrow = torch.ones(2, dtype=torch.float64), torch.ones(1)
    with Float64Mode():
        lifted = [
            x.float(),
            x.half(),
            x.bfloat16(),
            x.to(torch.float32),
            x.to(dtype=torch.bfloat16),
            x.to("cpu", torch.float16),
            x.to(narrow),
            x.type_as(narrow),
            x.type(torch.float32),
            torch.softmax(x, -1, dtype=torch.float32),
            torch.nn.functional.softmax(x, dim=-1, dtype=torch.float32),
            torch.tensor([0.5], dtype=torch.float32),
            torch.zeros(2, dtype=torch.float16),
            torch.arange(3, dtype=torch.float),
        ]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            lifted.append(x @ x)
    assert [t.dtype for t in lifted] == [torch.float64] * len(lifted)


def test_integers_and_booleans_are_left_alone() -> None:
    with Float64Mode():
        assert torch.ones(2).to(torch.int32).dtype is torch.int32
        assert torch.zeros(2, dtype=torch.bool).dtype is torch.bool


def test_a_float32_value_made_before_keeps_its_value() -> None:
    made = torch.tensor([1 / 3], dtype=torch.float32)
    with Float64Mode():
        assert float(made.float()) == float(made) != 1 / 3


def test_without_the_mode_a_healthy_llama_would_miss_the_budget(reference: Path) -> None:
    plain = load_model(reference, torch.float64, "sdpa").model
    with torch.no_grad():
        islands = plain(input_ids=torch.tensor([IDS])).logits[0]
    meter = ErrorMeter()
    meter.add("plain .double()", islands, ModelRunner(load_model(reference, torch.float64, "eager")).logits(IDS))
    assert 1e-9 < meter.total().rms < 1e-4


@pytest.mark.parametrize(("rope", "primes"), [(None, False), ("dynamic", True)])
def test_only_rope_that_is_made_in_the_forward_pass_needs_priming(
    rope: str | None, primes: bool, tmp_path: Path
) -> None:
    from golden.models.hot import make_hot

    parameters = {"rope_type": rope or "default", "rope_theta": 1e4, **({"factor": 2.0} if rope else {})}
    source = make_hot("llama", tmp_path, rope_parameters=parameters, max_position_embeddings=64)
    assert needs_priming(load_model(source, torch.float64, "eager").model) is primes


def dynamic_llama(folder: Path) -> Path:
    from golden.models.hot import make_hot

    parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    return make_hot("llama", folder, rope_parameters=parameters, max_position_embeddings=64)


def test_dynamic_rope_past_its_context_is_judged_with_the_float32_frequencies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = dynamic_llama(tmp_path)
    logits = {}
    runner = ModelRunner(load_model(source, torch.float64, "eager"))
    logits["primed"] = runner.logits(IDS)
    frequencies = runner.model.model.rotary_emb.inv_freq
    assert torch.equal(frequencies.float().to(frequencies.dtype), frequencies)
    runner = ModelRunner(load_model(source, torch.float64, "eager"))
    runner._primes = False
    logits["unprimed"] = runner.logits(IDS)
    runner = ModelRunner(load_model(source, torch.float64, "eager"))
    runner._primes = False
    monkeypatch.setitem(ROPE_INIT_FUNCTIONS, "dynamic", ROPE_INIT_FUNCTIONS["dynamic"].unlifted)
    logits["in float64"] = runner.logits(IDS)
    assert torch.equal(logits["unprimed"], logits["primed"])
    meter = ErrorMeter()
    meter.add("frequencies in float64", logits["in float64"], logits["primed"])
    assert meter.total().rms > 1e-9


def test_logits_of_dynamic_rope_do_not_depend_on_the_prompts_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = dynamic_llama(tmp_path)

    def of_prompts(*sizes: int) -> list[torch.Tensor]:
        runner = ModelRunner(load_model(source, torch.float64, "eager"))
        return [runner.logits(IDS[:size]) for size in sizes]

    short, middle, _ = rising = of_prompts(40, 80, 100)
    assert all(map(torch.equal, reversed(of_prompts(100, 80, 40)), rising))
    monkeypatch.setattr("golden.models.running.forget_lengths", lambda model: None)
    _, after_middle, after_short = of_prompts(100, 80, 40)
    assert not (torch.equal(after_middle, middle) and torch.equal(after_short, short))


def test_the_sinusoid_table_of_codegen_is_rebuilt_in_float64(tmp_path: Path) -> None:
    from golden.models.hot import make_hot

    model = load_model(make_hot("codegen", tmp_path), torch.float64, "eager").model
    before = model.transformer.h[0].attn.embed_positions.clone()
    rebuild_sinusoids(model)
    after = model.transformer.h[0].attn.embed_positions
    assert after.dtype is torch.float64
    assert 0 < float((after - before).abs().max()) < 1e-4

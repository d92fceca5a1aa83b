"""Probes of models that call the modules of their layers by names of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from golden.evidence import probes
from golden.evidence.probes import make_probes
from golden.models.loading import load_model
from golden.models.running import ModelRunner


def test_a_module_that_one_model_does_not_have_is_not_probed(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = ModelRunner(load_model(reference, torch.float64))
    own = ModelRunner(load_model(reference, torch.bfloat16))
    assert {probe.role for probe in make_probes(exact, own, torch.bfloat16)} == {"norm_1", "activation", "attention"}
    find = probes._find
    monkeypatch.setattr(probes, "_find", lambda r, role: None if r is own and role == "norm_1" else find(r, role))
    assert {probe.role for probe in make_probes(exact, own, torch.bfloat16)} == {"activation", "attention"}

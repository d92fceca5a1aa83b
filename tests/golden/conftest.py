"""Hot models that the tests of golden judge: made once, and never written to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from golden.hot import make_hot
from golden.patient import Patient, admit


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models are tiny: threads would only wait for each other, and for those of other test runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untied LLaMA with grouped heads, whose head_dim is not n_embd / n_head."""
    return make_hot("llama", tmp_path_factory.mktemp("reference"), seed=7)


@pytest.fixture(scope="session")
def tied_reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its head tied to the embedding."""
    return make_hot("llama", tmp_path_factory.mktemp("tied"), seed=8, tie_word_embeddings=True)


@pytest.fixture
def patient(reference: Path) -> Patient:
    """The reference in memory, to be changed and written elsewhere."""
    return admit(reference)

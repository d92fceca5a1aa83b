"""Training an nGPT: matrices keep vectors of length 1 along the width, the loss falls, and scales are trained."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainingArguments

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM
from mixformer.errors import InputError, MissingPackageError
from mixformer.training import NormalizeMatrices, lightning_callback, matrices_along_width, normalize_matrices

STEPS = 60
TEXT = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3] * 2)


class Repeating(Dataset):
    """The same text again and again."""

    def __len__(self) -> int:
        return 4 * STEPS

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": TEXT, "labels": TEXT}


def fresh(dialect: Any, sizes: Any) -> MixFormerSequentialForCausalLM:
    torch.manual_seed(0)
    config = dialect.model(dialect.hot(sizes(d=32)), sizes(d=32)).config
    return MixFormerSequentialForCausalLM(config)


@torch.no_grad()
def off_by(model: nn.Module) -> float:
    """How far the vectors along the width are from length 1, at most."""
    return max(float((w.norm(dim=axis) - 1).abs().max()) for _, w, axis in matrices_along_width(model))


def trainer(folder: Path, model: nn.Module, callbacks: list[Any]) -> Trainer:
    options = TrainingArguments(
        str(folder),
        max_steps=STEPS,
        logging_steps=1,
        # Logits of the tutorial lie between -1 and 1, apart from the bias: it needs larger steps.
        learning_rate=3e-2,
        weight_decay=0.0,
        lr_scheduler_type="constant",
        per_device_train_batch_size=4,
        save_strategy="no",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    return Trainer(model, options, train_dataset=Repeating(), callbacks=callbacks)


def test_sixty_steps_halve_the_loss_and_keep_all_lengths(ngpt: Any, sizes: Any, tmp_path: Path) -> None:
    model = fresh(ngpt, sizes)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run = trainer(tmp_path, model, [NormalizeMatrices()])
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert len(losses) == STEPS
    assert losses[-1] < 0.5 * losses[0]
    assert off_by(model) < 1e-6
    for name, parameter in model.named_parameters():
        if "scale" in name or "alpha" in name:
            assert not torch.equal(parameter, before[name]), name
            assert parameter.unique().numel() > 1, name


def test_without_the_aid_lengths_drift(nvidia: Any, sizes: Any, tmp_path: Path) -> None:
    model = fresh(nvidia, sizes)
    normalize_matrices(model)
    trainer(tmp_path, model, []).train()
    assert off_by(model) > 1e-3


def test_trained_scales_survive_half_precision_and_files(nvidia: Any, sizes: Any, tmp_path: Path) -> None:
    model = fresh(nvidia, sizes)
    trainer(tmp_path / "run", model, [NormalizeMatrices()]).train()
    model.save_pretrained(tmp_path / "one")
    narrow = MixFormerSequentialForCausalLM.from_pretrained(tmp_path / "one", dtype=torch.bfloat16)
    narrow.save_pretrained(tmp_path / "two")
    again = MixFormerSequentialForCausalLM.from_pretrained(tmp_path / "two", dtype=torch.float32)
    trained = model.state_dict()
    for name, tensor in again.state_dict().items():
        if "scale" in name or "alpha" in name:
            assert torch.equal(tensor, trained[name]), name
    assert not torch.equal(again.layers[1].mlp.fc1.weight, model.layers[1].mlp.fc1.weight)


def test_which_matrices_and_along_which_axis(ngpt: Any, sizes: Any) -> None:
    model = fresh(ngpt, sizes)
    found = {name: (tuple(weight.shape), axis) for name, weight, axis in matrices_along_width(model)}
    block = {"attn.Wqkv": ((96, 32), 1), "attn.out_proj": ((32, 32), 0), "mlp.fc1": ((256, 32), 1)}
    block["mlp.fc2"] = ((32, 128), 0)
    expected = {"layers.0.wte.weight": ((32, 32), 1), "layers.3.linear.weight": ((32, 32), 1)}
    expected |= {f"layers.{i}.{name}.weight": what for i in (1, 2) for name, what in block.items()}
    assert found == expected
    two_dimensional = {name for name, parameter in model.named_parameters() if parameter.ndim == 2}
    assert two_dimensional == set(found)


def test_normalising_is_the_same_in_any_wrapper(nvidia: Any, sizes: Any) -> None:
    class Wrapper(nn.Module):
        def __init__(self, model: nn.Module, name: str) -> None:
            super().__init__()
            setattr(self, name, model)

    for name in ("model", "module"):
        model = fresh(nvidia, sizes)
        assert off_by(model) > 0.1
        normalize_matrices(Wrapper(Wrapper(model, "model"), name))
        assert off_by(model) < 1e-6


def test_low_precision_is_normalised_in_float32(nvidia: Any, sizes: Any) -> None:
    model = fresh(nvidia, sizes)
    expected = model.layers[1].mlp.fc1.weight.detach().bfloat16().float()
    expected = (expected / expected.norm(dim=1, keepdim=True)).bfloat16()
    normalize_matrices(model.bfloat16())
    assert torch.equal(model.layers[1].mlp.fc1.weight, expected)


def test_a_row_of_zeros_stays_zeros(nvidia: Any, sizes: Any) -> None:
    model = fresh(nvidia, sizes)
    model.layers[0].wte.weight.data[5] = 0.0
    normalize_matrices(model)
    assert torch.equal(model.layers[0].wte.weight[5], torch.zeros(32))


def test_a_model_that_is_no_ngpt_is_refused() -> None:
    config = MixFormerSequentialConfig(n_embd=32, n_head=4, n_layer=1, vocab_size=64)
    for model in (MixFormerSequentialForCausalLM(config), nn.Linear(2, 2)):
        with pytest.raises(InputError, match="no blocks of class 'ngpt'"):
            normalize_matrices(model)


def test_lightning_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lightning.pytorch", None)
    with pytest.raises(MissingPackageError, match="pip install lightning"):
        lightning_callback()


@pytest.fixture
def lightning() -> ModuleType:
    return pytest.importorskip("lightning", reason="lightning is not installed")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_lightning_keeps_lengths_too(lightning: ModuleType, nvidia: Any, sizes: Any) -> None:
    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = fresh(nvidia, sizes)

        def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
            return self.model(**batch).loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    module = Module()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    run = lightning.Trainer(
        accelerator="cpu", max_steps=8, callbacks=[lightning_callback()], enable_checkpointing=False, **quiet
    )
    before = module.model.layers[1].mlp.fc1.weight.detach().clone()
    run.fit(module, DataLoader(Repeating(), batch_size=4))
    assert not torch.allclose(module.model.layers[1].mlp.fc1.weight, before, atol=1e-3)
    assert off_by(module.model) < 1e-6

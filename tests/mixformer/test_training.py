"""Short real runs in each framework: the loss falls, and a resumed run equals the one that went through."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from transformers import Trainer, TrainingArguments

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("distributed_run.py")
STEPS, HALF = 8, 4


class Counting(Dataset):
    """Rows of 16 ids that count upwards from a random start."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = (torch.arange(16) + 7 * index) % 40
        return {"input_ids": ids, "labels": ids}


def small(**kwargs: Any) -> MixFormerSequentialForCausalLM:
    torch.manual_seed(3)
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 40, "pad_vocab_size_multiple": 1}
    return MixFormerSequentialForCausalLM(MixFormerSequentialConfig(**sizes, **kwargs))


def assert_equal_weights(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 0.0) -> None:
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.allclose(found[key].double(), tensor.double(), rtol=0.0, atol=atol), key


def trainer(folder: Path, model: MixFormerSequentialForCausalLM, **kwargs: Any) -> Trainer:
    options: dict[str, Any] = {
        "max_steps": STEPS,
        "save_steps": HALF,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return Trainer(model, TrainingArguments(str(folder), **{**options, **kwargs}), train_dataset=Counting())


def losses_of(run: Trainer) -> list[float]:
    return [entry["loss"] for entry in run.state.log_history if "loss" in entry]


def test_trainer_learns_and_resumes_where_it_was(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", small(resid_pdrop=0.1))
    whole.train()
    losses = losses_of(whole)
    assert losses[-1] < 0.9 * losses[0]
    resumed = trainer(tmp_path / "whole", small(resid_pdrop=0.1))
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{HALF}"))
    assert losses_of(resumed) == losses
    assert_equal_weights(resumed.model.state_dict(), whole.model.state_dict())


def test_trainer_with_accumulated_and_checkpointed_steps_equals_large_batches(tmp_path: Path) -> None:
    large = trainer(tmp_path / "large", small())
    large.train()
    known = {field.name for field in fields(TrainingArguments)}
    names = ("activation_checkpointing", "gradient_checkpointing")  # today's name, and the one before
    checkpointing = next(name for name in names if name in known)
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, checkpointing: True}
    split = trainer(tmp_path / "split", small(), **options)
    split.train()
    assert losses_of(split) == pytest.approx(losses_of(large), rel=1e-4)
    assert_equal_weights(split.model.state_dict(), large.model.state_dict(), atol=1e-3)


@pytest.fixture
def lightning() -> ModuleType:
    return pytest.importorskip("lightning", reason="lightning is not installed")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_lightning_learns_and_resumes_where_it_was(lightning: ModuleType, tmp_path: Path) -> None:
    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = small()  # no dropout: lightning does not save the state of the random numbers
            self.losses: list[float] = []

        def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
            loss = self.model(**batch).loss
            self.losses.append(float(loss.detach()))
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    def fit(module: Module, epochs: int, resume: Path | None = None) -> None:
        saving = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, filename=f"{epochs}", every_n_epochs=1)
        run = lightning.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=[saving],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        one_epoch = Subset(Counting(), range(8 * HALF))  # lightning resumes exactly between epochs only
        run.fit(module, DataLoader(one_epoch, batch_size=8), ckpt_path=resume)

    whole, first, second = Module(), Module(), Module()
    fit(whole, 2)
    fit(first, 1)
    fit(second, 2, tmp_path / "1.ckpt")
    assert whole.losses[-1] < 0.9 * whole.losses[0]
    assert first.losses + second.losses == whole.losses
    assert_equal_weights(second.model.state_dict(), whole.model.state_dict())


def start(mode: str, output: Path, rank: int = 0, size: int = 1, port: int = 0) -> subprocess.Popen[str]:
    place = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(size), "MASTER_PORT": str(port)}
    machine = {"MASTER_ADDR": "127.0.0.1", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), mode, str(output)],
        env={**os.environ, **machine, **place, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*runs: subprocess.Popen[str]) -> None:
    for run in runs:
        text, _ = run.communicate(timeout=300)
        assert run.returncode == 0, text[-4000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("distributed_run", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fsdp2_over_two_processes_equals_one_process(tmp_path: Path) -> None:
    output, port = tmp_path / "fsdp.pt", free_port()
    finish(*[start("fsdp", output, rank, 2, port) for rank in range(2)])
    found = torch.load(output, weights_only=True)
    losses, weights = script().plain_run()
    assert losses[-1] < losses[0]
    assert found["losses"] == pytest.approx(losses, rel=1e-10)
    assert_equal_weights(found["weights"], weights, atol=1e-9)


def test_deepspeed_learns_resumes_and_its_folder_loads(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="deepspeed is not installed")
    output = tmp_path / "deepspeed.pt"
    finish(start("deepspeed", output, port=free_port()))
    found = torch.load(output, weights_only=True)
    assert found["losses"][-1] < found["losses"][0]
    half = len(found["losses"]) // 2
    assert found["tail"] == found["losses"][half:]
    assert_equal_weights(found["resumed"], found["weights"])
    folder = tmp_path / "checkpoints"
    assert json.loads((folder / "config.json").read_text())["model_type"] == "mixformer-sequential"
    model = MixFormerSequentialForCausalLM.from_pretrained(folder)
    ids = (torch.arange(16) % 40)[None]
    assert float(model(ids, labels=ids).loss.detach()) < found["losses"][0]

"""Training runs that need a process group; `test_training.py` starts them as processes of their own.

distributed_run.py fsdp OUTPUT        one rank of a run under FSDP2 (RANK, WORLD_SIZE in the environment)
distributed_run.py deepspeed OUTPUT   a DeepSpeed run on one process, interrupted and resumed
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM

STEPS = 6


def model() -> MixFormerSequentialForCausalLM:
    torch.manual_seed(3)
    architecture = {"block_cls": "sequential", "norm": {"norm_cls": "rms"}, "mlp": {"mlp_cls": "glu"}}
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 40, "pad_vocab_size_multiple": 1}
    return MixFormerSequentialForCausalLM(MixFormerSequentialConfig(architecture=architecture, **sizes)).double()


def batch(step: int) -> Tensor:
    """(4, 16) ids that count upwards, so that there is something to learn."""
    starts = torch.randint(0, 40, (4, 1), generator=torch.Generator().manual_seed(step))
    return (starts + torch.arange(16)) % 40


def plain_run() -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights of the run on one process."""
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    losses = []
    for step in range(STEPS):
        ids = batch(step)
        loss = net(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses, {key: value.detach() for key, value in net.state_dict().items()}


def fsdp_run(output: Path) -> None:
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    mesh = dist.device_mesh.init_device_mesh("cpu", (size,))
    net = model()
    for block in net.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(net, mesh=mesh)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    losses = []
    for step in range(STEPS):
        ids = batch(step).chunk(size)[rank]
        loss = net(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        losses.append(float(mean / size))
    weights = {key: value.full_tensor() for key, value in net.state_dict().items()}
    if rank == 0:
        torch.save({"losses": losses, "weights": weights}, output)
    dist.barrier()
    os._exit(0)  # not by the interpreter's end: a thread of gloo that asks for it then aborts the process


def deepspeed_engine() -> object:
    import deepspeed

    net = model().float()
    config = {"train_batch_size": 4, "zero_optimization": {"stage": 0}}
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    return deepspeed.initialize(model=net, optimizer=optimizer, config=config)[0]


def deepspeed_run(output: Path) -> None:
    import deepspeed

    deepspeed.init_distributed("gloo")
    checkpoints = output.parent / "checkpoints"

    def train(engine: object, steps: range) -> list[float]:
        losses = []
        for step in steps:
            ids = batch(step)
            loss = engine(ids, labels=ids).loss
            engine.backward(loss)
            engine.step()
            losses.append(float(loss.detach()))
        return losses

    engine = deepspeed_engine()
    losses = train(engine, range(STEPS // 2))
    engine.save_checkpoint(str(checkpoints))
    losses += train(engine, range(STEPS // 2, STEPS))
    resumed = deepspeed_engine()
    resumed.load_checkpoint(str(checkpoints))
    tail = train(resumed, range(STEPS // 2, STEPS))
    torch.save({"losses": losses, "tail": tail, "weights": engine.module.state_dict(),
                "resumed": resumed.module.state_dict()}, output)  # fmt: skip
    engine.module.config.save_pretrained(checkpoints)
    dist.destroy_process_group()


if __name__ == "__main__":
    {"fsdp": fsdp_run, "deepspeed": deepspeed_run}[sys.argv[1]](Path(sys.argv[2]))

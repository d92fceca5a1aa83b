"""Saves a model folder by torch.distributed.checkpoint from several processes: python distributed_save.py SRC DST N."""

import os
import sys
from pathlib import Path

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh


def save(rank, count, source, target, port):
    """What each process holds: rows of every tensor as FSDP2 cuts them, columns of the output projections."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=count)
    mesh = init_device_mesh("cpu", (count,))
    cut = {
        key: distribute_tensor(weight, mesh, [Shard(1 if "o_proj" in key or "out_proj" in key else 0)])
        for key, weight in load_file(source / "model.safetensors").items()
    }
    state = {key: {"exp_avg": weight.clone()} for key, weight in cut.items()}
    dcp.save({"model": cut, "optim": {"state": state}, "step": 7}, checkpoint_id=str(target))
    dist.destroy_process_group()


if __name__ == "__main__":
    source, target, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    mp.spawn(save, args=(count, source, target, 29500 + os.getpid() % 2000), nprocs=count)

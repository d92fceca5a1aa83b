"""Saves a model folder by torch.distributed.checkpoint from several processes: python distributed_save.py SRC DST N."""

import os
import sys
import tempfile
from pathlib import Path

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh


def save(rank, count, source, target, meeting):
    """What each process holds: rows of every tensor as FSDP2 cuts them, columns of the output projections."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    mesh = init_device_mesh("cpu", (count,))
    cut = {
        key: distribute_tensor(weight, mesh, [Shard(1 if "o_proj" in key or "out_proj" in key else 0)])
        for key, weight in load_file(source / "model.safetensors").items()
    }
    state = {key: {"exp_avg": weight.clone()} for key, weight in cut.items()}
    dcp.save({"model": cut, "optim": {"state": state}, "step": 7}, checkpoint_id=str(target))
    dist.barrier()
    os._exit(0)  # not by the interpreter's end: a thread of gloo that asks for it then aborts the process


if __name__ == "__main__":
    source, target, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as place:
        mp.spawn(save, args=(count, source, target, Path(place) / "meeting"), nprocs=count)

"""Which tensor goes into which output file, under transformers' names, and the header each file begins with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from converters.checkpoint.safetensors_header import build_header
from converters.plan.plan import Plan
from converters.plan.rules import TargetTensor, home


@dataclass(frozen=True)
class Shard:
    """One output file: its name, its header, and its tensors in the order of their data."""

    name: str
    header: bytes
    tensors: tuple[TargetTensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors)


def lay_out(plan: Plan, max_shard_size: int | None = None) -> tuple[Shard, ...]:
    """Output files of a plan: those of the source, or files of at most `max_shard_size` bytes of tensors.

    A tensor made of parts from several files goes where its first part lay.
    """
    groups = _by_size(plan.tensors, max_shard_size) if max_shard_size else _by_source(plan)
    return tuple(_shard(plan, k, len(groups), group) for k, group in enumerate(groups))


def _by_source(plan: Plan) -> list[list[TargetTensor]]:
    groups: dict[int, list[TargetTensor]] = {}
    for tensor in plan.tensors:
        groups.setdefault(home(plan.source, tensor)[0], []).append(tensor)
    return [groups[shard] for shard in sorted(groups)]


def _by_size(tensors: Sequence[TargetTensor], limit: int) -> list[list[TargetTensor]]:
    """Greedy, as transformers does it: a file is closed when the next tensor would pass the limit."""
    groups: list[list[TargetTensor]] = [[]]
    used = 0
    for tensor in tensors:
        if groups[-1] and used + tensor.nbytes > limit:
            groups.append([])
            used = 0
        groups[-1].append(tensor)
        used += tensor.nbytes
    return groups


def _shard(plan: Plan, index: int, count: int, tensors: Sequence[TargetTensor]) -> Shard:
    name = "model.safetensors" if count == 1 else f"model-{index + 1:05d}-of-{count:05d}.safetensors"
    congruent = home(plan.source, tensors[0])[1]
    header = build_header(((t.key, t.dtype, t.shape) for t in tensors), congruent if congruent < 2**63 else 0)
    return Shard(name, header, tuple(tensors))


def index_json(shards: Sequence[Shard]) -> str | None:
    """The text of `model.safetensors.index.json`, or None for a single file."""
    if len(shards) == 1:
        return None
    tensors = [tensor for shard in shards for tensor in shard.tensors]
    parameters = sum(_count(tensor) for tensor in tensors)
    metadata: Mapping[str, int] = {
        "total_parameters": parameters,
        "total_size": sum(tensor.nbytes for tensor in tensors),
    }
    weight_map = {tensor.key: shard.name for shard in shards for tensor in shard.tensors}
    return json.dumps({"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}, indent=2) + "\n"


def _count(tensor: TargetTensor) -> int:
    count = 1
    for size in tensor.shape:
        count *= size
    return count

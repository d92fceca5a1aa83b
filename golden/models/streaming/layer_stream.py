"""Running a model larger than memory: the weights of one layer at a time are read from disk.

The forward pass is the model's own. Every part that owns weights reads them when it runs, so that only hidden states,
the layer that runs and the next one are in memory. The results are those of the whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from golden.models.failures import nonfinite_words
from golden.models.modules import blocks
from golden.models.streaming.lockstep import Lockstep
from golden.models.streaming.stored import Stored

Patch = Callable[[Tensor], None]
"""Writes other values into a tensor that was read."""


HEAD_BYTES = 64 * 2**20
"""A head is read and multiplied in blocks of rows of so many bytes: a vocabulary can outweigh all layers."""

_READING = ThreadPoolExecutor(1, thread_name_prefix="reading-ahead")


@dataclass(frozen=True)
class _Slot:
    """One parameter: its full name, the module that owns it, and what stands there while its weights are on disk."""

    name: str
    owner: nn.Module
    leaf: str
    absent: nn.Parameter


class LayerStream:
    """Gives weights to a model on the meta device, a layer at a time.

    The weights of a layer stay until another layer runs, so that calling one module many times reads them once.

    Args:
        model: its parameters on the meta device, its buffers not.
        sources: where the weights of each parameter lie. They are cast to the dtype that the parameter has in the
            model, as transformers does it: some models keep a few in float32 whatever they are loaded in.
    """

    def __init__(self, model: nn.Module, sources: Mapping[str, Stored]) -> None:
        self.rounded_to: torch.dtype | None = None
        self._patches: dict[Stored, list[Patch]] = {}
        self._sources = sources
        self._dtypes = {name: parameter.dtype for name, parameter in model.named_parameters(remove_duplicate=False)}
        self._buffers = {name: tensor for name, tensor in model.state_dict().items() if name not in self._dtypes}
        self._inside: nn.Module | None = None
        self._slots = {unit: tuple(_slots(prefix, unit)) for prefix, unit in _units(model)}
        self._order = list(self._slots)
        self._ahead: tuple[nn.Module, Future[dict[str, Tensor]]] | None = None
        self._nonfinite: dict[str, str | None] = {}
        self._head = _head(self._order, self._slots)
        if self._head is not None:
            self._head.owner.forward = partial(self._head_forward, self._head)
        layers = [unit for unit in blocks(model) if unit in self._slots]
        self.together = Lockstep(self._load_ahead, self._order, layers)
        self._hooks = [unit.register_forward_pre_hook(lambda module, _: self._enter(module)) for unit in self._slots]
        self._hooks += [unit.register_forward_hook(lambda *call: self.together.left(call[-1])) for unit in layers]

    def read(self, name: str) -> Tensor:
        """The weights of one parameter, rounded to ``rounded_to`` where that is set, then cast to its own dtype."""
        source = self._sources[name]
        with torch._C.DisableTorchFunction():  # as in `_cast`
            stored = source.read()
            if patches := self._patches.get(source, ()):
                stored = stored.clone()
            for patch in patches:
                patch(stored)
            found = self._cast(stored, self._dtypes[name])
            self._nonfinite[name] = nonfinite_words(name, [found])  # here, because it brings a mapped file into memory
            return found

    def name_nonfinite(self) -> str | None:
        """The first weight or buffer that holds NaN or infinity, as a sentence; what was read before is known."""
        for name in self._sources:
            if name not in self._nonfinite and self._head is not None and name == self._head.name:
                self._nonfinite[name] = nonfinite_words(name, self.read_rows(name))
            elif name not in self._nonfinite:
                self.read(name)
            if words := self._nonfinite[name]:
                return words
        return next(filter(None, (nonfinite_words(name, [tensor]) for name, tensor in self._buffers.items())), None)

    def patch(self, name: str, patch: Patch) -> bool:
        """Change a parameter whenever it is read from now on. False where there is no such parameter."""
        if name not in self._sources:
            return False
        self._patches.setdefault(self._sources[name], []).append(patch)
        self._forget()
        return True

    def round_through(self, dtype: torch.dtype) -> None:
        """Round every parameter through ``dtype`` whenever it is read from now on."""
        self.rounded_to = dtype
        self._forget()

    def _forget(self) -> None:
        self._ahead = None
        self._nonfinite = {}
        self.release()

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter with its weights, one after the other; then the buffers that files hold."""
        for name in self._sources:
            yield name, self.read(name)
        yield from self._buffers.items()

    def load_all(self) -> None:
        """Give every parameter its weights, one after the other, for good: the model is then as if loaded whole."""
        for hook in self._hooks:
            hook.remove()
        made: dict[nn.Parameter, nn.Parameter] = {}
        if self._head is not None:
            del self._head.owner.forward
        for slot in (slot for slots in self._slots.values() for slot in slots):
            if slot.absent not in made:
                made[slot.absent] = nn.Parameter(self.read(slot.name), requires_grad=False)
            slot.owner._parameters[slot.leaf] = made[slot.absent]

    def release(self) -> None:
        """Free the weights in memory."""
        for slot in self._held(self._inside):
            slot.owner._parameters[slot.leaf] = slot.absent
        self._inside = None

    def _enter(self, unit: nn.Module) -> None:
        if not self.together.entered(unit):
            self._load(unit)

    def _load(self, unit: nn.Module) -> None:
        if self._inside is unit:
            return
        self.release()
        values = self._taken(unit) or self._read_unit(unit)
        self._inside = unit
        for slot in self._held(unit):
            slot.owner._parameters[slot.leaf] = nn.Parameter(values[slot.name], requires_grad=False)

    def _held(self, unit: nn.Module | None) -> Iterator[_Slot]:
        """The parameters of a layer that are in memory while it runs: not the rows of the head."""
        slots = () if unit is None else self._slots[unit]
        return (slot for slot in slots if slot != self._head)

    def _read_unit(self, unit: nn.Module) -> dict[str, Tensor]:
        return {slot.name: self.read(slot.name) for slot in self._held(unit)}

    def _head_forward(self, slot: _Slot, x: Tensor) -> Tensor:
        """What `nn.Linear` gives, (..., rows) of x (..., width), a block of rows after the other."""
        bias = slot.owner._parameters["bias"]
        logits = x.new_empty(*x.shape[:-1], slot.absent.shape[0])
        start = 0
        for rows in self.read_rows(slot.name):  # (some rows, width)
            stop = start + len(rows)
            logits[..., start:stop] = nn.functional.linear(x, rows, None if bias is None else bias[start:stop])
            start = stop
        return logits

    def read_rows(self, name: str) -> Iterator[Tensor]:
        """What `read` gives, in blocks of rows of at most `HEAD_BYTES`; whole where it is patched, or of a stand-in."""
        source, dtype = self._sources[name], self._dtypes[name]
        if source in self._patches:
            yield self.read(name)
            return
        rows = max(1, HEAD_BYTES // (source.shape[1] * dtype.itemsize))
        yield from (self._cast(block, dtype) for block in source.rows(rows))

    def _cast(self, stored: Tensor, dtype: torch.dtype) -> Tensor:
        # A model in float64 runs under `Float64Mode`, which would also change the casts of this method.
        with torch._C.DisableTorchFunction():
            return (stored if self.rounded_to is None else stored.to(self.rounded_to)).to(dtype)

    def _load_ahead(self, unit: nn.Module) -> None:
        """Load a layer, and begin to read the one that comes after it; of stand-ins only one is read at a time."""
        self._load(unit)
        place = self._order.index(unit) + 1
        if place < len(self._order) and all(source.on_disk for source in self._sources.values()):
            self._ahead = (self._order[place], _READING.submit(self._read_unit, self._order[place]))

    def _taken(self, unit: nn.Module) -> dict[str, Tensor] | None:
        """What was read ahead, if it is for this layer."""
        ahead, self._ahead = self._ahead, None
        return ahead[1].result() if ahead is not None and ahead[0] is unit else None


def _units(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that are read as a whole: the blocks, and outside of them the outermost modules with parameters."""
    whole = set(blocks(model))
    seen: set[nn.Module] = set()

    def walk(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        if module in whole or any(True for _ in module.parameters(recurse=False)):
            if module not in seen:
                seen.add(module)
                yield prefix, module
            return
        for name, child in module.named_children():
            yield from walk(f"{prefix}{name}.", child)

    yield from walk("", model)


def _head(order: list[nn.Module], slots: Mapping[nn.Module, tuple[_Slot, ...]]) -> _Slot | None:
    """The weight of the last layer, if that is a linear map and nothing else."""
    if not order or type(order[-1]) is not nn.Linear:
        return None
    return next(slot for slot in slots[order[-1]] if slot.leaf == "weight")


def _slots(prefix: str, unit: nn.Module) -> Iterator[_Slot]:
    for path, owner in unit.named_modules(remove_duplicate=False):
        for leaf, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
            yield _Slot(f"{prefix}{path}.{leaf}" if path else f"{prefix}{leaf}", owner, leaf, parameter)


def names_sharing_weights(model: nn.Module) -> dict[str, list[str]]:
    """Parameter name -> all names of that parameter, itself among them: a tied head and its embedding are one."""
    groups: dict[Any, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return {name: names for names in groups.values() for name in names}

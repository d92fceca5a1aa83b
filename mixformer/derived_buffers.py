"""Buffers that follow from the configuration: no part of a checkpoint, and never rounded below float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class DerivedBuffers(nn.Module, ABC):
    """A module whose own buffers are computed, not trained.

    They keep float32 when the model is cast to something narrower, widen with float64, and are filled again when the
    module comes off the meta device, where `from_pretrained` builds it: memory nobody wrote would pass for values.
    """

    @abstractmethod
    def reset_buffers(self) -> None:
        """Write the values of all own buffers that are not on the meta device."""

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # Some generations saved them; the values that follow from the configuration hold.
        for name, _ in self.named_buffers(recurse=False):
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        refill = False
        for name, old in before.items():
            new = getattr(self, name)
            if new.dtype.itemsize < torch.float32.itemsize:
                setattr(self, name, old.to(device=new.device, dtype=torch.float32))
            refill |= old.is_meta and not new.is_meta
        if refill:
            self.reset_buffers()
        return self

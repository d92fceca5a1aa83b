"""What all attention layers of one forward pass share: backend, positions, padding, samples, and tables made once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mixformer.visibility import Visibility, Window


@dataclass
class ForwardContext:
    """Shared inputs of one forward pass.

    Attributes:
        backend: transformers' name of the attention implementation.
        position_ids: (1 or B, S) positions of the new tokens.
        segments: (B, Sk) padding and samples as in `Visibility`, or None.
        past_length: Number of cached tokens; a 0-dim tensor with a static cache.
        shared: Masks and rotary tables made so far, by what determines them.
        first_values: Values of the first attention layer and that layer, where later ones take them. Contexts on other
            devices share it.
    """

    backend: str
    position_ids: Tensor
    segments: Tensor | None = None
    past_length: int | Tensor = 0
    shared: dict[Hashable, object] = field(default_factory=dict)
    first_values: dict[str, tuple[torch.nn.Module, Tensor]] = field(default_factory=dict)

    def to(self, device: torch.device | str, **_: object) -> ForwardContext:
        """This context on another device (accelerate moves arguments between the devices of a `device_map`)."""
        past = self.past_length
        return ForwardContext(
            self.backend,
            self.position_ids.to(device),
            None if self.segments is None else self.segments.to(device),
            past.to(device) if isinstance(past, Tensor) else past,
            first_values=self.first_values,
        )

    def once(self, key: Hashable, make: Callable[[], object]) -> object:
        """The value made by `make` in the first layer that asked for `key`."""
        if key not in self.shared:
            with torch.no_grad():
                self.shared[key] = make()
        return self.shared[key]

    def visibility(self, causal: bool, window: Window, query_length: int, key_length: int) -> Visibility:
        """What a layer with these settings sees. Segments are padded to a cache longer than they are."""
        segments = self.segments
        if segments is not None and segments.shape[1] < key_length:
            segments = torch.nn.functional.pad(segments, (0, key_length - segments.shape[1]))
        past = self.past_length
        bottom_right = not isinstance(past, Tensor) and past + query_length == key_length
        return Visibility(causal, window, segments, None if bottom_right else past)

    def mask(self, visibility: Visibility, query_length: int, key_length: int, device: torch.device) -> Tensor | None:
        """The mask of `visibility`, made once for all layers alike; None if there is nothing to hide but the future."""
        if not visibility.needs_mask(query_length, key_length):
            return None
        key = ("mask", visibility.causal, visibility.window, query_length, key_length, device)
        return self.once(key, lambda: visibility.mask(query_length, key_length, device))

"""Segments that wrappers of modules put into keys, in front of all keys or inside them.

| segment | who puts it |
| --- | --- |
| `module.` | DataParallel, DistributedDataParallel, DeepSpeed |
| `_orig_mod.` | torch.compile |
| `_fsdp_wrapped_module.` | FSDP, around the model and around its blocks |
| `_checkpoint_wrapped_module.` | activation checkpointing |
| `_forward_module.` | Lightning Fabric |
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

SEGMENTS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
WRITTEN = re.compile(rf"(({'|'.join(SEGMENTS)})\.)+")


@dataclass(frozen=True)
class Wrapping:
    """`at`: path of a module -> the segments that wrap it, such as `layers.1` -> `_orig_mod.`; `""` is the model."""

    at: Mapping[str, str] = field(default_factory=dict)

    def own(self, stored: str) -> str:
        """A stored key without the segments of wrappers."""
        *modules, name = stored.split(".")
        own: list[str] = []
        for segment in modules:
            if segment not in SEGMENTS or segment not in self.at.get(".".join(own), "").split("."):
                own.append(segment)
        return ".".join([*own, name])

    def stored(self, own: str) -> str:
        """A key with the segments of wrappers."""
        parts, path = list[str](), ""
        for segment in own.split("."):
            parts.append(self.at.get(path, "") + segment)
            path = f"{path}.{segment}" if path else segment
        return ".".join(parts)


def find_wrapping(keys: Iterable[str], own: Collection[str] = ()) -> Wrapping:
    """The wrappers of a set of keys: those that every key of their module has.

    own: segments that are names of the model's own modules.
    """
    known = frozenset(SEGMENTS) - frozenset(own)
    found: dict[str, set[str]] = {}
    for key in keys:
        path, wrapper = "", ""
        *modules, _ = key.split(".")
        for segment in modules:
            if segment in known:
                wrapper += f"{segment}."
                continue
            found.setdefault(path, set()).add(wrapper)
            path, wrapper = f"{path}.{segment}" if path else segment, ""
        found.setdefault(path, set()).add(wrapper)
    uniform = {path: next(iter(wrappers)) for path, wrappers in found.items() if len(wrappers) == 1}
    return Wrapping({path: wrapper for path, wrapper in uniform.items() if wrapper})

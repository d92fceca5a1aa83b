"""Sharing ranges between files instead of copying them, where the filesystem can (XFS, btrfs).

ioctl_ficlonerange(2): ranges must begin and end at blocks on both sides. A copy whose two offsets agree modulo a block
is cloned but for its ragged ends; the headers that we write are padded so that most do.
"""

import fcntl
import struct
from collections.abc import Iterator
from dataclasses import replace

from converters.engine.steps import Copy

FICLONERANGE = 0x4020940D  # linux/fs.h
BLOCK = 4096  # bytes
LEAST = 2 * BLOCK  # bytes below which a copy is as cheap


class Cloning:
    """Clones until the filesystem says that it cannot; then everything is left to be copied."""

    def __init__(self) -> None:
        self._able = True

    def rest(self, step: Copy, source: int, target: int) -> Iterator[Copy]:
        """Clones what it can of a copy between two open files; gives the parts that remain to be copied."""
        head = -step.begin % BLOCK
        length = (step.length - head) // BLOCK * BLOCK
        aligned = (step.begin - step.at) % BLOCK == 0
        if not self._able or not aligned or length < LEAST:
            yield step
            return
        if not self._clone(source, step.begin + head, target, step.at + head, length):
            yield step
            return
        if head:
            yield replace(step, length=head)
        tail = head + length
        if tail < step.length:
            yield Copy(step.file, step.begin + tail, step.at + tail, step.length - tail)

    def _clone(self, source: int, begin: int, target: int, at: int, length: int) -> bool:
        try:
            fcntl.ioctl(target, FICLONERANGE, struct.pack("=qQQQ", source, begin, length, at))
        except OSError:
            self._able = False
        return self._able

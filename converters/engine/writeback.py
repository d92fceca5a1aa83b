"""Early write-back: dirty pages are sent to the disk while the copy goes on, so that fsync finds little left."""

from converters.engine.linux_calls import start_writeback

SPAN = 64 << 20  # bytes between two early write-backs


class Writeback:
    """Starts write-backs of one file as it grows, if they are wanted."""

    def __init__(self, fd: int, *, wanted: bool) -> None:
        self._fd, self._wanted = fd, wanted
        self._low, self._high, self._written = 0, 0, 0

    def wrote(self, at: int, length: int) -> None:
        """`length` bytes were written at `at`."""
        if self._wanted:
            self._low = min(self._low, at) if self._written else at
            self._high = max(self._high, at + length) if self._written else at + length
            self._written += length
            if self._written >= SPAN:
                self.start()

    def start(self) -> None:
        """What was written since the last start shall go to the disk."""
        if self._written:
            start_writeback(self._fd, self._low, self._high - self._low)
        self._written = 0

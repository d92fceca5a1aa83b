"""Temporary files without a name, which are gone when the process ends."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def scratch_file(name: str, place: Path | None = None) -> Path:
    """A path to a fresh empty file: in the folder `place` on disk, or in memory where the system has that.

    name: shown in lists of open files. The descriptor stays open until the process ends.
    """
    proc = Path("/proc/self/fd")
    if place is not None and proc.is_dir():
        fd, path = tempfile.mkstemp(prefix=f".{name}.partial-", dir=place)
        Path(path).unlink()
        return proc / str(fd)
    if place is None and hasattr(os, "memfd_create"):
        return proc / str(os.memfd_create(name))
    folder = Path(tempfile.mkdtemp(prefix="mixformer-", dir=place))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / name

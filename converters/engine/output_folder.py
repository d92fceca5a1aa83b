"""An output folder that appears whole or not at all.

Files are written into `.NAME.partial-<pid>` beside the target, which is locked while its writer lives, and renamed into
place at the end. A partial that nobody holds is what a killed run left; the next run for the same target removes it. A
target that was moved aside for `--force` and not replaced is put back.
"""

import ctypes
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from converters.checkpoint.regular_files import open_regular
from converters.errors import TargetRefused

RENAME_EXCHANGE = 2  # linux/fs.h
AT_FDCWD = -100
FOLDER_MODE = 0o755
PIECE = 1 << 20  # bytes


def existing_above(place: Path) -> Path:
    """The path itself if it exists, else the nearest folder above it that does: its disk is the one written to."""
    place = place.absolute()
    while not place.exists():
        place = place.parent
    return place


def check_target(source: Path, target: Path, *, force: bool) -> None:
    """Refuses a target that must not be written, before anything is done.

    Raises:
        TargetRefused: it exists and `force` is off, it is no folder or a mount point, or one of source and target lies
            in the other.
    """
    inside, outside = target.resolve(), source.resolve()
    if inside == outside or inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise TargetRefused(f"the output {target} and the source {source} lie in one another; choose another --output")
    if target.is_mount():
        raise TargetRefused(f"the output {target} is a mount point, not to be replaced; name a folder in it")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise TargetRefused(f"the output {target} exists and is not a folder; choose another --output")
    if not force and target.exists() and any(target.iterdir()):
        raise TargetRefused(f"the output {target} exists and is not empty; pass --force to replace it")
    if force and target.exists() and any(target.iterdir()) and not _is_model(target):
        raise TargetRefused(f"the output {target} holds no model (no config.json), so --force does not replace it")


def _is_model(target: Path) -> bool:
    """Whether a folder holds a model, or what a conversion to another form has written."""
    return (target / "config.json").is_file() or (target / "conversion.json").is_file()


@contextmanager
def new_folder(target: Path, *, replace: bool, durable: bool) -> Iterator[Path]:
    """A fresh locked folder beside the target that takes its place when the block ends without an error.

    replace: a target that exists by then is replaced. durable: the folders' entries are on disk around the rename.

    Raises:
        TargetRefused: another conversion writes this target now, or the place cannot be written.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100  (a/.. must not stay; resolve() would follow a link)
    try:
        make_folders(target.parent)
        with _held(target.parent):
            _recover(target)
            partial, lock = _create(target)
    except OSError as error:
        raise TargetRefused(f"{target} cannot be written: {error.strerror}") from None
    try:
        yield partial
        if durable:
            sync_folder(partial)
        try:
            with _held(target.parent):
                _put_in_place(partial, target, replace=replace)
        except OSError as error:
            raise TargetRefused(f"{target} cannot be put in place: {error.strerror}") from None
        if durable:
            sync_folder(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """A locked folder beside a target for files that go again; those that killed runs left there are removed.

    Raises:
        TargetRefused: the place cannot be written.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100  (as in new_folder)
    scratch = target.parent / f".{target.name}.scratch-{os.getpid()}"
    try:
        make_folders(target.parent)
        with _held(target.parent):
            _remove_unheld(_ours(target, "scratch"))
            make_folders(scratch)
            lock = _locked(scratch)
    except OSError as error:
        raise TargetRefused(f"{target} cannot be written: {error.strerror}") from None
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _remove_unheld(folders: Iterable[Path]) -> None:
    """Removes folders of runs that were killed; one that somebody holds stays."""
    for folder in folders:
        with suppress(OSError):
            lock = _locked(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _create(target: Path) -> tuple[Path, int]:
    partial = target.parent / f".{target.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    make_folders(partial)
    return partial, _locked(partial)


def make_folders(folder: Path) -> None:
    """A folder and those above it that are missing, of mode 0755, whatever the umask."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    folder.chmod(folder.stat().st_mode & ~0o777 | FOLDER_MODE)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The lock of a parent folder, waited for, so that creating and renaming happen one at a time."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _locked(folder: Path) -> int:
    """A descriptor that holds the lock of a folder.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _recover(target: Path) -> None:
    """Removes what killed runs for this target left, and puts a target back that one of them had moved aside."""
    for partial in _ours(target, "partial"):
        try:
            lock = _locked(partial)
        except BlockingIOError:
            pid = partial.name.rpartition("-")[2]
            raise TargetRefused(f"another conversion (process {pid}) is writing {target} right now") from None
        except OSError:
            continue
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)
    for aside in _ours(target, "aside"):
        if target.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(target)


def _ours(target: Path, kind: str) -> list[Path]:
    """Folders beside a target that a run for it made: their names end in the number of its process."""
    start = f".{target.name}.{kind}-"
    return sorted(p for p in target.parent.iterdir() if p.name.startswith(start) and p.name[len(start) :].isdigit())


def _put_in_place(partial: Path, target: Path, *, replace: bool) -> None:
    """Renames the new folder over the target; an old target is exchanged atomically where the system can."""
    with suppress(OSError):
        target.rmdir()  # an empty folder is no output
    if not target.exists():
        partial.rename(target)
    elif not replace:
        raise TargetRefused(f"{target} appeared while it was being made; it was left as it is")
    elif not _exchange(partial, target):
        aside = target.parent / f".{target.name}.aside-{os.getpid()}"
        target.rename(aside)
        partial.rename(target)
        shutil.rmtree(aside)


def _exchange(one: Path, other: Path) -> bool:
    """renameat2(2) with RENAME_EXCHANGE; False where the system or filesystem lacks it."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


def sync_folder(folder: Path) -> None:
    """Writes a folder's entries to disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: Path, data: bytes, *, durable: bool) -> None:
    """A new file of mode 0644 with these bytes; never through a link, never over a file."""
    _write(path, [data], durable=durable)


def copy_file(source: Path, path: Path, *, durable: bool) -> str:
    """A new file as `write_file` makes it, with the bytes of another; gives their sha256.

    Raises:
        UnsafeFile: the source is no regular file.
    """
    digest = hashlib.sha256()
    with open_regular(source) as file:
        _write(path, _hashed(file, digest.update), durable=durable)
    return digest.hexdigest()


def _hashed(file: BinaryIO, take: Callable[[bytes], object]) -> Iterator[bytes]:
    while data := file.read(PIECE):
        take(data)
        yield data


def _write(path: Path, pieces: Iterable[bytes], *, durable: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o644), "wb") as file:
        os.fchmod(file.fileno(), 0o644)  # whatever the umask
        for data in pieces:
            file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """A file's content exchanged in one step."""
    fresh = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        write_file(fresh, data, durable=True)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)  # where the disk is full

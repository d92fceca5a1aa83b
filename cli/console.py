"""Printing: results to stdout, errors to stderr. Also options that commands share."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
All = Annotated[bool, typer.Option("--all", help="Every row; else equal layers are one row.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Device = Annotated[str, typer.Option("--device", help="Where L3 runs the candidate: cpu or cuda.")]
Waive = Annotated[list[str] | None, typer.Option("--waive", help="Ignore this unknown config field; may be repeated.")]
DropBuffers = Annotated[bool, typer.Option("--drop-buffers", help="Leave out stored tables that a formula gives.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="Cast floating-point tensors; lossy and recorded.")]
Dequantize = Annotated[bool, typer.Option("--dequantize", help="Convert quantised tensors to float32; lossy.")]
PadVocab = Annotated[
    int | None, typer.Option("--pad-vocab", min=1, help="Pad MixFormer's vocabulary to a multiple of this.")
]
PadLow = Annotated[bool, typer.Option("--pad-low", help="With --pad-vocab: give padded ids a very low head bias.")]
CropVocab = Annotated[
    int | None, typer.Option("--crop-vocab", min=1, help="Keep this many rows of the vocabulary; lossy and recorded.")
]
Drop = Annotated[
    list[str] | None, typer.Option("--drop", help="Leave out tensors whose keys match, such as 'v_head.*'; recorded.")
]
NHead = Annotated[
    int | None, typer.Option("--n-head", min=1, help="Heads of a model whose file does not say how many (ngpt).")
]
QkvShards = Annotated[
    int | None, typer.Option("--qkv-shards", min=1, max=64, help="Shards of qkv_proj in a CodeGen2 with its own code.")
]
ValueResidual = Annotated[
    bool | None,
    typer.Option(
        "--value-residual/--no-value-residual", help="Whether later layers take the first one's values (lucidrains)."
    ),
]
Bake = Annotated[
    bool, typer.Option("--bake", help="Store parametrised matrices as they are used (lucidrains); lossy and recorded.")
]
Dialect = Annotated[str | None, typer.Option("--dialect", help="Which dialect is meant, such as tutorial (ngpt).")]

UNITS = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3, "TIB": 2**40, "GIB": 2**30, "MIB": 2**20, "KIB": 2**10}


def must_exist(*paths: Path | None) -> None:
    """Raises typer.BadParameter for the first path where there is nothing."""
    for path in paths:
        if path is not None and not path.exists():
            raise typer.BadParameter(f"{path} does not exist")


def must_be_file(path: Path | None) -> None:
    """Raises typer.BadParameter for a golden file that does not exist or is a folder."""
    must_exist(path)
    if path is not None and path.is_dir():
        raise typer.BadParameter(f"{path} is not a file; expected a golden file, made by `convert golden record`")


def error(message: str, prefix: str = "error: ") -> None:
    """A line on stderr."""
    print(f"{prefix}{message}", file=sys.stderr)


def show(lines: Sequence[str], content: Mapping[str, Any], *, as_json: bool, quiet: bool) -> None:
    """A result on stdout, as lines (in colours on a terminal) or as JSON."""
    if as_json:
        show_json(content)
    elif not quiet and sys.stdout.isatty():
        from cli.terminal.colours import print_lines

        print_lines(lines)
    elif not quiet:
        with reader_may_end():
            print("\n".join(lines))


def show_json(content: Mapping[str, Any]) -> None:
    """One object on stdout."""
    with reader_may_end():
        print(json.dumps(content, indent=2, ensure_ascii=False))
    Printed.json = True


@contextmanager
def reader_may_end() -> Iterator[None]:
    """What is printed inside may go to a pipe that nobody reads to its end (`| head`); the exit code stays as it is."""
    try:
        yield
        sys.stdout.flush()  # else Python finds the closed pipe when it ends, and complains
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Printed:
    """What this run printed: a script reads one object, a result or an error. `wanted`: it asks for objects."""

    json = False
    wanted = False


def size_in_bytes(text: str) -> int:
    """`300MB` as bytes; the units are those of transformers, and the binary ones.

    Raises:
        typer.BadParameter: not a size.
    """
    number, unit = text.strip(), 1
    for name in sorted(UNITS, key=len, reverse=True):
        if number.upper().endswith(name):
            number, unit = number[: -len(name)], UNITS[name]
            break
    try:
        size = int(float(number) * unit)
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise typer.BadParameter(f"{text!r} is not a size; write it like 5GB or 300MB")
    return size


def in_words(nbytes: int) -> str:
    """A number of bytes with a unit."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if nbytes >= size:
            return f"{nbytes / size:.2f} {unit}"
    return f"{nbytes} bytes"

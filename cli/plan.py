"""`convert plan`: what a conversion would do, from headers alone."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import (
    All,
    Bake,
    CropVocab,
    Debug,
    Dequantize,
    Dialect,
    Drop,
    DropBuffers,
    Dtype,
    Json,
    NHead,
    PadLow,
    PadVocab,
    QkvShards,
    Quiet,
    ValueResidual,
    Waive,
    in_words,
    show,
)
from cli.dialects import named_pair
from cli.options import options_of
from cli.terminal.folding import folded, natural, numbered, short_sources, without_weight
from cli.terminal.layout import columns, table
from converters.counts import counted

if TYPE_CHECKING:
    from converters import Plan

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="[FAMILY] SOURCE", help="Model folder or file, or org/name on the Hub; its family before it."
    ),
]
To = Annotated[str, typer.Option("--to", help="The family to convert to.")]
PROVED = "every element is read once and written once"


def plan(
    words: Words,
    to: To,
    waive: Waive = None,
    drop_buffers: DropBuffers = False,
    drop: Drop = None,
    pad_vocab: PadVocab = None,
    pad_low: PadLow = False,
    crop_vocab: CropVocab = None,
    dtype: Dtype = None,
    dequantize: Dequantize = False,
    n_head: NHead = None,
    value_residual: ValueResidual = None,
    bake: Bake = False,
    qkv_shards: QkvShards = None,
    dialect: Dialect = None,
    all: All = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show what a conversion would do: every key, bytes, pieces, disk and memory. Reads headers only."""
    from cli.hub.sources import headers_of
    from converters.checkpoint.users_word import VALUES
    from converters.plan.plan import make_plan
    from converters.provenance import read_record

    options = options_of(
        waive=waive, drop_buffers=drop_buffers, drop=drop, pad_vocab=pad_vocab, pad_low=pad_low, crop_vocab=crop_vocab,
        dtype=dtype, dequantize=dequantize, n_head=n_head, value_residual=value_residual, bake=bake,
        qkv_shards=qkv_shards,
    )  # fmt: skip
    family, source = _named(words)
    with VALUES.said(value_residual), headers_of(source) as (path, name):
        read_record(path)
        made = make_plan(path, *named_pair(family, to, dialect), options)
        show(_lines(made, name, every=all), _content(made, name), as_json=json, quiet=quiet)


def _named(words: list[str]) -> tuple[str | None, str]:
    """(family, source) of the words before the options. A family wins over a folder of its name.

    Raises:
        typer.BadParameter: a family without a source, or too many words.
    """
    from converters.family import OURS, find_family, find_umbrella

    if len(words) > 2:
        raise typer.BadParameter(f"{counted(len(words) - 2, 'argument')} too many: {' '.join(words[2:])}")
    if len(words) == 2:
        return words[0], words[1]
    (word,) = words
    if word == OURS or find_umbrella(word) or find_family(word):
        raise typer.BadParameter(f"the argument SOURCE is missing: {word} is a family; ./{word} is the folder")
    return None, word


def _memory(plan: "Plan") -> int:
    """Bytes of anonymous memory: buffers, and the largest tensor that is put together in memory."""
    from converters.engine.steps import in_ranges

    gathered = [t.nbytes for t in plan.tensors if not in_ranges(t, plan.source)]
    return 24 * 2**20 + 2 * max(gathered, default=0)


def _content(plan: "Plan", name: str) -> dict[str, Any]:
    tensors = [
        {
            "key": t.key,
            "from": list(t.sources),
            "dtype": t.dtype,
            "shape": list(t.shape),
            "bytes": t.nbytes,
            "pieces": len(t.pieces),
        }
        for t in plan.tensors
    ]
    return {
        "family": plan.family,
        "to": plan.to,
        "source": name,
        "proved": True,
        "bytes": plan.nbytes,
        "disk_bytes": plan.nbytes,
        "memory_bytes": _memory(plan),
        "dropped": [{"keys": sorted({p.source for p in c.view.pieces if p.source}), "why": c.why} for c in plan.checks],
        "waived": list(plan.options.waive),
        "notes": list(plan.notes),
        "tensors": tensors,
        "config": dict(plan.config),
    }


def _lines(plan: "Plan", name: str, *, every: bool) -> list[str]:
    content = _content(plan, name)
    dropped = [f"dropped after a check: {', '.join(d['keys'])} ({d['why']})" for d in content["dropped"]]
    return [
        f"{plan.family} -> {plan.to}: {name}",
        f"{counted(len(plan.source.tensors), 'tensor')} become {len(plan.tensors)}; proved: {PROVED}",
        f"disk {in_words(plan.nbytes)}, memory about {in_words(content['memory_bytes'])}; nothing was written",
        *dropped,
        *(f"note: {note}" for note in plan.notes),
        *(_every_row(plan) if every else _folded_rows(plan)),
    ]


def _every_row(plan: "Plan") -> list[str]:
    rows = [("key", "dtype", "shape", "bytes", "pieces", "from")]
    for t in sorted(plan.tensors, key=lambda t: natural(t.key)):
        shape = " x ".join(map(str, t.shape))
        rows.append((t.key, t.dtype, shape, f"{t.nbytes:,}", str(len(t.pieces)), " + ".join(t.sources)))
    return table(rows, columns())


def _folded_rows(plan: "Plan") -> list[str]:
    """A line for each kind of tensor: its key and where it comes from, then the size of each."""
    sources = [(t, tuple(numbered(key)[0] for key in t.sources)) for t in plan.tensors]
    folds = folded((t.key, (keys, t.dtype, t.shape, len(t.pieces))) for t, keys in sources)
    rows = []
    for fold in folds:
        tensor = plan.tensors[fold.first]
        key, keys = without_weight(fold.key, tensor.sources)
        told = f"{key} <- {short_sources(keys) or 'known values'}{f', x {fold.count}' if fold.count > 1 else ''}"
        size = f"{tensor.dtype} {' x '.join(map(str, tensor.shape))}, {in_words(tensor.nbytes)}"
        rows.append((f"  {told}", size))
    return [*table(rows, columns()), *(["every row: --all"] if any(fold.count > 1 for fold in folds) else [])]

"""`convert [FAMILY] [SOURCE] --to FAMILY`: the conversion, and the verdict on it."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import (
    Bake,
    CropVocab,
    Debug,
    Dequantize,
    Device,
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
    must_be_file,
    show,
    size_in_bytes,
)
from cli.conversion_words import as_content, as_lines, judge_words, source_name
from cli.dialects import gguf_pair, named_pair
from cli.interrupts import saying
from cli.options import check_format, options_of
from cli.parity import exit_code, judged
from cli.samples import removed_samples, sample
from cli.streaming.options import Golden, Stream, check_streaming
from cli.terminal.progress import following, progress_bar

if TYPE_CHECKING:
    from cli.hub.pushing import Target
    from converters import ConversionReport, Request
    from converters.plan.options import Options
    from golden import Verdict

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE", help="Model folder or file, or org/name on the Hub [default: the family's sample]."
    ),
]
To = Annotated[str | None, typer.Option("--to", help="The family to convert to.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Target folder [default: ./<source name>-<to>].")]
ShardSize = Annotated[
    str | None, typer.Option("--max-shard-size", help="Largest file, like 5GB [default: files like the source's].")
]
Format = Annotated[
    str, typer.Option("--format", help="safetensors; gguf, for llama and gpt2; or native: the target's own file form.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing target.")]
Update = Annotated[bool, typer.Option("--update", help="Replace an output of this program that is not up to date.")]
Push = Annotated[str | None, typer.Option("--push", help="Push the result to this repo on the Hub, if it passes.")]
Parity = Annotated[bool, typer.Option("--parity/--no-parity", help="Judge the result by running both models.")]
Hash = Annotated[bool, typer.Option("--hash/--no-hash", help="Record the sha256 of every file.")]
Code = Annotated[
    bool, typer.Option("--code/--no-code", help="With a MixFormer, write the code that loads it without this package.")
]
Fsync = Annotated[bool, typer.Option("--fsync/--no-fsync", help="Wait until all files are on disk.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Number of threads that copy.")]

THREADS = min(4, 2 * (os.cpu_count() or 1))  # more threads than cores: some wait for the disk


class NoVerdictError(Exception):
    """A conversion is complete, and no verdict on it could be reached."""

    exit_code = 5

    def __init__(self, report: "ConversionReport", reason: Exception) -> None:
        super().__init__(f"no verdict could be reached: {reason}")
        self.content = {**as_content(report), "verdict": "UNVERIFIED"}


def verb(family: str | None) -> Callable[..., None]:
    """The command for sources of one family; None: of a family that is found."""

    def run(
        to: To = None,
        source: Source = None,
        output: Output = None,
        max_shard_size: ShardSize = None,
        force: Force = False,
        update: Update = False,
        parity: Parity = True,
        hash: Hash = True,
        fsync: Fsync = True,
        threads: Threads = THREADS,
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
        format: Format = "safetensors",
        code: Code = True,
        push: Push = None,
        stream: Stream = False,
        golden: Golden = None,
        device: Device = "cpu",
        json: Json = False,
        quiet: Quiet = False,
        debug: Debug = False,
    ) -> None:
        from converters.checkpoint.users_word import HEADS, SHARDS, VALUES
        from converters.conversion import Request
        from converters.engine.shard_writing import Writing

        check_format(format)
        check_streaming(source, golden, stream=stream)
        must_be_file(golden)
        options = options_of(
            waive=waive, drop_buffers=drop_buffers, drop=drop, pad_vocab=pad_vocab, pad_low=pad_low,
            crop_vocab=crop_vocab, dtype=dtype, dequantize=dequantize, n_head=n_head, value_residual=value_residual,
            bake=bake, qkv_shards=qkv_shards,
        )  # fmt: skip
        writing = Writing(hash=hash, fsync=fsync, threads=1 if stream else threads)  # pages are given back in order
        limit = size_in_bytes(max_shard_size) if max_shard_size else None
        request = Request(options, limit, force, writing, native=format != "safetensors", code=code, update=update)
        with HEADS.said(n_head), VALUES.said(value_residual), SHARDS.said(qkv_shards):
            if to is None:
                asked = output or push or limit or force or update or stream or dialect or format != "safetensors"
                return _described(family, source, options, asked, json, quiet)
            judge = Judge(device if parity else None, golden, quiet=quiet or json)
            pair = named_pair(family, to, dialect)
            pair = gguf_pair(*pair) if format == "gguf" else pair
            raise typer.Exit(_convert(pair, source, output, request, judge, push, stream, json, quiet))

    return run


@dataclass(frozen=True)
class Judge:
    """How a conversion is judged: the device of L3, None for not at all, and a golden file in place of the source."""

    device: str | None
    golden: Path | None
    quiet: bool


def _described(
    family: str | None, source: str | None, options: "Options", asked: object, as_json: bool, quiet: bool
) -> None:
    """`convert SOURCE` alone. What asks for an output needs --to."""
    if family is not None or source is None or asked:
        raise typer.BadParameter("the option --to is missing: the family to convert to")
    from cli.becoming import described

    with following("reading headers", wanted=not quiet and not as_json) as follow:
        found = described(source, options, follow)
    show(*found, as_json=as_json, quiet=quiet)


def _convert(
    pair: tuple[str | None, str], source: str | None, output: Path | None, request: "Request", judge: Judge,
    push: str | None, stream: bool, as_json: bool, quiet: bool,
) -> int:  # fmt: skip
    from cli.hub.sources import folder_of
    from converters.plan.plan import make_plan

    target = _push_target(push) if push else None
    (family, to), options = pair, request.options
    check = partial(make_plan, family=family, to=to, options=options)
    quick = quiet or as_json
    with ExitStack() as stack:
        if stream:
            from cli.streaming.source import streamed_folder

            opened = streamed_folder(str(source), check, output, to, request.max_shard_size)
            report = _written(stack.enter_context(opened), family, to, output, request, show_bar=not quick)
        else:
            with removed_samples(family, output, wanted=not source):
                if source:
                    folder = folder_of(source, check, output=output, quiet=quick)
                else:
                    folder = sample(str(family), output)
                report = _written(folder, family, to, output, request, show_bar=not quick)
        verdict = _judged(report, judge)
    content = {**as_content(report), "verdict": verdict if isinstance(verdict, str) else verdict.to_json()}
    content |= {"source": source_name(report.source)} if stream else {}
    lines, code = as_lines(report, verdict), 0 if isinstance(verdict, str) else exit_code(verdict)
    try:
        if target and code == 0:
            more, content["push"] = _pushed(report.output, target, quiet=quiet or as_json)
            lines += more
    except Exception as failure:
        content["push"] = {"error": str(failure)}
        raise
    finally:
        show(lines, content, as_json=as_json, quiet=quiet)
    return code


def _push_target(repo: str) -> "Target":
    """Where `--push` leads, once it is known that it may be pushed there: nothing has been fetched or converted yet."""
    from cli.hub.addresses import repo_of
    from cli.hub.client import connect
    from cli.hub.permission import check_may_push
    from cli.hub.pushing import Target

    address = repo_of(repo)
    check_may_push(connect(), address.repo, create_pr=False)
    return Target(address.repo, address.revision or "main")


def _pushed(output: Path, target: "Target", *, quiet: bool) -> tuple[list[str], dict[str, Any]]:
    from cli.hub.outgoing import cargo
    from cli.hub.pushing import run
    from cli.hub.report import as_content, as_lines

    sent = cargo(output, allow_unverified=False)
    done = run(sent, target, dry_run=False, timeout=None, quiet=quiet)
    return as_lines(done, sent, dry_run=False), as_content(done, sent)


def _written(
    folder: Path, family: str | None, to: str, output: Path | None, request: "Request", *, show_bar: bool
) -> "ConversionReport":
    from converters.checkpoint.opening import open_checkpoint
    from converters.conversion import convert

    checkpoint = open_checkpoint(folder, dequantize=request.options.dequantize)
    with progress_bar("converting", checkpoint.nbytes, wanted=show_bar) as advance:
        request = replace(request, writing=replace(request.writing, progress=advance))
        return convert(checkpoint, family, to, output, request)


def _judged(report: "ConversionReport", judge: Judge) -> "Verdict | str":
    """The verdict on a conversion: the recorded one where judging is off or a PASS is recorded already."""
    from cli.cards.card import write_card
    from converters.provenance import read_record

    if not report.up_to_date:
        write_card(report.output, read_record(report.output))  # it says that this was not judged
    known = _known(report)
    if judge.device is None or (report.up_to_date and known == "PASS"):
        return known
    from cli.hub.errors import HubError
    from converters.verdict_record import LEVELS, Run, record_run
    from golden import GoldenError

    how = judge_words(report, source_name(report.source))
    complete = f"interrupted; {report.output} is complete and unverified; judge it: {how}"
    with saying(complete):
        try:
            verdict = judged(report.output, report.source, judge.golden, device=judge.device, quiet=judge.quiet)
        except (GoldenError, HubError) as reason:
            raise NoVerdictError(report, reason) from None
        if record_run(report.output, Run(verdict.to_json(), sorted(LEVELS), judge.device, report.source, judge.golden)):
            write_card(report.output, read_record(report.output))
    return verdict


def _known(report: "ConversionReport") -> str:
    from converters.checkpoint.json_files import read_json
    from converters.provenance import NAME

    return str(read_json(report.output / NAME).get("verdict"))

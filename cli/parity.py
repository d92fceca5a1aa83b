"""`convert parity CANDIDATE --reference DIR`: the verdict, and the self-test of the verdict."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import (
    All,
    Debug,
    Device,
    Json,
    NHead,
    QkvShards,
    Quiet,
    ValueResidual,
    error,
    must_be_file,
    must_exist,
    show,
)
from cli.terminal.layout import columns
from cli.terminal.progress import following

if TYPE_CHECKING:
    from golden import Verdict

Candidate = Annotated[
    str | None,
    typer.Argument(
        metavar="CANDIDATE",
        help="The model to judge: a folder, or org/name on the Hub; with --self-test the one family to try.",
    ),
]
Reference = Annotated[str | None, typer.Option("--reference", help="The model it is compared with: folder or id.")]
Golden = Annotated[Path | None, typer.Option("--golden", help="A golden file made from the reference.")]
Levels = Annotated[str | None, typer.Option("--levels", help="Levels to judge, like L0,L1,L2 [default: all].")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="Precision: float64, float32 (L2), bfloat16, float16 (L3).")]
Attn = Annotated[str | None, typer.Option("--attn", help="Attention of the candidate: eager, sdpa or flash.")]
Report = Annotated[
    list[Path] | None,
    typer.Option("--report", help="Write the verdict to a file: .json, .md, .xml, .html; may be repeated."),
]
SelfTest = Annotated[bool, typer.Option("--self-test", help="Plant known faults and check that each is found.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds of the self-test.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, help="Models of the self-test at a time [default: by cores and memory]."),
]


def parity(
    candidate: Candidate = None,
    reference: Reference = None,
    golden: Golden = None,
    levels: Levels = None,
    dtype: Dtype = None,
    attn: Attn = None,
    device: Device = "cpu",
    report: Report = None,
    self_test: SelfTest = False,
    seeds: Seeds = 1,
    jobs: Jobs = None,
    n_head: NHead = None,
    value_residual: ValueResidual = None,
    qkv_shards: QkvShards = None,
    all: All = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Judge whether a converted model computes what its reference computes. Exit code 0 PASS, 4 FAIL, 5 UNVERIFIED."""
    if self_test and (reference or golden):
        raise typer.BadParameter("--self-test makes its own models: it takes no --reference and no --golden")
    if self_test:
        raise typer.Exit(_tried(candidate, seeds, jobs, as_json=json, quiet=quiet))
    if candidate is None or (reference is None and golden is None):
        raise typer.BadParameter("give CANDIDATE, and what it is compared with: --reference DIR or --golden FILE")
    from cli.hub.sources import folder_of
    from cli.reports.forms import check_reports, write_reports
    from cli.reports.hashes import hashes_of
    from converters.checkpoint.users_word import HEADS, SHARDS, VALUES
    from golden import verdict_lines

    must_be_file(golden)
    check_reports(report or ())  # before a repo is fetched
    told = quiet or json
    ours = folder_of(candidate, quiet=told)
    theirs = folder_of(reference, quiet=told) if reference else None
    must_exist(ours, theirs)
    wanted = [level.strip().upper() for level in levels.split(",")] if levels else None
    with (
        HEADS.said(n_head),
        VALUES.said(value_residual),
        SHARDS.said(qkv_shards),
        _reported(report or (), ours, theirs or golden, wanted, device),
    ):
        verdict = judged(ours, theirs, golden, device=device, quiet=told, levels=wanted, dtype=dtype, attn=attn)
        _record(ours, verdict, device, theirs, golden)
    if report or json:
        verdict = replace(verdict, hashes=hashes_of(ours, theirs, golden))
    show(verdict_lines(verdict, columns(), every=all), verdict.to_json(), as_json=json, quiet=quiet)
    write_reports(report or (), verdict.to_json())  # last: where a disk is full, the verdict is told all the same
    raise typer.Exit(exit_code(verdict))


def _record(candidate: Path, verdict: "Verdict", device: str, reference: Path | None, golden: Path | None) -> None:
    """Writes the verdict into conversion.json and, but for a repo in the cache, the card beside the candidate."""
    from cli.cards.card import write_card
    from converters.checkpoint.cache_folders import snapshot_of
    from converters.provenance import read_record
    from converters.verdict_record import Run, record_run

    recorded = record_run(candidate, Run(verdict.to_json(), verdict.asked, device, reference, golden))
    if recorded and not snapshot_of(candidate):
        write_card(candidate, read_record(candidate))


@contextmanager
def _reported(
    paths: Sequence[Path], candidate: Path, reference: Path | None, levels: list[str] | None, device: str
) -> Iterator[None]:
    """Where no verdict can be reached inside, the reports say so: every level is UNVERIFIED, for the same reason."""
    from golden import GoldenError

    try:
        yield
    except GoldenError as reason:
        if paths and reason.exit_code == 5:
            from cli.reports.forms import write_reports
            from golden import LevelResult, Status, Verdict
            from golden.evidence.versions import installed_versions
            from golden.verdict import LEVELS

            found = tuple(LevelResult(name, Status.UNVERIFIED, detail=str(reason)) for name in levels or LEVELS)
            unjudged = Verdict(Status.UNVERIFIED, found, str(candidate), str(reference), device=device)
            write_reports(paths, replace(unjudged, versions=installed_versions()).to_json())
        raise


def wait_without_spinning() -> None:
    """Let torch's threads sleep while they wait for each other. Call this before torch is loaded.

    Waiting without sleep is a little faster on an idle machine. On a busy one it takes time from the thread that is
    waited for: judging SmolLM2-135M on two busy cores took 160 seconds of processor time, with sleep 57.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _tried(family: str | None, seeds: int, jobs: int | None, *, as_json: bool, quiet: bool) -> int:
    """Runs the self-test, of one family or of all; 0 if faults were found and correct variants passed, else 4."""
    if not (quiet or as_json):
        error("planting faults and judging each ...", prefix="")
    wait_without_spinning()
    with following("loading torch", wanted=not quiet and not as_json) as follow:
        from golden import self_test, trial_lines

        result = self_test((family,) if family else None, seeds=seeds, progress=follow, jobs=jobs)
    show(trial_lines(result), result.to_json(), as_json=as_json, quiet=quiet)
    return 0 if result.passed else 4


def judged(
    candidate: Path,
    reference: Path | None,
    golden: Path | None = None,
    *,
    device: str,
    quiet: bool,
    levels: list[str] | None = None,
    dtype: str | None = None,
    attn: str | None = None,
) -> "Verdict":
    """The verdict on a candidate, by running both models."""
    if not quiet:
        error("judging by running both models ...", prefix="")
    wait_without_spinning()
    from cli.plain_folders import plain_folders
    from converters.paging import pager_of
    from golden import check_inputs

    as_it_is = golden is not None and reference is not None and pager_of(reference) is not None  # nothing loads it
    opened = plain_folders(candidate, None if as_it_is else reference)
    with following("reading headers", wanted=not quiet) as follow, opened as (one, other):
        other = reference if as_it_is else other
        check_inputs(one, other, golden)  # before torch is imported
        follow("loading torch", 0, 0)
        from golden import compare

        verdict = compare(
            one, other, golden=golden, levels=levels, device=device, dtype=dtype, attn=attn,
            progress=follow, reached=follow.reached,
        )  # fmt: skip
    return replace(verdict, candidate=str(candidate), reference=str(reference or golden))


def exit_code(verdict: "Verdict") -> int:
    """0 for PASS, 4 for FAIL, 5 for UNVERIFIED."""
    return {"PASS": 0, "FAIL": 4}.get(str(verdict.verdict), 5)

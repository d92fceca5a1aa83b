"""`convert golden record`, `show` and `check`: golden files, to judge without the reference."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from cli.console import Debug, Json, NHead, Quiet, ValueResidual, error, in_words, must_be_file, must_exist, show
from cli.parity import wait_without_spinning
from cli.terminal.progress import following
from cli.words import Verbs

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="The reference: a model folder, or org/name on the Hub.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A golden file.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The golden file to write (.safetensors).")]
Form = Annotated[
    str, typer.Option("--form", help="full: all logits; compact: a few columns made of them; auto: by size.")
]
Hidden = Annotated[bool, typer.Option("--hidden", help="Also keep hidden states, to find where models first differ.")]
Checked = Annotated[
    str,
    typer.Argument(metavar="REFERENCE", help="The reference as it is now: a model folder, or org/name on the Hub."),
]
BELONGS = {
    True: "{file} belongs to {reference}",
    False: "{file} does not belong to {reference}; record it again",
    None: "whether {file} belongs to {reference} cannot be told from hashes",
}
CODES = {True: 0, False: 4, None: 5}
Tokens = Annotated[
    int | None,
    typer.Option(
        "--tokens", min=32, help="Tokens of a prompt at most, for a smaller file [default: 256, less for large models]."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]

app = typer.Typer(
    cls=Verbs,
    help="Record what a reference computes in a golden file, show it, check it.",
    no_args_is_help=True,
)


@app.command("record", epilog="For example: convert golden record ./my-llama -o my-llama.golden.safetensors")
def record(
    source: Source,
    output: Output,
    form: Form = "auto",
    hidden: Hidden = False,
    tokens: Tokens = None,
    force: Force = False,
    n_head: NHead = None,
    value_residual: ValueResidual = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a reference and write its prompts, logits, rounding errors and file hashes to a golden file."""
    from cli.hub.sources import folder_of

    must_exist(folder := folder_of(source))
    if not (quiet or json):
        error("running the reference ...", prefix="")
    wait_without_spinning()
    from converters.checkpoint.users_word import HEADS, VALUES
    from golden import check_inputs

    wanted = not quiet and not json
    with HEADS.said(n_head), VALUES.said(value_residual), following("loading torch", wanted=wanted) as follow:
        check_inputs(folder)  # before torch is imported
        from golden import describe
        from golden import record as write

        content = describe(write(folder, output, form=form, hidden=hidden, tokens=tokens, force=force, progress=follow))
    show(_lines(content), content, as_json=json, quiet=quiet)


@app.command("show", epilog="For example: convert golden show my-llama.golden.safetensors")
def golden_show(file: File, json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Show what a golden file holds, and which faults it cannot show."""
    must_be_file(file)
    from golden import check_inputs

    check_inputs(golden=file)  # before torch is imported
    with following(f"reading {file}", wanted=not quiet and not json):
        from golden import describe

        content = describe(file)
    show(_lines(content), content, as_json=json, quiet=quiet)


@app.command("check", epilog="For example: convert golden check my-llama.golden.safetensors ./my-llama")
def golden_check(
    file: File,
    reference: Checked,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Tell whether a golden file still belongs to a reference, from hashes alone.

    Exit code 0: it does; 4: a file of the reference changed since; 5: hashes cannot tell.
    """
    from cli.hub.sources import folder_of

    must_be_file(file)
    must_exist(folder := folder_of(reference))
    from golden import belongs_to

    with following("reading headers", wanted=not quiet and not json) as follow:
        found = belongs_to(file, folder, follow)
    answer = BELONGS[found.belongs].format(file=file, reference=reference)
    lines = [answer, *(f"  {reason}" for reason in found.reasons), *(f"  note: {note}" for note in found.notes)]
    if found.belongs is None:
        lines.append(f"  run both to know: convert parity {quote(reference)} --golden {quote(str(file))}")
    content = {"golden": str(file), "reference": reference, **found.to_json()}
    show(lines, content, as_json=json, quiet=quiet)
    raise typer.Exit(CODES[found.belongs])


def _lines(content: dict[str, Any]) -> list[str]:
    prompts = ", ".join(f"{prompt['name']} ({prompt['tokens']})" for prompt in content["prompts"])
    lines = [f"{content['path']}: {content['form']}, {content['family']}, {in_words(content['bytes'])}"]
    lines.append(f"  prompts (tokens): {prompts}")
    for dtype, floor in content["floors"].items():
        error = "not finite: it overflows" if floor["rms"] is None else f"rms {floor['rms']:.3g}"
        lines.append(f"  the reference's own error in {dtype}: {error}")
    for text in content.get("cannot_see", ()):
        lines.append(f"  cannot show: {text}")
    return lines

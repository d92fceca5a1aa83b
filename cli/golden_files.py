"""`convert golden record` and `convert golden show`: golden files, to judge without the reference."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import Debug, Json, NHead, Quiet, error, in_words, must_be_file, must_exist, show
from cli.parity import wait_without_spinning
from cli.terminal.progress import following
from cli.words import Verbs

Source = Annotated[str, typer.Argument(help="The reference: a model folder, or org/name on the Hub.")]
File = Annotated[Path, typer.Argument(help="A golden file.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The golden file to write (.safetensors).")]
Form = Annotated[
    str, typer.Option("--form", help="full: all logits; compact: a few columns made of them; auto: by size.")
]
Hidden = Annotated[bool, typer.Option("--hidden", help="Also keep hidden states, to find where models first differ.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]

app = typer.Typer(
    cls=Verbs, help="Record what a reference computes in a golden file, or show such a file.", no_args_is_help=True
)


@app.command("record", epilog="For example: convert golden record ./my-llama -o my-llama.golden.safetensors")
def record(
    source: Source,
    output: Output,
    form: Form = "auto",
    hidden: Hidden = False,
    force: Force = False,
    n_head: NHead = None,
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
    from converters.checkpoint.users_word import heads_said
    from golden import check_inputs

    with heads_said(n_head), following("loading torch", wanted=not quiet and not json) as follow:
        check_inputs(folder)  # before torch is imported
        from golden import describe
        from golden import record as write

        content = describe(write(folder, output, form=form, hidden=hidden, force=force, progress=follow))
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

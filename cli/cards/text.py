"""Our part of a card: what the model is, how it was made and judged, how to load it, how to train it and go back."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from converters.card_marks import PICTURE
from converters.family import OURS

Record = Mapping[str, Any]
FOLDER = "path/to/this/folder"
SWITCHES = {"drop_buffers": "--drop-buffers", "dequantize": "--dequantize", "pad_low": "--pad-low", "bake": "--bake"}
VALUES = {
    "dtype": "--dtype",
    "pad_vocab": "--pad-vocab",
    "crop_vocab": "--crop-vocab",
    "n_head": "--n-head",
    "qkv_shards": "--qkv-shards",
}


def text_of(record: Record, repo: str | None, licences: Sequence[str], *, plotted: bool) -> str:
    """The part of the text, without the marks.

    repo: where it is pushed to; None for a folder. licences: files beside it. plotted: there is a picture.
    """
    place = repo or FOLDER
    judged = _judged(record, plotted=plotted)
    return "\n".join([_what(record), judged, _licence(licences), _loading(record, place), _training(record)])


def levels_of(record: Record) -> list[Mapping[str, Any]]:
    """The levels of the recorded verdict; none where it was not judged."""
    return [level for level in _list(_dict(record.get("parity")).get("levels")) if isinstance(level, dict)]


def source_name(record: Record) -> str:
    """What the source is called: repo and commit, or the name of a folder."""
    source = _dict(record.get("source"))
    if source.get("repo"):
        return f"{source['repo']}@{source.get('commit')}"
    return " ".join(str(source.get("name", "")).replace("`", "'").split())


def _what(record: Record) -> str:
    source, to, family = _dict(record.get("source")), record.get("to"), record.get("family")
    repo, commit = source.get("repo"), source.get("commit")
    whence = f"[{repo}](https://huggingface.co/{repo}), commit `{commit}`" if repo else f"`{source_name(record)}`"
    kind = "a MixFormer" if to == OURS else f"a {to} checkpoint"
    steps = [str(_dict(step).get("step")) for step in _list(record.get("lossy_steps"))]
    lossy = f"Lossy steps: {', '.join(steps)}." if steps else "No step of it is lossy."
    return f"""# {repo or source_name(record)} as {kind}

This is {kind}, converted from the {family} checkpoint {whence}. {lossy}

```
{command(record)}
```
"""


def command(record: Record) -> str:
    """The command line of the conversion."""
    options, to, family = _dict(record.get("options")), record.get("to"), record.get("family")
    words = ["convert", str(family), source_name(record), "--to", str(to)]
    words += [switch for name, switch in SWITCHES.items() if options.get(name)]
    for name, option in VALUES.items():
        words += [option, str(options[name])] if options.get(name) is not None else []
    if (values := options.get("value_residual")) is not None:
        words.append("--value-residual" if values else "--no-value-residual")
    for option in ("waive", "drop"):
        words += [word for name in _list(options.get(option)) for word in (f"--{option}", str(name))]
    words += ["--max-shard-size", str(record["max_shard_size"])] if record.get("max_shard_size") else []
    words += ["--format", "native"] if record.get("format") == "native" else []
    words += ["--no-code"] if to == OURS and not record.get("code") else []
    return shlex.join(words)


def _judged(record: Record, *, plotted: bool) -> str:
    verdict, parity = record.get("verdict", "UNVERIFIED"), _dict(record.get("parity"))
    levels = levels_of(record)
    if not levels:
        judge = shlex.join(["convert", "parity", FOLDER, "--reference", source_name(record)])
        told = "This was not judged: source and result were not run side by side. What judges it:"
        return f"## Verdict: {verdict}\n\n{told}\n\n```\n{judge}\n```\n"
    rows = "\n".join(_row(level) for level in levels)
    picture = f"\n![Error of the logits by position]({PICTURE})\n" if plotted else ""
    versions = {**_dict(parity.get("versions")), "mixformer": record.get("version")}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"""## Verdict: {verdict}

Source and result were run side by side. L3 is verified for the attention kernels in its row alone; NOT RUN means that a
level says nothing.

| level | compares | status | number | budget |
| --- | --- | --- | --- | --- |
{rows}
{picture}
Versions: {told}.
"""


def _row(level: Mapping[str, Any]) -> str:
    attention = _dict(level.get("measures")).get("attention")
    what = f"{level.get('title')} ({attention})" if attention else level.get("title")
    numbers = (_number(level.get("number")), _number(level.get("budget")))
    return f"| {level.get('name')} | {what} | {level.get('status')} | {' | '.join(numbers)} |"


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "-"


def _licence(files: Sequence[str]) -> str:
    if not files:
        return "## Licence\n\nNo licence file lies beside the weights of the source.\n"
    links = ", ".join(f"[{name}]({name})" for name in files)
    return f"## Licence\n\nAs the source has it: {links}.\n"


def _loading(record: Record, place: str) -> str:
    return "## Loading\n" + "".join(f"\n{way}\n" for way in _ways(record, place))


def _ways(record: Record, place: str) -> Iterator[str]:
    family, to = record.get("family"), record.get("to")
    if to != OURS:
        yield f"As a {to} checkpoint, with whatever loads those." if record.get("format") == "native" else _auto(place)
        yield f"As a MixFormer, after\n\n```\nconvert {to} {place} --to {OURS}\n```"
        return
    yield "With the package `mixformer`:\n\n" + _auto(place, "import mixformer  # makes the model type known\n")
    if record.get("code"):
        yield "Without it, with the code in this repo, which `convert` wrote:\n\n" + _auto(place, remote=True)
    yield f"As a {family} checkpoint again, after\n\n```\nconvert {OURS} {place} --to {family}\n```"


def _auto(place: str, first: str = "", *, remote: bool = False) -> str:
    trust = ", trust_remote_code=True" if remote else ""
    load = f'model = AutoModelForCausalLM.from_pretrained("{place}"{trust})'
    return f"```python\n{first}from transformers import AutoModelForCausalLM\n\n{load}\n```"


def _training(record: Record) -> str:
    family, to = record.get("family"), record.get("to")
    return f"""## Fine-tuning and handing back

It trains like any model of transformers: with its `Trainer`, or in a loop of your own over
`model(input_ids, labels=labels)`. `model.save_pretrained("tuned")` saves it, and

```
convert {to} tuned --to {family}
```

hands it back as a {family} checkpoint and judges the result against what was saved.
"""


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

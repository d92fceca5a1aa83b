"""A verdict as one HTML page: the verdict at a glance, its levels, pictures of the error, and what it rests on."""

from collections.abc import Iterator

from cli.reports.charts import by_layer, by_position, by_prompt, positions_of
from cli.reports.facts import (
    Facts,
    about,
    levels_of,
    meaning,
    measured,
    number,
    places,
    readings_of,
    sentence,
    stages_of,
    status_of,
    told,
)
from cli.reports.html import badge, document, kind, pairs, text

SHOWN = 6  # lines below what a level measured; more of them are folded
BY_LAYER = "Error by layer, of the size of each layer's output"
BY_POSITION = "Error by position, of the logits' standard deviation"
BY_PROMPT = "Error by prompt, of the logits' standard deviation"


def page(verdict: Facts) -> str:
    """The page."""
    status = status_of(verdict, "verdict")
    return document(f"{status}: {verdict.get('candidate') or 'a model'}", _body(verdict, status))


def _body(verdict: Facts, status: str) -> Iterator[str]:
    yield f'<header class="banner {kind(status)}">{badge(status)}'
    yield f"<h1>{text(verdict.get('candidate') or 'a model')}</h1>"
    yield f'<p class="soft">against {text(verdict.get("reference") or "nothing")}</p>'
    yield f"<p>{text(sentence(verdict))}</p>"
    yield pairs(places(verdict))
    yield "</header>"
    yield from _levels(verdict)
    yield from _charts(verdict)
    yield "<h2>What this rests on</h2>"
    rest = list(about(verdict))
    yield pairs(pair for pair in rest if not pair[0].startswith("sha256"))
    if hashes := [pair for pair in rest if pair[0].startswith("sha256")]:
        yield f"<details><summary>Hashes of the files</summary>{pairs(hashes)}</details>"


def _levels(verdict: Facts) -> Iterator[str]:
    yield '<h2>Levels</h2><div class="scroll"><table>'
    yield "<thead><tr><th>level</th><th>status</th><th>measured</th>"
    yield '<th class="wide">number</th><th class="wide">budget</th><th class="wide">time</th></tr></thead>'
    yield "<tbody>"
    yield from (_row(level) for level in levels_of(verdict))
    yield "</tbody></table></div><details><summary>What each level means</summary>"
    names = {str(level.get("name")): meaning(level) for level in levels_of(verdict)}
    yield pairs(names.items())
    yield "</details>"


def _row(level: Facts) -> str:
    name = f"{level.get('name')} {level.get('title') or ''}"
    lines = told(level)
    more = f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>" if lines else ""
    if len(lines) > SHOWN:
        more = f"<details><summary>{len(lines)} findings and measurements</summary>{more}</details>"
    numbers = "".join(f'<td class="number wide">{text(number(level.get(key)))}</td>' for key in ("number", "budget"))
    seconds = level.get("seconds")
    time = f"{seconds:.1f} s" if isinstance(seconds, int | float) and level.get("status") != "NOT RUN" else ""
    return (
        f'<tr><td><abbr title="{text(meaning(level))}">{text(name)}</abbr></td><td>{badge(status_of(level))}</td>'
        f'<td class="said">{text(measured(level))}{more}</td>{numbers}<td class="number wide">{time}</td></tr>'
    )


def _charts(verdict: Facts) -> Iterator[str]:
    """The pictures of L2, as far as it read anything."""
    stages, limit = stages_of(verdict)
    level = next((level for level in levels_of(verdict) if level.get("name") == "L2"), {})
    prompts, budget = readings_of(level), level.get("budget")
    figures = []
    if stages:
        figures.append((BY_LAYER, by_layer(stages, limit, str(verdict.get("first_divergence") or ""))))
    if lines := [prompt for prompt in prompts if positions_of(prompt)]:
        figures.append((BY_POSITION, by_position(lines, budget)))
    if prompts:
        figures.append((BY_PROMPT, by_prompt(prompts, budget)))
    if figures:
        drawn = "".join(f"<figure><figcaption>{text(name)}</figcaption>{svg}</figure>" for name, svg in figures)
        yield f'<h2>Where the error is</h2><p class="soft">{KEY}</p><div class="charts">{drawn}</div>'


KEY = "All scales of error are logarithmic. A ring is within the budget, a filled diamond beyond it."

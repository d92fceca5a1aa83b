"""Verdicts as JSON, made by hand, and a reader of HTML that finds what a page must not have."""

import copy
import re
from html.parser import HTMLParser

import pytest

VOID = {"meta", "input", "img", "br", "hr", "link"}
DRAWN = {"circle", "line", "polyline", "polygon", "rect", "path"}


def level(name, title, status, number, budget, **more):
    return {
        "name": name, "title": title, "status": status, "number": number, "budget": budget, "detail": "",
        "required": True, "prompts": [], "measures": {}, "seconds": 1.25, **more,
    }  # fmt: skip


def reading(name, rms, positions=()):
    return {"name": name, "tokens": 32, "rms": rms, "max": rms, "quartiles": [], "positions": list(positions)}


FAIL = {
    "verdict": "FAIL",
    "line": "FAIL",
    "levels": [
        level("L0", "structure", "PASS", 0.0, 0.0),
        level("L1", "weights", "FAIL", 2.0, 0.0, detail="a.weight at element 3 (b.weight): is 1; and 1 more"),
        level(
            "L2", "function", "FAIL", 0.31, 1e-10, measures={"max": 3.1, "max_budget": 1e-9},
            prompts=[reading("english", 0.31, [1e-12, 0.3, 0.4]), reading("random", None, [0.0, None, 0.2])],
        ),
        level(
            "L3", "kernels", "FAIL", 167.0, 1.5, detail="bfloat16: rms error of the logits: 167 x the reference's own",
            measures={"attention": "sdpa", "bfloat16 rms": 167.0, "bfloat16 max": 2.5},
        ),
        level("L3 flash", "kernels", "NOT RUN", None, None, detail="not asked for", required=False, seconds=0.0),
        level("L4", "behaviour", "FAIL", 1.0, 0.0, detail="cache: differs", measures={"checks": 3.0}),
    ],
    "first_divergence": "layer 1, mlp: rms 1.3, max 3.4 of its size",
    "hypothesis": "layer 1: gate and up are exchanged",
    "lossy_steps": [{"step": "cast", "dtype": "bfloat16", "max_error": {"a.weight": 0.015}}],
    "versions": {"torch": "9.8.7", "transformers": "6.5.4"},
    "candidate": "my-candidate",
    "reference": "my-reference",
    "device": "cuda:3",
    "seconds": 12.5,
    "stages": {
        "budget": 1e-9,
        "readings": [reading("embeddings", 0.0), reading("layer 0, mlp", 1e-15), reading("layer 1, mlp", 1.3)],
    },
    "hashes": {"candidate": {"model.safetensors": "c0ffee"}, "reference": {"model.safetensors": "beef"}},
}  # fmt: skip


@pytest.fixture
def fail():
    """A verdict that failed, with everything that a verdict can have."""
    return copy.deepcopy(FAIL)


@pytest.fixture
def unverified(fail):
    levels = [level("L2", "function", "UNVERIFIED", None, None, detail="the models do not fit into memory")]
    return {**fail, "verdict": "UNVERIFIED", "levels": levels, "first_divergence": None, "hypothesis": None}


@pytest.fixture
def passed(fail):
    levels = [level("L0", "structure", "PASS", 0.0, 0.0), level("L2", "function", "PASS", 2.5e-15, 1e-10)]
    return {**fail, "verdict": "PASS", "levels": levels, "first_divergence": None, "hypothesis": None}


class Reader(HTMLParser):
    """Reads a page and remembers its text, its classes and what is wrong with it."""

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.text, self.rows = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag == "script":
            self.wrong.append("a script")
        for name, value in attrs:
            self.wrong += [f"the handler {name}"] if name.startswith("on") else []
            self.wrong += [f"the address {value}"] if re.match(r"(\w+:)?//|data:|javascript:", value or "") else []
        if tag not in VOID | DRAWN:
            self.open.append(tag)
        elif tag in DRAWN:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append(dict(attrs).get("class", ""))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.wrong += [f"{found} in the style" for found in re.findall(r"url\(|@import|https?:", data)]
        else:
            self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    reader.wrong += [f"<{tag}> is never closed" for tag in reader.open]
    reader.wrong += ["a control character"] if re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e\ud800-\udfff]", page) else []
    return reader


@pytest.fixture
def read_page():
    """Reads a page: its text and what is wrong with it."""
    return read

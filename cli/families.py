"""`convert families`: what can be converted."""

from typing import Annotated

from typer import Option

from cli.console import Debug, Json, Quiet, show
from cli.terminal.layout import columns, table

Coverage = Annotated[bool, Option("--coverage", help="List the causal model types of transformers: held, or why not.")]


def families(coverage: Coverage = False, json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the families, and which models of each can be converted."""
    if coverage:
        covered(json=json, quiet=quiet)
        return
    from converters.family import OURS, list_families, umbrellas
    from converters.support_matrix import matrix

    names = ("name", "title", "expresses", "dialect_of")
    found = [{name: getattr(family, name) for name in names} for family in list_families()]
    found += [{"name": u.name, "title": u.title, "expresses": "see its dialects"} for u in umbrellas().values()]
    found.sort(key=lambda f: (f.get("dialect_of") or f["name"], bool(f.get("dialect_of"))))
    ours = {"name": OURS, "title": "MixFormer (mixformer-sequential)", "expresses": "everything on this list"}
    rows = [("family", "what it is", "converted both ways")]
    rows += [(f"{'  ' if f.get('dialect_of') else ''}{f['name']}", f["title"], f["expresses"]) for f in (*found, ours)]
    # The matrix asks each family for each variant, which takes a second.
    content = {"families": [*found, ours], "variants": matrix()} if json else {}
    show(table(rows, columns()), content, as_json=json, quiet=quiet)


def covered(*, json: bool, quiet: bool) -> None:
    """Lists every causal model type of transformers, with the family that holds it or the reason why none does."""
    from converters.coverage import counts, coverage

    found, numbers = coverage(), counts()
    rows = [("model_type", "family", "why not"), *((c.model_type, c.family, _why(c.kind, c.reason)) for c in found)]
    total = ", ".join(f"{number} {kind}" for kind, number in numbers.items())
    rows.append((f"{len(found)} types", "", total))
    show(table(rows, columns()), {"counts": numbers, "types": [vars(one) for one in found]}, as_json=json, quiet=quiet)


def _why(kind: str, reason: str) -> str:
    return f"{kind}: {reason}" if kind else ""

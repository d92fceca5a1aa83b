"""`convert families`: what can be converted."""

from cli.console import Debug, Json, Quiet, show, table


def families(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the families, and which models of each can be converted."""
    from converters.family import OURS, list_families, umbrellas
    from converters.support_matrix import matrix

    names = ("name", "title", "expresses", "dialect_of")
    found = [{name: getattr(family, name) for name in names} for family in list_families()]
    found += [{"name": u.name, "title": u.title, "expresses": "see its dialects"} for u in umbrellas().values()]
    found.sort(key=lambda f: (f.get("dialect_of") or f["name"], bool(f.get("dialect_of"))))
    ours = {"name": OURS, "title": "MixFormer (mixformer-sequential)", "expresses": "everything on this list"}
    rows = [("family", "what it is", "converted both ways")]
    rows += [(f"{'  ' if f.get('dialect_of') else ''}{f['name']}", f["title"], f["expresses"]) for f in (*found, ours)]
    show(table(rows), {"families": [*found, ours], "variants": matrix()}, as_json=json, quiet=quiet)

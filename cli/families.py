"""`convert families`: what can be converted."""

from cli.console import Debug, Json, Quiet, show, table


def families(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the families, and which models of each can be converted."""
    from converters.family import OURS, list_families
    from converters.support_matrix import matrix

    names = ("name", "title", "expresses", "dialect_of")
    listed = sorted(list_families(), key=lambda family: (family.dialect_of or family.name, family.dialect_of != ""))
    found = [{name: getattr(family, name) for name in names} for family in listed]
    ours = {"name": OURS, "title": "MixFormer (mixformer-sequential)", "expresses": "everything on this list"}
    rows = [("family", "what it is", "converted both ways")]
    rows += [(f"{'  ' if f.get('dialect_of') else ''}{f['name']}", f["title"], f["expresses"]) for f in (*found, ours)]
    show(table(rows), {"families": [*found, ours], "variants": matrix()}, as_json=json, quiet=quiet)

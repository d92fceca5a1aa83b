"""`convert families`: what can be converted."""

from cli.console import Debug, Json, Quiet, show, table


def families(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the families and what each can express."""
    from converters.family import OURS, list_families

    found = [{"name": f.name, "title": f.title, "expresses": f.expresses} for f in list_families()]
    ours = {"name": OURS, "title": "MixFormer (mixformer-sequential)", "expresses": "everything on this list"}
    rows = [("family", "what it is", "converted both ways")]
    rows += [(f["name"], f["title"], f["expresses"]) for f in (*found, ours)]
    show(table(rows), {"families": [*found, ours]}, as_json=json, quiet=quiet)

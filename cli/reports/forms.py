"""Writing a verdict to files, each in the form that its suffix names."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.reports.junit import junit
from cli.reports.markdown import markdown
from cli.reports.page import page

Form = Callable[[Mapping[str, Any]], str]


def check_reports(paths: Sequence[Path]) -> None:
    """Refuses reports that cannot be written, before anything is judged.

    Raises:
        UsageError: an unknown suffix, a folder, no folder to write into, or a name that is given twice.
    """
    from converters.errors import UsageError

    for path in paths:
        if path.suffix not in FORMS:
            raise UsageError(f"--report is {path.name!r}, expected a name that ends in {', '.join(FORMS)}")
        if not path.absolute().parent.is_dir():
            raise UsageError(f"--report: there is no folder {path.absolute().parent}; make it first")
        if path.is_dir():
            raise UsageError(f"--report: {path} is a folder; give the name of a file")
    if len({path.absolute() for path in paths}) < len(paths):
        raise UsageError("--report: the same file is named twice; give each report a name of its own")


def write_reports(paths: Sequence[Path], verdict: Mapping[str, Any]) -> None:
    """Writes a verdict, given as its JSON, to each file. A file that was there is replaced in one step, or stays.

    Raises:
        TargetRefused: a file cannot be written, as on a full disk.
    """
    for path in paths:
        write_text(path, FORMS[path.suffix](verdict))


def write_text(path: Path, text: str) -> None:
    """Writes a file of mode 0644, or nothing.

    Raises:
        TargetRefused: it cannot be written.
    """
    from converters.engine.output_folder import replace_file
    from converters.errors import TargetRefused

    try:
        replace_file(path, text.encode(errors="backslashreplace"))
    except OSError as failure:
        raise TargetRefused(f"the report {path} cannot be written: {failure.strerror or failure}") from failure


def _json(verdict: Mapping[str, Any]) -> str:
    return json.dumps(verdict, indent=2, ensure_ascii=False) + "\n"


FORMS: dict[str, Form] = {".json": _json, ".md": markdown, ".xml": junit, ".html": page}

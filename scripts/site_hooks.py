"""What mkdocs asks before it builds the site: the pages of the reference, which are no files of the repository."""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages."""
    sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]  # mkdocs sets it back after it has read this file
    from mkdocs.structure.files import File
    from reference_pages import command_page, python_page

    for name, page in (("command", command_page), ("python", python_page)):
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files

"""Blocks, mixers and other parts from other packages, found when a configuration names them.

A part of another package is registered under "<package>/<name>", so that a configuration says by itself what it needs.
The package lists the module that registers it under the entry-point group `mixformer.parts`.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from mixformer.errors import MissingPackageError

GROUP = "mixformer.parts"
# False in the copy that lies in a model's folder: transformers gives it a name of its own.
INSTALLED = __name__.partition(".")[0] == "mixformer"


def load_parts_of(name: str, path: str) -> None:
    """Import what registers "<package>/<name>"; nothing happens for a name without a slash.

    Raises:
        MissingPackageError: the package is not installed, or has no such part; the message names it.
    """
    package, slash, _ = name.partition("/")
    if not slash:
        return
    if not INSTALLED:
        raise MissingPackageError(
            f"`{path}` is {name!r}, and the code in a model's folder has MixFormer's own parts alone: pip install "
            f"mixformer {package}, and `import mixformer` before the model is loaded"
        )
    found = [entry for entry in entry_points(group=GROUP) if entry.dist is not None and entry.dist.name == package]
    if not found:
        raise MissingPackageError(
            f"`{path}` is {name!r}, a part of the package {package}, which is not installed here: pip install {package}"
        )
    for entry in found:
        entry.load()

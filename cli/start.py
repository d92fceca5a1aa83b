"""The entry point of both scripts, `convert` and `mixformer`."""

import gc
import os

from cli.interrupts import guarded


def main() -> None:
    """Runs the command line and exits with its code; Ctrl-C ends it at any moment with one line."""
    guarded(_run)


def _run() -> None:
    """Garbage collection is off during imports, because nothing that they make is garbage."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads when imported
    gc.disable()
    from cli.main import main as run

    gc.freeze()  # what the imports made is not searched again
    gc.enable()
    run()

"""The entry point of both scripts, `convert` and `mixformer`."""

import gc
import os


def main() -> None:
    """Runs the command line and exits with its code; Ctrl-C ends it at any moment with one line."""
    try:
        from cli.interrupts import guarded

        guarded(_run)
    except KeyboardInterrupt:  # before anybody listens
        os.write(2, b"error: interrupted; no half-written file is left\n")
        os._exit(130)


def _run() -> None:
    """Garbage collection is off during imports, because nothing that they make is garbage."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads when imported
    gc.disable()
    from cli.main import main as run

    gc.freeze()  # what the imports made is not searched again
    gc.enable()
    run()

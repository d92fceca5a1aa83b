"""The door of both script names."""

import gc
import os


def main() -> None:
    """Runs the command line; the cycle collector rests meanwhile, for nothing that imports make is garbage."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy multiplies nothing here, and starts them when imported
    gc.disable()
    from cli.main import main as run

    gc.freeze()  # and what they made is never searched again
    gc.enable()
    run()

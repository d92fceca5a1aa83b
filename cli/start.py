"""The door of both script names."""

import gc


def main() -> None:
    """Runs the command line; the cycle collector rests meanwhile, for nothing that imports make is garbage."""
    gc.disable()
    from cli.main import main as run

    gc.freeze()  # and what they made is never searched again
    gc.enable()
    run()

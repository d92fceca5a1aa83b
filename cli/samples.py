"""Built-in samples on disk: written where no source is given, and removed again where nothing came of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _sample_name(family: str) -> str:
    """The family of the sample: of an umbrella, its plain dialect."""
    from converters.family import find_umbrella

    umbrella = find_umbrella(family)
    return umbrella.family(umbrella.plain) if umbrella else family


@contextmanager
def removed_samples(family: str | None, output: Path | None, *, wanted: bool) -> Iterator[None]:
    """Removes samples that were written inside, if what they were written for fails."""
    if family is None or not wanted:
        yield
        return
    place = output.absolute().parent if output else Path.cwd()
    folders = [place / f"{name}-sample" for name in (_sample_name(family), "llama")]
    fresh = [folder for folder in folders if not folder.exists()]
    try:
        yield
    except BaseException:
        import shutil

        for folder in fresh:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def sample(family: str, output: Path | None) -> Path:
    """The family's built-in sample, written beside the output."""
    from converters.conversion import Request, convert
    from converters.engine.shard_writing import Writing
    from converters.family import OURS
    from converters.sample import write_sample

    place, family = output.absolute().parent if output else Path.cwd(), _sample_name(family)
    if family != OURS:
        return write_sample(place / f"{family}-sample", family)
    theirs = write_sample(place / "llama-sample")
    quick = Request(writing=Writing(hash=False, fsync=False))
    return convert(theirs, output=place / f"{OURS}-sample", request=quick).output

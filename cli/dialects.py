"""`--dialect NAME`: which of several dialects is meant, where a family is a name for them."""


def named_pair(family: str, to: str, dialect: str | None) -> tuple[str, str]:
    """(family, to) of a conversion; the dialect is the target's if that has any, else the source's.

    Raises:
        UsageError: a dialect of a family that has none, or one that it does not have.
    """
    from converters.errors import UsageError
    from converters.family import find_umbrella, umbrellas

    if dialect is None:
        return family, to
    if target := find_umbrella(to):
        return family, target.family(dialect)
    if source := find_umbrella(family):
        return source.family(dialect), to
    raise UsageError(f"--dialect {dialect}: neither {family} nor {to} has dialects; {', '.join(umbrellas())} has")

"""`--dialect NAME`: which of several dialects is meant, where a family is a name for them."""


def named_pair(family: str | None, to: str, dialect: str | None) -> tuple[str | None, str]:
    """(family, to) of a conversion; the dialect is the target's if that has any, else the source's.

    family: None where it is found by itself; a dialect of the source then names it.

    Raises:
        UsageError: a dialect of a family that has none, or one that it does not have.
    """
    from converters.errors import UsageError
    from converters.family import find_umbrella, umbrellas

    if dialect is None:
        return family, to
    if target := find_umbrella(to):
        return family, target.family(dialect)
    if family is None:
        known = [umbrella for umbrella in umbrellas().values() if dialect in umbrella.dialects]
        if len(known) == 1:
            return known[0].family(dialect), to
    elif source := find_umbrella(family):
        return source.family(dialect), to
    named = f"neither {family} nor {to} has dialects" if family else f"no family has a dialect of that name for {to}"
    raise UsageError(f"--dialect {dialect}: {named}; {', '.join(umbrellas())} has")


def gguf_pair(family: str | None, to: str) -> tuple[str | None, str]:
    """(family, to) of a conversion to a GGUF file: the target's dialect that is one.

    Raises:
        UsageError: the target has none.
    """
    from converters.errors import UsageError
    from converters.family import find_family

    dialect = to if to.endswith("-gguf") else f"{to}-gguf"
    if find_family(dialect) is None:
        raise UsageError(f"--format gguf is for --to llama and --to gpt2; {to} is written as a safetensors folder")
    return family, dialect

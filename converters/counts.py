"""Counts in words, for messages: `1 tensor`, `2 tensors`."""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """The count with its noun: the singular for one, else the plural.

    Args:
        noun: the singular.
        plural: needed where it is not the singular and an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"

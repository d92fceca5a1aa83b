"""Sizes with names, so that a message can say `[kv_rows = 512, n_embd = 4096]`."""

from collections.abc import Iterator, Mapping


class Size(int):
    """A non-negative number of elements along one axis, with its name."""

    name: str

    def __new__(cls, name: str, value: int) -> "Size":
        size = super().__new__(cls, value)
        size.name = name
        return size


class Dims(Mapping[str, Size]):
    """The sizes of one model, by name; read by moves, never changed.

    Raises:
        KeyError: for a name the model does not have.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = {name: Size(name, value) for name, value in sizes.items()}

    def with_size(self, name: str, value: int) -> "Dims":
        """These sizes and one more."""
        return Dims({**self._sizes, name: value})

    def __getitem__(self, name: str) -> Size:
        return self._sizes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)


def describe(shape: tuple[int, ...]) -> str:
    """`[kv_rows = 512, 64]`: sizes by name where they have one."""
    words = (f"{size.name} = {int(size)}" if isinstance(size, Size) else str(size) for size in shape)
    return f"[{', '.join(words)}]"

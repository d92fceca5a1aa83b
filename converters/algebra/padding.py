"""What padded elements hold: zero, or a very low value."""

from converters.errors import NotInvertible

# A logit that nothing chooses, -30000, as each dtype writes it: far below any other, and finite even in float16.
LOW = {"F64": 0xC0DD4C0000000000, "F32": 0xC6EA6000, "F16": 0xF753, "BF16": 0xC6EA}


def pattern(dtype: str, *, low: bool) -> int:
    """The bit pattern of a padded element.

    Raises:
        NotInvertible: the dtype has no such value.
    """
    if low and dtype.startswith("F8"):
        raise NotInvertible(f"a head bias of dtype {dtype} cannot be padded with a low value")
    return LOW.get(dtype, 0) if low else 0

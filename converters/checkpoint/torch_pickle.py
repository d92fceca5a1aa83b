"""The pickles of torch files, read by a machine that can do little: plain containers, numbers, text and tensors.

Nothing is imported or called by a name from the file: the few names that a state dict needs stand for functions here.
Every other is refused, but for names that a caller says nobody needs: what they make is `NOTHING`. A step makes one
value at most, steps are counted, and a memo is a dict, so that no file makes the reader take much more memory than the
file has bytes. Opcodes: `pickletools` of the standard library.
"""

import pickle
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from struct import unpack_from
from typing import Any

from converters.checkpoint.safetensors_header import MOST_DIMS

DTYPES = {
    "DoubleStorage": ("F64", 8),
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
LARGEST_PICKLE = 4 << 20  # bytes; a tensor takes about 250
MOST_STEPS = 500_000  # a tensor takes about 30


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `count` elements of one dtype, by the number of its zip entry."""

    name: str
    dtype: str
    width: int
    count: int


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor somewhere inside a pickle: what `_rebuild_tensor_v2` was called with."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Nothing:
    """Stands for an object that nobody needs. It keeps nothing."""

    __slots__ = ()


NOTHING = _Nothing()


def unpickled(data: bytes, begin: int = 0, unneeded: Collection[tuple[str, str]] = ()) -> tuple[Any, int]:
    """The value that a pickle from byte `begin` on makes, with `LazyTensor` for tensors, and where it ends.

    unneeded: names (module, name) that the pickle may ask for, with `NOTHING` for what they make.

    Raises:
        UnpicklingError: it asks for a name or an opcode that a state dict does not need, or for too many steps.
        ValueError, LookupError, TypeError, AttributeError, struct.error: it is broken.
    """
    machine = Machine(data, begin, frozenset(unneeded))
    return machine.run(), machine.at


@dataclass(frozen=True, slots=True)
class _StorageKind:
    """Stands for a class such as torch.FloatStorage."""

    dtype: str
    width: int


@dataclass(frozen=True, slots=True)
class Function:
    """Stands for a function that a pickle may call."""

    call: Callable[..., Any]


class Machine:
    """A stack, the places of marks on it, and a memo. Pickles of other kinds have machines of their own below it."""

    most_steps = MOST_STEPS

    def __init__(self, data: bytes, begin: int, unneeded: frozenset[tuple[str, str]]) -> None:
        self.data, self.at, self.steps, self.unneeded = data, begin, 0, unneeded
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        data, table, stop = self.data, TABLE, pickle.STOP[0]
        while (opcode := data[self.at]) != stop:
            self.at += 1
            step = table[opcode]
            if step is None:
                raise pickle.UnpicklingError(
                    f"its pickle has the opcode {bytes([opcode])!r}, which a state dict does not need"
                )
            self.steps += 1
            if self.steps > self.most_steps:
                self.count(0)
            step(self)
        self.at += 1
        return self.stack.pop()

    def count(self, steps: int) -> None:
        self.steps += steps
        if self.steps > self.most_steps:
            raise pickle.UnpicklingError(f"its pickle takes more than {self.most_steps} steps")

    def number(self, form: str, width: int) -> Any:
        (value,) = unpack_from(f"<{form}", self.data, self.at)
        self.at += width
        return value

    def bytes(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise ValueError("its pickle ends early")
        self.at += length
        return self.data[self.at - length : self.at]

    def line(self) -> str:
        end = self.data.index(b"\n", self.at)
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text

    def above_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise LookupError("its pickle takes more values than it made")
        del self.stack[-count:]
        self.stack.append(items)

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError("its pickle appends to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError("its pickle sets items of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self.key(key)] = value

    def key(self, key: Any) -> Any:
        return _key(key)

    def build(self) -> None:
        """Attributes, such as the versions that torch keeps beside a state dict."""
        self.stack.pop()

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("its pickle calls what is no function")
        if arguments and isinstance(arguments[0], list | tuple | dict | str | bytes):
            self.count(len(arguments[0]))  # it may be copied
        self.stack.append(function.call(*arguments))

    def new(self) -> None:
        """An object of a class, with arguments: of one that nobody needs alone."""
        _, made = self.stack.pop(), self.stack.pop()
        if made is not FORGET:
            raise pickle.UnpicklingError("its pickle makes an object, which a state dict does not need")
        self.stack.append(NOTHING)

    def named(self, module: str, name: str) -> None:
        self.stack.append(FORGET if (module, name) in self.unneeded else _named(module, name))

    def global_from_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("its pickle asks for a name that is no text")
        self.named(module, name)


def _key(key: Any) -> Any:
    """A key of a dict: other kinds could be made to have one hash all, or a hash that takes years."""
    if type(key) is not str and (type(key) is not int or not -(2**31) <= key < 2**31):
        raise TypeError(f"its pickle has a key of type {type(key).__name__}")
    return key


def _named(module: str, name: str) -> Function | _StorageKind:
    """What stands for a name from the file; no code is looked up by it."""
    found = FUNCTIONS.get((module, name))
    if found is not None:
        return Function(found)
    if module == "torch" and name in DTYPES:
        return _StorageKind(*DTYPES[name])
    asked = "".join(sign if sign.isprintable() else "?" for sign in f"{module}.{name}"[:120])
    raise pickle.UnpicklingError(f"its pickle asks for {asked}, which a state dict does not need")


def _dict(items: Any = ()) -> dict[Any, Any]:
    """collections.OrderedDict, whose order every dict has."""
    return {_key(key): value for key, value in items}


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> LazyTensor:
    """rest: requires_grad, backward hooks, and since torch 1.12 metadata such as a sign bit."""
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    if any(rest[2:]):
        raise pickle.UnpicklingError("a tensor with metadata, such as a sign kept aside")
    for sizes in (shape, strides, (offset,)):
        if not isinstance(sizes, tuple) or len(sizes) > MOST_DIMS or any(type(size) is not int for size in sizes):
            raise pickle.UnpicklingError(f"a tensor whose sizes are not at most {MOST_DIMS} integers")
    return LazyTensor(storage, offset, shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    """Of the rest, flags, hooks and what a trainer marked a parameter with, none is a value."""
    return data


def _storage(pid: Any) -> Storage:
    """A storage by the reference of torch: ("storage", kind, number as text or (litgpt) int, device, count)."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        raise pickle.UnpicklingError("a reference to something else than a storage")
    kind, name, count = pid[1], str(pid[2]) if type(pid[2]) is int else pid[2], pid[4]
    if not isinstance(kind, _StorageKind) or not isinstance(name, str) or type(count) is not int:
        raise pickle.UnpicklingError("a reference to a storage of unknown kind")
    return Storage(name, kind.dtype, kind.width, count)


FORGET = Function(lambda *_: NOTHING)
FUNCTIONS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _dict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
}
STEPS: Mapping[bytes, Callable[[Machine], Any]] = {
    pickle.PROTO: lambda m: m.bytes(1),
    pickle.FRAME: lambda m: m.bytes(8),
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.BININT: lambda m: m.push(m.number("i", 4)),
    pickle.BININT1: lambda m: m.push(m.number("B", 1)),
    pickle.BININT2: lambda m: m.push(m.number("H", 2)),
    pickle.LONG1: lambda m: m.push(int.from_bytes(m.bytes(m.number("B", 1)), "little", signed=True)),
    pickle.BINFLOAT: lambda m: m.push(unpack_from(">d", m.bytes(8))[0]),
    pickle.BINUNICODE: lambda m: m.push(m.bytes(m.number("I", 4)).decode()),
    pickle.SHORT_BINUNICODE: lambda m: m.push(m.bytes(m.number("B", 1)).decode()),
    pickle.BINUNICODE8: lambda m: m.push(m.bytes(m.number("Q", 8)).decode()),
    pickle.BINSTRING: lambda m: m.push(m.bytes(m.number("I", 4)).decode("latin-1")),
    pickle.SHORT_BINSTRING: lambda m: m.push(m.bytes(m.number("B", 1)).decode("latin-1")),
    pickle.BINBYTES: lambda m: m.push(m.bytes(m.number("I", 4))),
    pickle.SHORT_BINBYTES: lambda m: m.push(m.bytes(m.number("B", 1))),
    pickle.MARK: lambda m: m.marks.append(len(m.stack)),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE: lambda m: m.push(tuple(m.above_mark())),
    pickle.TUPLE1: lambda m: m.tuple_of(1),
    pickle.TUPLE2: lambda m: m.tuple_of(2),
    pickle.TUPLE3: lambda m: m.tuple_of(3),
    pickle.APPEND: lambda m: m.extend([m.stack.pop()]),
    pickle.APPENDS: lambda m: m.extend(m.above_mark()),
    pickle.SETITEM: lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    pickle.SETITEMS: lambda m: m.set_items(m.above_mark()),
    pickle.BINPUT: lambda m: m.memo.__setitem__(m.number("B", 1), m.stack[-1]),
    pickle.LONG_BINPUT: lambda m: m.memo.__setitem__(m.number("I", 4), m.stack[-1]),
    pickle.MEMOIZE: lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    pickle.BINGET: lambda m: m.push(m.memo[m.number("B", 1)]),
    pickle.LONG_BINGET: lambda m: m.push(m.memo[m.number("I", 4)]),
    pickle.GLOBAL: lambda m: m.named(m.line(), m.line()),
    pickle.STACK_GLOBAL: lambda m: m.global_from_stack(),
    pickle.BINPERSID: lambda m: m.push(_storage(m.stack.pop())),
    pickle.REDUCE: lambda m: m.call(),
    pickle.NEWOBJ: lambda m: m.new(),
    pickle.BUILD: lambda m: m.build(),
}
TABLE = [STEPS.get(bytes([opcode])) for opcode in range(256)]

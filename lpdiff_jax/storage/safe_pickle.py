"""Reads pickles as data: nothing that a pickle names is imported, looked up or called.

A pickle is a program for a small stack machine, two of whose instructions (GLOBAL, REDUCE) run
any function of any installed module. The machine here knows the instructions that build data;
a global stays a name, and only names on the caller's list may appear, each with a constructor of
ours that makes an inert value. A file that asks for more gets a `UserError`.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, runtime_checkable

from data_pipeline.tree import printable
from lpdiff_jax.errors import UserError

Constructor = Callable[..., Any]


@dataclass(frozen=True)
class Global:
    """A module-level name that a pickle mentions, such as `torch.FloatStorage`; never imported."""

    name: str


@runtime_checkable
class Stateful(Protocol):
    """What a constructor returns when the pickle sets its state afterwards (BUILD)."""

    def set_state(self, state: Any) -> None:
        """Takes the state as the pickle gives it."""


def ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    """The constructor for `collections.OrderedDict`: empty, or from a list of pairs."""
    result: dict[Any, Any] = {}
    for key, value in pairs:
        result[_plain_key(key)] = value
    return result


def _plain_key(key: Any) -> Any:
    # A tuple as a key could be nested so deep that hashing it never ends.
    if not isinstance(key, str | int):
        raise ValueError("a key is neither text nor a number")
    return key


class Record:
    """An object of an unknown class, as its constructor arguments and its state."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None

    def set_state(self, state: Any) -> None:
        """Keeps the state."""
        self.state = state


def load(
    stream: BinaryIO,
    constructors: Mapping[str, Constructor | None],
    *,
    source: str,
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle from `stream` and leaves it just behind that pickle.

    Args:
      stream: an open binary file. Its size bounds the memory and the time spent, so a caller who
        reads a stranger's file limits that size.
      constructors: the globals that may appear, by dotted name, each with what to call in its
        place; None: may be mentioned but not called. A key `package.*` admits the whole package.
      source: the file's name, for messages.
      persistent_load: makes the object of a persistent id.

    Raises:
      UserError: the pickle is damaged, or names a global that is not in `constructors`.
    """
    machine = _Machine(constructors, source, persistent_load)
    try:
        return machine.run(stream)
    except _DAMAGE as error:
        raise UserError(
            f"{source}: damaged, or not such a file at all (its pickle cannot be read: "
            f"{brief(error)})"
        ) from error


def brief(error: Exception) -> str:
    """An error of a library in one short line that can be printed, whatever a file put into it."""
    return printable(str(error).partition("\n")[0][:300]) or type(error).__name__


# A checkpoint of 20,000 tensors takes a million instructions, each a microsecond or two.
_MAX_INSTRUCTIONS = 2_000_000
# The largest number that a format needs is its mark, of 77 bits.
_MAX_BITS = 128

# What malformed bytes provoke in pickletools, in the machine and in constructors.
_DAMAGE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    struct.error,
    RecursionError,
    MemoryError,
    DeprecationWarning,  # an unknown escape in a string, where warnings are errors
)

# Instructions whose argument, as pickletools decodes it, is the value to push.
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE")
_BYTES = ("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_VALUES = frozenset((*_NUMBERS, *_TEXTS, *_BYTES))
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING_TO_DO = frozenset(("PROTO", "FRAME"))


class _Machine:
    """The stack, the marked positions and the memo of one pickle."""

    def __init__(
        self,
        constructors: Mapping[str, Constructor | None],
        source: str,
        persistent_load: Callable[[Any], Any] | None,
    ) -> None:
        self.constructors = constructors
        self.source = source
        self.persistent_load = persistent_load
        self.stack: list[Any] = []
        self.outer_stacks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        """Executes the instructions up to STOP; returns the value on top."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if opcode.name == "STOP":
                return self.stack.pop()
            if count == _MAX_INSTRUCTIONS:
                raise ValueError(f"it has more than {_MAX_INSTRUCTIONS:,} instructions")
            if isinstance(argument, int) and argument.bit_length() > _MAX_BITS:
                raise ValueError(f"a number of {argument.bit_length():,} bits")
            self.step(opcode.name, argument)
        raise ValueError("it has no end")

    def step(self, name: str, argument: Any) -> None:
        """Executes one instruction."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _CONTAINERS:
            self.stack.append(_CONTAINERS[name]())
        elif name in _TUPLES:
            self.stack[-_TUPLES[name] :] = [self.last(_TUPLES[name])]
        elif name in _HANDLERS:
            _HANDLERS[name](self, argument)
        elif name not in _NOTHING_TO_DO:
            raise UserError(f"{self.source}: its pickle uses {name}, which no checkpoint needs")

    def last(self, count: int) -> tuple[Any, ...]:
        """Returns the `count` topmost values."""
        if len(self.stack) < count:
            raise ValueError("a value is missing")
        return tuple(self.stack[-count:])

    def mark(self, _: None) -> None:
        self.outer_stacks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """Returns the values since the last mark and takes them off."""
        items, self.stack = self.stack, self.outer_stacks.pop()
        return items

    def pop(self, _: None) -> None:
        self.stack.pop()

    def duplicate(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def recall(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def make_tuple(self, _: None) -> None:
        items = self.pop_mark()
        self.stack.append(tuple(items))

    def make_list(self, _: None) -> None:
        items = self.pop_mark()
        self.stack.append(items)

    def make_dict(self, _: None) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self.insert(items)

    def append(self, _: None) -> None:
        item = self.stack.pop()
        list.append(self.stack[-1], item)

    def extend(self, _: None) -> None:
        items = self.pop_mark()
        list.extend(self.stack[-1], items)

    def set_item(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.insert([key, value])

    def set_items(self, _: None) -> None:
        self.insert(self.pop_mark())

    def insert(self, items: list[Any]) -> None:
        """Puts keys and values, which alternate, into the dict on top."""
        for key, value in zip(items[::2], items[1::2], strict=True):
            dict.__setitem__(self.stack[-1], _plain_key(key), value)

    def push_global(self, module_and_name: str) -> None:
        module, _, name = module_and_name.partition(" ")
        self.admit(f"{module}.{name}")

    def push_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise ValueError("a global's name is not text")
        self.admit(f"{module}.{name}")

    def admit(self, name: str) -> None:
        """Pushes a global if the list has it."""
        self.constructor(name)
        self.stack.append(Global(name))

    def constructor(self, name: str) -> Constructor | None:
        for key in (name, name.partition(".")[0] + ".*"):
            if key in self.constructors:
                return self.constructors[key]
        raise UserError(
            f"{self.source}: its pickle refers to `{printable(name[:200])}`, which no checkpoint "
            "needs; nothing of it was executed. Do not open such a file with pickle or torch.load"
        )

    def construct(self, _: None) -> None:
        """REDUCE and NEWOBJ: calls our constructor of the global on the stack."""
        args, target = self.stack.pop(), self.stack.pop()
        constructor = self.constructor(target.name) if isinstance(target, Global) else None
        if constructor is None or not isinstance(args, tuple):
            raise ValueError("it calls something that is not a constructor")
        self.stack.append(constructor(*args))

    def build(self, _: None) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Stateful):
            target.set_state(state)
        elif not isinstance(target, dict):  # a dict's attributes are not part of its data
            raise ValueError("it sets the state of a plain value")

    def push_persistent(self, _: None) -> None:
        if self.persistent_load is None:
            raise ValueError("it refers to data outside of itself")
        self.stack.append(self.persistent_load(self.stack.pop()))


_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": lambda machine, _: (machine.pop_mark(), None)[1],
    "DUP": _Machine.duplicate,
    "TUPLE": _Machine.make_tuple,
    "LIST": _Machine.make_list,
    "DICT": _Machine.make_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.extend,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.recall,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "GLOBAL": _Machine.push_global,
    "STACK_GLOBAL": _Machine.push_stack_global,
    "REDUCE": _Machine.construct,
    "NEWOBJ": _Machine.construct,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.push_persistent,
}

"""Reads the scheduled program of an XLA TPU compiler: arithmetic, memory traffic, exchanges.

The text is what `Compiled.as_text()` gives. An instruction there is one of

    %name = bf16[32,12,24,48]{3,0,2,1:T(8,128)(2,1)S(1)} fusion(%a, %b), calls=%computation, ...

where the braces hold the dimensions from the innermost one on, the tiles that the array is laid out
in (each tile's last dimension lies on lanes), and S(1) for an array that is kept in VMEM.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_BITS = {"pred": 8, "bf16": 16}
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\](?:\{([\d,]*)(?::((?:[A-Z]\([^)]*\)|\([^)]*\))*))?[^}]*\})?")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%([\w.-]+) = (.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.-]+) \(.*\{$")
_CALLED = re.compile(r"(?:calls|body|to_apply|branch_computations)=\{?(%[\w.-]+(?:, %[\w.-]+)*)\}?")
# What moves nothing: names of what is there.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "domain", "iota",
}  # fmt: skip
_PRODUCTS = ("convolution", "dot")
EXCHANGES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Array:
    """An array as a program lays it out.

    Attributes:
      kind: 'f32', 'bf16', ...
      sides: the lengths of its dimensions.
      order: its dimensions from the innermost one on.
      tile: the tile of the innermost dimensions, outermost first; empty: none.
      in_vmem: whether it is kept in the chip's own memory, beside the matrix units.
    """

    kind: str
    sides: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    in_vmem: bool = False

    @property
    def bytes(self) -> int:
        """The room that its numbers take."""
        return math.prod(self.sides) * _bits(self.kind) // 8

    @property
    def padded_bytes(self) -> int:
        """The room that it takes, with its tiles filled up."""
        sides = [self.sides[i] for i in self.order]
        for i, tile in enumerate(reversed(self.tile)):
            if i < len(sides):
                sides[i] = math.ceil(sides[i] / tile) * tile
        return math.prod(sides) * _bits(self.kind) // 8


def _bits(kind: str) -> int:
    digits = re.search(r"\d+", kind)
    return _BITS.get(kind) or int(digits[0] if digits else 0)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
      name: its own.
      operation: 'fusion', 'copy-start', ...
      arrays: what it gives; several where that is a tuple.
      inside: the text within its parentheses.
      called: the computations that it calls.
      rest: the text behind its operands.
    """

    name: str
    operation: str
    arrays: tuple[Array, ...]
    inside: str
    called: tuple[str, ...]
    rest: str

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of what it takes."""
        return tuple(re.findall(r"%([\w.-]+)", self.inside))

    @property
    def source(self) -> str:
        """The path of the JAX operation that it came from."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""

    @property
    def cycles(self) -> float:
        """The compiler's own estimate of it; 0 where it makes none."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
        cycles = float(found[1]) if found else 0.0
        return cycles if cycles < 1e15 else 0.0  # one that it could not estimate


Computation = Mapping[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Part:
    """What one instruction costs, every time that it runs.

    Attributes:
      instruction: the instruction.
      times: how often it runs.
      flops: its products' operations, once.
      padded_flops: the same with the channels that they contract and give filled up to a matrix
        unit's sides.
      hbm: bytes that it reads from and writes to HBM, tiles filled up, once.
      vmem: bytes that it reads from and writes to arrays kept in VMEM, once.
      exchanged: bytes of what it exchanges with other devices, once.
      cycles: the compiler's own estimate, once; 0 where it makes none.
    """

    instruction: Instruction
    times: int
    flops: float = 0.0
    padded_flops: float = 0.0
    hbm: float = 0.0
    vmem: float = 0.0
    exchanged: float = 0.0
    cycles: float = 0.0

    def without_estimate(self) -> "Part":
        """The same, of a compiler whose estimate means nothing."""
        return dataclasses.replace(self, cycles=0.0)


def parts(text: str, lanes: int) -> list[Part]:
    """What each instruction of a scheduled program costs that does anything.

    Args:
      text: what `Compiled.as_text()` gives.
      lanes: the sides of the chip's matrix units.
    """
    program, entry = read(text)
    return list(_walk(program, entry, 1, lanes))


def read(text: str) -> tuple[dict[str, Computation], str]:
    """All computations by name, and the name of the one that runs."""
    program: dict[str, dict[str, Instruction]] = {}
    entry = ""
    current: dict[str, Instruction] = {}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = program.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif found := _INSTRUCTION.match(line):
            current[found[2]] = _instruction(found[2], found[3])
    return dict(program), entry


def _instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    given, text = text[:end], text[end:].lstrip()
    operation, _, text = text.partition("(")
    close = _closing("(" + text, 0) - 1
    inside, rest = text[:close], text[close + 1 :]
    called = tuple(
        name.strip().lstrip("%") for found in _CALLED.findall(rest) for name in found.split(",")
    )
    return Instruction(name, operation, arrays(given), inside, called, rest)


def _closing(text: str, start: int) -> int:
    """The place of the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise ValueError(f"a parenthesis that is not closed: {text[:80]}")


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type: one, or those of a tuple."""
    found = []
    for kind, sides, order, layout in _SHAPE.findall(text):
        numbers = tuple(map(int, sides.split(","))) if sides else ()
        inner = tuple(map(int, order.split(","))) if order else tuple(reversed(range(len(numbers))))
        tile = re.search(r"T\(([\d,]*)\)", layout)
        tiles = tuple(map(int, tile[1].split(","))) if tile and tile[1] else ()
        found.append(Array(kind, numbers, inner, tiles, "S(1)" in layout))
    return tuple(found)


def _walk(program: Mapping[str, Computation], name: str, times: int, lanes: int) -> Iterator[Part]:
    computation = program[name]
    for instruction in computation.values():
        operation = instruction.operation
        if operation in ("while", "conditional", "call", "async-start") and instruction.called:
            turns = _trips(instruction) if operation == "while" else 1
            for called in instruction.called:
                yield from _walk(program, called, times * turns, lanes)
        elif operation not in _FREE and not operation.endswith("-done"):
            yield _part(program, computation, instruction, times, lanes)


def _trips(instruction: Instruction) -> int:
    """How often a loop turns, where the compiler knows; else once."""
    found = re.search(r'known_trip_count":\{"n":"(\d+)"', instruction.rest)
    return int(found[1]) if found else 1


def _part(
    program: Mapping[str, Computation],
    computation: Computation,
    instruction: Instruction,
    times: int,
    lanes: int,
) -> Part:
    inner = [i for name in instruction.called for i in _all_of(program, name)]
    products = [p for p in (inner or [(computation, instruction)]) if p[1].operation in _PRODUCTS]
    counts = [_product(*product, lanes) for product in products]
    moved = list(_moved(program, computation, instruction))
    kind = instruction.operation.removesuffix("-start")
    return Part(
        instruction,
        times,
        flops=sum(plain for plain, _ in counts),
        padded_flops=sum(padded for _, padded in counts),
        hbm=sum(a.padded_bytes for a in moved if not a.in_vmem),
        vmem=sum(a.padded_bytes for a in moved if a.in_vmem),
        exchanged=sum(a.bytes for a in _results(instruction)) if kind in EXCHANGES else 0.0,
        cycles=instruction.cycles,
    )


def _all_of(
    program: Mapping[str, Computation], name: str
) -> Iterator[tuple[Computation, Instruction]]:
    """The instructions of a fused computation, and of those within it."""
    for instruction in program.get(name, {}).values():
        yield program[name], instruction
        for called in instruction.called if instruction.operation == "fusion" else ():
            yield from _all_of(program, called)


def _results(instruction: Instruction) -> tuple[Array, ...]:
    """What an instruction gives: what has been started holds what it takes and a flag, too."""
    found = instruction.arrays
    if instruction.operation in ("copy-start", "slice-start"):
        return found[:1] if instruction.operation == "copy-start" else found[-2:-1]
    if instruction.operation.endswith("-start") and len(found) > 1:
        return found[len(found) // 2 :] if len(found) % 2 == 0 else found[len(found) // 2 : -1]
    return found


def _moved(
    program: Mapping[str, Computation], computation: Computation, instruction: Instruction
) -> Iterator[Array]:
    """The arrays that an instruction reads and writes; of what it slices, the slice."""
    given = _results(instruction)
    if instruction.operation == "custom-call" and "ConcatBitcast" in instruction.rest:
        return  # its parts lie beside each other already
    yield from given
    taken = [computation[name].arrays for name in instruction.operands if name in computation]
    if instruction.operation in ("copy-start", "slice-start", "slice", "dynamic-slice"):
        source = taken[0][0]
        yield dataclasses.replace(given[0], in_vmem=source.in_vmem)
    elif instruction.operation == "fusion":
        inside = program.get(instruction.called[0], {})
        numbered = {int(i.inside): i for i in inside.values() if i.operation == "parameter"}
        for number, whole in enumerate(taken):
            yield from _read(inside, numbered[number].name, whole) if number in numbered else whole
    else:
        for whole in taken:
            yield from whole


def _read(inside: Computation, parameter: str, whole: tuple[Array, ...]) -> tuple[Array, ...]:
    """How much of a parameter a fused computation reads."""
    users = [i for i in inside.values() if parameter in i.operands]
    if users and all(user.operation in ("slice", "dynamic-slice") for user in users):
        return tuple(dataclasses.replace(u.arrays[0], in_vmem=whole[0].in_vmem) for u in users)
    return whole


def _product(computation: Computation, product: Instruction, lanes: int) -> tuple[float, float]:
    """Operations of a convolution or product: as they are, and as a matrix unit does them.

    The unit takes `lanes` x `lanes` numbers of the second operand at a time: what is contracted by
    what is given. Several taps of a convolution share them where a tap has few channels.
    """
    left, right = (computation[name].arrays[0] for name in product.operands[:2])
    out = product.arrays[0]
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", product.rest)
    if labels is None:
        depth, width = _depth_and_width(left, right, product.rest)
        plain = 2.0 * math.prod(out.sides) * depth
        return plain, plain * _filled(depth, lanes) * _filled(width, lanes)
    depth, width = (right.sides[labels[2].index(label)] for label in "io")
    plain = 2.0 * depth * math.prod(out.sides[labels[3].index(label)] for label in "bf")
    taps = 1
    for side in range(len(labels[1]) - 2):
        lengths = [
            array.sides[label.index(str(side))]
            for array, label in zip((left, right, out), labels.groups(), strict=True)
        ]
        taps *= lengths[1]
        plain *= _pairs(product.rest, side, *lengths)
    together = min(max(lanes // depth, 1), taps)
    passes = math.ceil(taps / together) * math.ceil(depth * together / lanes)
    return plain, plain * passes * lanes / (taps * depth) * _filled(width, lanes)


def _depth_and_width(left: Array, right: Array, rest: str) -> tuple[int, int]:
    """Of a product: how many numbers it sums, and how many columns the second operand has."""

    def sides(name: str, of: Array) -> int:
        found = re.search(name + r"=\{([\d,]+)\}", rest)
        return math.prod(of.sides[int(i)] for i in found[1].split(",")) if found else 1

    depth, batch = sides("lhs_contracting_dims", left), sides("rhs_batch_dims", right)
    return depth, math.prod(right.sides) // (depth * batch)


def _filled(length: int, lanes: int) -> float:
    return math.ceil(length / lanes) * lanes / max(length, 1)


def _pairs(rest: str, dimension: int, length: int, window: int, results: int) -> int:
    """Along one side of an image: pairs of a result and a tap that meets a pixel, not padding."""
    fields = dict(
        re.findall(r"(\w+)=([\dx_-]+)", (re.search(r"window=\{([^}]*)\}", rest) or ["", ""])[1])
    )

    def field(name: str, default: str) -> list[int]:
        given = fields.get(name)
        return list(map(int, (given.split("x")[dimension] if given else default).split("_")))

    (stride,), (dilation,), (spread,) = (
        field("stride", "1"),
        field("lhs_dilate", "1"),
        field("rhs_dilate", "1"),
    )
    before = field("pad", "0_0")[0]
    places = (o * stride + w * spread - before for o in range(results) for w in range(window))
    return sum(0 <= p <= (length - 1) * dilation and p % dilation == 0 for p in places)

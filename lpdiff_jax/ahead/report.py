"""What a program compiled for a slice costs each of its chips, beside what the chip can do."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lpdiff_jax.ahead import scheduled
from lpdiff_jax.ahead.programs import Program
from lpdiff_jax.parallel.topology import Chip, Topology

# How hard the compiler tries. 'quick' takes a tenth of the time: it looks neither for what could
# stay in VMEM nor for the best way through each instruction, so all traffic goes through HBM, and
# its estimates of time mean nothing.
EFFORTS: dict[str, dict[str, Any] | None] = {
    "full": None,
    "quick": {"exec_time_optimization_effort": -1.0},
}


Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Cost:
    """One compiled program: everything is of one chip and one run.

    Attributes:
      program: its name.
      per_device: examples on a chip.
      chips: the chips of the slice.
      compile_seconds: what the compiler took.
      arguments, temporary, outputs, code: bytes in HBM; outputs that take an argument's place do
        not count again.
      flops: operations of the program before it is optimised.
      xla_flops: those of the compiled program, as XLA counts them.
      padded_flops: those of its products, with channels filled up to the matrix units' sides.
      hbm: bytes read from and written to HBM, tiles filled up.
      vmem: bytes read from and written to arrays that are kept in VMEM.
      exchanges: by kind: how many there are, and the bytes that they hold.
      seconds: the least times that these mean, of products, of HBM and of exchanges; and the
        compiler's own estimate of all instructions one after the other, 0 where it made none.
      operations: (JAX operation, seconds by the compiler's estimate, bytes of HBM), dearest first.
    """

    program: str
    per_device: int
    chips: int
    compile_seconds: float
    arguments: int
    temporary: int
    outputs: int
    code: int
    flops: float
    xla_flops: float
    padded_flops: float
    hbm: float
    vmem: float
    exchanges: dict[str, tuple[int, float]]
    seconds: dict[str, float]
    operations: list[tuple[str, float, float]]

    @property
    def memory(self) -> int:
        """Bytes of HBM that it needs."""
        return self.arguments + self.temporary + self.outputs + self.code

    @property
    def roofline(self) -> float:
        """Seconds that it takes at least: products, memory and exchanges all at once."""
        return max(self.seconds[name] for name in ("products", "memory", "exchange"))

    def mfu(self, chip: Chip, seconds: float) -> float:
        """The share of the chip's peak that the program's own operations are in so many seconds."""
        return self.flops / chip.flops / seconds


def compile_and_cost(
    program: Program, topology: Topology, per_device: int, effort: str = "full"
) -> tuple[Cost, str]:
    """Compiles a program for a slice; returns what it costs, and the scheduled program's text.

    `effort` is one of `EFFORTS`.

    Raises:
      DoesNotFit: it needs more memory than the chips have.
    """
    lowered = program.lower()
    start = time.perf_counter()
    try:
        compiled = lowered.compile(compiler_options=EFFORTS[effort])
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise DoesNotFit(str(error)) from error
        raise
    seconds = time.perf_counter() - start
    text = compiled.as_text()
    parts = scheduled.parts(text, topology.chip.lanes)
    if effort != "full":
        parts = [part.without_estimate() for part in parts]
    return _cost(program, compiled, parts, topology, per_device, seconds), text


class DoesNotFit(Exception):
    """A program needs more memory than a chip has."""


def _cost(
    program: Program,
    compiled: Any,
    parts: Sequence[scheduled.Part],
    topology: Topology,
    per_device: int,
    compile_seconds: float,
) -> Cost:
    chip, chips = topology.chip, len(topology.devices)
    memory, analysis = compiled.memory_analysis(), compiled.cost_analysis() or {}
    total = lambda value: sum(part.times * value(part) for part in parts)  # noqa: E731
    exchanges = _exchanges(parts)
    seconds = {
        "products": total(lambda part: part.padded_flops) / chip.flops,
        "memory": total(lambda part: part.hbm) / chip.bandwidth,
        "exchange": exchange_seconds(exchanges, chips, chip),
        "compiler": total(lambda part: part.cycles) / chip.clock,
    }
    return Cost(
        program=program.name,
        per_device=per_device,
        chips=chips,
        compile_seconds=compile_seconds,
        arguments=memory.argument_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=program.flops() * per_device,
        xla_flops=float(analysis.get("flops", 0.0)),
        padded_flops=total(lambda part: part.padded_flops),
        hbm=total(lambda part: part.hbm),
        vmem=total(lambda part: part.vmem),
        exchanges=exchanges,
        seconds=seconds,
        operations=_operations(parts, chip),
    )


def _exchanges(parts: Sequence[scheduled.Part]) -> dict[str, tuple[int, float]]:
    found: dict[str, tuple[int, float]] = {}
    for part in parts:
        kind = part.instruction.operation.removesuffix("-start")
        if kind in scheduled.EXCHANGES:
            count, size = found.get(kind, (0, 0.0))
            found[kind] = (count + part.times, size + part.times * part.exchanged)
    return found


def exchange_seconds(exchanges: dict[str, tuple[int, float]], chips: int, chip: Chip) -> float:
    """The least time of exchanges in a ring: an all-reduce sends everything nearly twice."""
    passes = {"all-reduce": 2.0, "collective-permute": chips / max(chips - 1, 1)}
    sent = sum(size * passes.get(kind, 1.0) for kind, (_, size) in exchanges.items())
    return sent * (chips - 1) / chips / chip.link


def _operations(parts: Sequence[scheduled.Part], chip: Chip) -> list[tuple[str, float, float]]:
    """By JAX operation, the dearest first; what came from none is called by its instruction."""
    seconds: defaultdict[str, float] = defaultdict(float)
    traffic: defaultdict[str, float] = defaultdict(float)
    for part in parts:
        instruction = part.instruction
        name = instruction.source.rpartition("/")[2] or "-"
        kind = "product" if part.flops else instruction.operation
        seconds[f"{kind} ({name})"] += part.times * part.cycles / chip.clock
        traffic[f"{kind} ({name})"] += part.times * part.hbm
    return sorted(
        ((n, s, traffic[n]) for n, s in seconds.items()), key=lambda row: (-row[1], -row[2])
    )


def as_text(cost: Cost, topology: Topology, operations: int = 0) -> str:
    """A program's cost for a terminal."""
    chip = topology.chip
    share = lambda seconds: f"{cost.mfu(chip, seconds):.0%}" if seconds else "-"  # noqa: E731
    lines = [
        f"{cost.program}, {cost.per_device} examples on each of {cost.chips} chips "
        f"({topology.name}); compiled in {cost.compile_seconds:.0f} s",
        f"  memory    {cost.memory / 1e9:8.3f} GB of {chip.memory / 1e9:.1f}: arguments "
        f"{cost.arguments / 1e6:.1f} MB, temporary {cost.temporary / 1e6:.1f}, results "
        f"{cost.outputs / 1e6:.1f}, code {cost.code / 1e6:.1f}",
        f"  products  {cost.flops / 1e9:8.1f} GFLOP; XLA counts {cost.xla_flops / 1e9:.1f}; "
        f"filled up {cost.padded_flops / 1e9:.1f}: {cost.seconds['products'] * 1e3:.3f} ms",
        f"  HBM       {cost.hbm / 1e9:8.3f} GB: {cost.seconds['memory'] * 1e3:.3f} ms; in VMEM "
        f"{cost.vmem / 1e9:.3f} GB more",
        f"  exchanges {_said(cost.exchanges)}: {cost.seconds['exchange'] * 1e3:.3f} ms",
        f"  at least  {cost.roofline * 1e3:8.3f} ms: MFU at most {share(cost.roofline)}",
    ]
    if cost.seconds["compiler"]:
        lines.append(
            f"  compiler  {cost.seconds['compiler'] * 1e3:8.3f} ms, one instruction after the "
            f"other: MFU {share(cost.seconds['compiler'])}"
        )
    rows = cost.operations[:operations]
    lines += [f"    {s * 1e3:8.3f} ms {size / 1e6:9.1f} MB  {name}" for name, s, size in rows]
    return "\n".join(lines)


def _said(exchanges: dict[str, tuple[int, float]]) -> str:
    each = [f"{count} {kind} of {size / 1e6:.1f} MB" for kind, (count, size) in exchanges.items()]
    return ", ".join(each) or "none"


def largest(
    attempt: Callable[[int], Found | None], start: int, most: int = 1 << 16
) -> Found | None:
    """What the last of `start`, 2 x `start`, ... gives before one gives None; None if none does."""
    found = None
    while start <= most and (further := attempt(start)) is not None:
        found, start = further, 2 * start
    return found

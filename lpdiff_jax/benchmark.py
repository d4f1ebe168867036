"""How fast a model restores on this machine, and how fast the machine could be at most."""

import dataclasses
import functools
import importlib.util
import os
import platform
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.errors import UserError
from lpdiff_jax.methods import registry
from lpdiff_jax.methods.base import How
from lpdiff_jax.restoring.restorer import Restorer

FRAMES = 3


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of repeated calls, sorted."""

    seconds: tuple[float, ...]

    def quantile(self, share: float) -> float:
        """The time that `share` of the calls stay within."""
        return float(np.quantile(self.seconds, share))


@dataclasses.dataclass(frozen=True)
class Machine:
    """The limits of a machine, measured.

    Attributes:
      device: the name of the device.
      cores: the CPU cores that this process may use.
      matmul: GFLOP/s of a large matrix product, by dtype.
      bandwidth: GB/s read and written together by `x + y` on arrays beyond the caches.
    """

    device: str
    cores: int
    matmul: dict[str, float]
    bandwidth: float


@dataclasses.dataclass(frozen=True)
class Row:
    """One setting's speed.

    Attributes:
      batch: plates at a time.
      steps: steps of the sampler; 1 in a method that has none.
      dtype: the precision of the computation.
      p50, p95: milliseconds per batch, from frames to plates.
      plates_per_second: the plates of a batch over p50.
      estimate_ms: the part of it before anything is drawn (LP-Diff's psi).
      call_ms: the other part, per step.
      gflop: floating-point operations of the whole, as XLA counts them, in 1e9.
      share_of_peak: its speed as a share of the matrix product's in the same dtype; None where it
        came out above 1: other work slowed the measurement of the limit down.
      memory_mb: arguments and temporary arrays of the drawing, as compiled.
    """

    batch: int
    steps: int
    dtype: str
    p50: float
    p95: float
    plates_per_second: float
    estimate_ms: float
    call_ms: float
    gflop: float
    share_of_peak: float | None
    memory_mb: float


def load(source: str | Path | None, dtype: str | None = None) -> Restorer:
    """A model, or the untrained model of a configuration file (speed does not depend on weights).

    Args:
      source: what `Restorer.load` takes, or a configuration such as configs/compact.py or, with
        an argument, configs/baselines/hat.py:compact.
      dtype: the precision, as `Restorer.load` takes it.

    Raises:
      UserError: there is no such model or configuration.
    """
    path, _, argument = str(source or "").partition(".py:")
    if argument:
        path += ".py"
    if source is None or not path.endswith(".py"):
        return Restorer.load(source, dtype=dtype)
    config = _config_of(Path(path), argument)
    method = registry.build(config)
    init = functools.partial(method.init, networks=method.networks)
    shapes = jax.eval_shape(init, jax.random.key(0))
    generator = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: 0.02 * generator.standard_normal(x.shape, np.float32), shapes
    )
    restorer = Restorer(method, variables, config.get("sampler", {}))
    return restorer if dtype is None else restorer.in_precision(dtype)


def _config_of(path: Path, argument: str) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such configuration")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        return module.get_config(*[argument] if argument else [])
    except (TypeError, ValueError, LookupError) as error:
        raise UserError(f"{path}:{argument}: no such configuration ({error})") from error


def time_calls(call: Callable[[], Any], repeats: int, seconds: float = 30.0) -> Timing:
    """Times `call`, after one call that is not counted, up to `repeats` times or `seconds`."""
    jax.block_until_ready(call())
    taken: list[float] = []
    while len(taken) < repeats and sum(taken) < seconds:
        start = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - start)
    return Timing(tuple(sorted(taken)))


def measure_machine(dtypes: tuple[str, ...] = ("float32",)) -> Machine:
    """Measures the limits; the best of several runs counts, as a limit should."""
    on_cpu = jax.default_backend() == "cpu"
    side = 2048 if on_cpu else 8192
    matmul = {}
    for dtype in dtypes:
        a = jnp.ones((side, side), dtype)
        product = jax.jit(jnp.matmul)
        best = time_calls(lambda a=a, product=product: product(a, a), 15, 10).seconds[0]  # type: ignore[misc]
        matmul[dtype] = 2 * side**3 / best / 1e9
    x = jnp.ones((1 << 26,) if on_cpu else (1 << 28,), jnp.float32)
    total = jax.jit(lambda x, y: x + y)
    best = time_calls(lambda: total(x, x), 15, 10).seconds[0]
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return Machine(_device_name(), cores, matmul, 2 * x.nbytes / best / 1e9)


def _device_name() -> str:
    if jax.default_backend() != "cpu":
        return str(jax.local_devices()[0].device_kind)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.processor() or platform.machine()


def measure(
    restorer: Restorer, machine: Machine, batch: int, steps: int | None = None, repeats: int = 20
) -> Row:
    """Times the estimate, and the whole restoration, on random frames."""
    restorer = dataclasses.replace(restorer, max_batch=max(restorer.max_batch, batch))
    generator = np.random.default_rng(0)
    frames = generator.uniform(-1, 1, (batch, FRAMES, *restorer.image_size, 3)).astype(np.float32)
    how = restorer.method.choose(restorer.defaults, steps=steps)
    count = step_count(how)
    whole = time_calls(lambda: restorer.restore(frames, steps=steps), repeats)
    known = time_calls(lambda: restorer.estimate(frames), repeats).quantile(0.5)
    p50, dtype = whole.quantile(0.5), jnp.dtype(restorer.method.dtype).name
    gflop = operations(restorer, batch, steps) / 1e9
    return Row(
        batch=batch,
        steps=count,
        dtype=dtype,
        p50=1e3 * p50,
        p95=1e3 * whole.quantile(0.95),
        plates_per_second=batch / p50,
        estimate_ms=1e3 * known,
        call_ms=1e3 * max(p50 - known, 0.0) / count,
        gflop=gflop,
        share_of_peak=_share(gflop / p50, machine.matmul[dtype]),
        memory_mb=draw_memory(restorer, batch, how) / 1e6,
    )


def _share(speed: float, limit: float) -> float | None:
    """A share of the limit; no machine reaches more than all of it."""
    return speed / limit if speed <= limit else None


def step_count(how: How) -> int:
    """The steps of a sampler; 1 where there is none."""
    return int(getattr(how, "steps", 1))


def operations(restorer: Restorer, batch: int, steps: int | None = None) -> float:
    """Floating-point operations of restoring a batch: the estimate, and every step behind it."""
    shape = jax.ShapeDtypeStruct
    frames = shape((batch, FRAMES, *restorer.image_size, 3), jnp.float32)
    estimate = jax.jit(restorer.method.estimate).lower(restorer.variables, frames)
    count = step_count(restorer.method.choose(restorer.defaults, steps=steps))
    # XLA counts a loop's body once, however often it runs.
    one = None if count == 1 else 1
    step = restorer.lowered_draw(batch, restorer.method.choose(restorer.defaults, steps=one))
    return _flops(estimate) + count * _flops(step)


def _flops(lowered: Any) -> float:
    analysis: Any = lowered.cost_analysis()
    return float((analysis or {}).get("flops", 0.0))


def draw_memory(restorer: Restorer, batch: int, how: How) -> int:
    """Bytes of arguments, results and temporary arrays of the compiled drawing."""
    analysis: Any = restorer.lowered_draw(batch, how).compile().memory_analysis()
    return int(
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
    )


def profile(restorer: Restorer, batch: int, steps: int | None = None) -> list[tuple[str, float]]:
    """Where the drawing's time goes: (operation, share of the time), the largest first."""
    estimate = restorer.estimate(np.zeros((batch, 1, *restorer.image_size, 3), np.float32))
    run = lambda: jax.block_until_ready(restorer.draw(estimate, steps=steps))  # noqa: E731
    run()
    how = restorer.method.choose(restorer.defaults, steps=steps)
    kinds = _kinds(restorer.lowered_draw(batch, how).compile().as_text())
    nanoseconds: defaultdict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        for trace in Path(folder).rglob("*.xplane.pb"):
            for name, duration in _events(trace):
                if name in kinds:
                    nanoseconds[kinds[name]] += duration
    total = sum(nanoseconds.values())
    shares = [(kind, value / total) for kind, value in nanoseconds.items()]
    return sorted(shares, key=lambda share: -share[1])


def _kinds(program: str) -> dict[str, str]:
    """The JAX operation behind each instruction of a compiled program; loops are left out."""
    found = re.findall(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*)$", program, re.MULTILINE)
    kinds = {}
    for name, rest in found:
        path = re.search(r"metadata={op_name=\"([^\"]+)\"", rest)
        if not name.startswith("while"):
            kinds[name] = path[1].rpartition("/")[2] if path else "other"
    return kinds


def _events(trace: Path) -> Iterator[tuple[str, float]]:
    """(name, nanoseconds) of each event of a trace."""
    for plane in jax.profiler.ProfileData.from_file(str(trace)).planes:
        for line in plane.lines:
            for event in line.events:
                yield event.name, event.duration_ns


def as_text(machine: Machine, rows: Sequence[Row], shares: Sequence[tuple[str, float]]) -> str:
    """The result for a terminal."""
    peaks = ", ".join(f"{value:.0f} GFLOP/s in {name}" for name, value in machine.matmul.items())
    lines = [
        f"{machine.device}, {machine.cores} cores: matrix product {peaks}; "
        f"memory {machine.bandwidth:.1f} GB/s",
        "batch  steps  plates/s   p50 ms   p95 ms  estimate ms  step ms    GFLOP  of peak     MB",
    ]
    lines += [
        f"{r.batch:5}  {r.steps:5}  {r.plates_per_second:8.2f} {r.p50:8.1f} {r.p95:8.1f}     "
        f"{r.estimate_ms:8.1f} {r.call_ms:8.2f} {r.gflop:8.2f}  {_percent(r.share_of_peak):>7}  "
        f"{r.memory_mb:5.0f}"
        for r in rows
    ]
    if any(r.share_of_peak is None for r in rows):
        lines.append(
            "busy: the share came out above 100 %, as other work slowed the measurement of the "
            "limit down; measure again on an idle machine"
        )
    if shares:
        lines.append("time by operation: " + ", ".join(f"{k} {v:.1%}" for k, v in shares[:8]))
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "busy" if share is None else f"{share:.1%}"

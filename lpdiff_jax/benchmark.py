"""How fast a model restores on this machine, and how fast the machine could be at most."""

import dataclasses
import importlib.util
import os
import platform
import re
import sys
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
from lpdiff_jax.methods.lpdiff.model import build_model
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
      device: its name.
      cores: CPU cores of this process.
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
      steps: denoiser calls.
      dtype: precision of the computation.
      p50, p95: milliseconds a batch, from frames to plates.
      plates_per_second: batch / p50.
      psi_ms: of which psi takes so much.
      call_ms: one denoiser call within the sampler: what is left, divided by steps.
      call_gflop: floating-point operations of a call, as XLA counts them.
      share_of_peak: what a call reaches of the matrix product's speed in its dtype.
      memory_mb: arguments and temporary arrays of the sampler, as compiled.
    """

    batch: int
    steps: int
    dtype: str
    p50: float
    p95: float
    plates_per_second: float
    psi_ms: float
    call_ms: float
    call_gflop: float
    share_of_peak: float
    memory_mb: float


def load(source: str, dtype: str | None = None) -> Restorer:
    """A model, or the untrained model of a configuration file (speed does not depend on weights).

    Args:
      source: what `Restorer.load` takes, or a configuration such as configs/compact.py.
      dtype: see `Restorer.load`.

    Raises:
      UserError: there is no such model or configuration.
    """
    path = Path(source)
    if path.suffix != ".py":
        return Restorer.load(path, dtype=dtype)
    config = _config_of(path)
    model = build_model(config.model.to_dict())
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    generator = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: 0.02 * generator.standard_normal(x.shape, np.float32), shapes
    )
    return Restorer(model, variables, config.sampler.to_dict(), dtype=dtype)


def _config_of(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such configuration")
    root = str(path.resolve().parent.parent)
    if root not in sys.path:
        sys.path.insert(0, root)  # configurations build on each other: `from configs import ...`
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


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
    """Times psi, and psi with sampling, on random frames."""
    restorer.max_batch = max(restorer.max_batch, batch)
    generator = np.random.default_rng(0)
    frames = generator.uniform(-1, 1, (batch, FRAMES, *restorer.image_size, 3)).astype(np.float32)
    steps = steps or restorer.sampler.steps
    whole = time_calls(lambda: restorer.restore(frames, steps=steps), repeats)
    psi_seconds = time_calls(lambda: restorer.condition(frames), repeats).quantile(0.5)
    p50 = whole.quantile(0.5)
    call = max(p50 - psi_seconds, 0.0) / steps
    dtype = str(restorer.model.denoiser.dtype)
    gflop = denoiser_gflop(restorer, batch)
    return Row(
        batch=batch,
        steps=steps,
        dtype=dtype,
        p50=1e3 * p50,
        p95=1e3 * whole.quantile(0.95),
        plates_per_second=batch / p50,
        psi_ms=1e3 * psi_seconds,
        call_ms=1e3 * call,
        call_gflop=gflop,
        share_of_peak=gflop / call / machine.matmul[dtype],
        memory_mb=sampler_memory(restorer, batch, steps) / 1e6,
    )


def denoiser_gflop(restorer: Restorer, batch: int) -> float:
    """Floating-point operations of one denoiser call, in 1e9."""
    image = jax.ShapeDtypeStruct((batch, *restorer.image_size, 3), jnp.float32)
    guide = jax.ShapeDtypeStruct((*image.shape[:3], restorer.guide_channels), jnp.float32)
    level = jax.ShapeDtypeStruct((batch,), jnp.float32)
    lowered = jax.jit(restorer.model.predict_noise).lower(restorer.variables, guide, image, level)
    analysis: Any = lowered.cost_analysis()
    return float(analysis["flops"]) / 1e9


def sampler_memory(restorer: Restorer, batch: int, steps: int) -> int:
    """Bytes of arguments, results and temporary arrays of the compiled sampler."""
    analysis: Any = restorer.compiled_sampler(batch, steps).memory_analysis()
    return int(
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
    )


def profile(restorer: Restorer, batch: int, steps: int | None = None) -> list[tuple[str, float]]:
    """Where the sampler's time goes: (operation, share of the time), the largest first."""
    guide = np.zeros((batch, *restorer.image_size, restorer.guide_channels), np.float32)
    run = lambda: jax.block_until_ready(restorer.sample(guide, steps=steps))  # noqa: E731
    run()
    kinds = _kinds(restorer.compiled_sampler(batch, steps).as_text())
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
        "batch  steps  plates/s   p50 ms   p95 ms   psi ms  call ms  GFLOP/call  of peak     MB",
    ]
    lines += [
        f"{r.batch:5}  {r.steps:5}  {r.plates_per_second:8.2f} {r.p50:8.1f} {r.p95:8.1f} "
        f"{r.psi_ms:8.1f} {r.call_ms:8.2f}  {r.call_gflop:10.2f}  {r.share_of_peak:7.1%}  "
        f"{r.memory_mb:5.0f}"
        for r in rows
    ]
    if shares:
        lines.append("time by operation: " + ", ".join(f"{k} {v:.1%}" for k, v in shares[:8]))
    return "\n".join(lines)

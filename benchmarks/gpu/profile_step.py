"""Part (c) of the GPU kit: where a training step's time goes, kernel by kernel.

    python -m benchmarks.gpu.profile_step FOLDER SECONDS [--rehearse]

Traces three steps of the denoiser in bfloat16, of the paper's size at batch 32, and writes the
dearest kernels with their share of all kernels' time.
"""

import importlib
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.gpu import speed
from benchmarks.gpu.results import Results, arguments

_ROWS = 25


def main() -> None:
    """Profiles one step."""
    args = arguments(__doc__)
    network, batch = ("quickstart", 2) if args.rehearse else ("lpdiff", 32)
    case = speed.Case(network, "denoiser_step", "bfloat16", batch)
    config = importlib.import_module(f"configs.{network}").get_config()
    config.model.dtype = "bfloat16"
    lowered, _ = speed.lower(case, config)
    compiled = lowered.compile()
    results = Results(args.folder, "profile", args.seconds)
    for name, milliseconds, share in kernels(compiled, lowered):
        results.add(kernel=name, ms=milliseconds, share=share)


def kernels(compiled: Any, lowered: Any, steps: int = 3) -> list[tuple[str, float, float]]:
    """(kernel, milliseconds of a step, share of the time), the dearest first."""
    nanoseconds: defaultdict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        state, *others = speed.made_up(lowered)
        state, _ = jax.block_until_ready(compiled(state, *others))
        with jax.profiler.trace(folder):
            for _ in range(steps):
                state, _ = jax.block_until_ready(compiled(state, *others))
        for trace in Path(folder).rglob("*.xplane.pb"):
            for name, duration in _events(trace):
                nanoseconds[name] += duration
    total = sum(nanoseconds.values()) or 1.0
    dearest = sorted(nanoseconds.items(), key=lambda item: -item[1])[:_ROWS]
    return [(name, ns / steps / 1e6, ns / total) for name, ns in dearest]


def _events(trace: Path) -> Iterator[tuple[str, float]]:
    """(kernel, nanoseconds) of each; a CPU, which has no kernels, gives all of its events."""
    planes = list(jax.profiler.ProfileData.from_file(str(trace)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    for plane in devices or planes:
        for line in plane.lines:
            # A device's plane has lines of modules and operations, too, which hold the same time.
            if not devices or line.name.startswith("Stream"):
                for event in line.events:
                    yield event.name, event.duration_ns


if __name__ == "__main__":
    main()

"""Compiles a configuration's programs for a TPU slice that is not here: `lpdiff compile`.

    lpdiff compile --config compact --topology v5e:2x4 --per-device 32 --config.model.dtype=bfloat16

Says, per chip, whether they fit and how fast they could be. It needs libtpu (pip install
'lpdiff-jax[tpu]') and no TPU. `--effort quick` compiles ten times faster, by a compiler that keeps
nothing in the chip's own memory: operations, exchanges and memory are right, and bytes of HBM are
an upper bound.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from lpdiff_jax import compilation
from lpdiff_jax.cli import scripts

HELP = "compile for a TPU slice that is not here: what fits on it, and how fast it could be"


def main(argv: Sequence[str]) -> None:
    """Parses the flags, compiles and prints; exits as `scripts.run` says."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # what is compiled for is not here
    os.environ[compilation.VARIABLE] = "off"  # nor could its programs be read back from the cache
    scripts.define_config_flag()
    flags.DEFINE_list("topology", ["v5e:2x4"], "Slices: v5e:2x4, v5p:2x2x1, v6e:16x16, ...")
    flags.DEFINE_integer("per-device", 0, "Examples on each chip; 0: those of the configuration")
    flags.DEFINE_list("programs", [], "Stages, estimate, denoiser, sampler; none named: all")
    flags.DEFINE_enum("effort", "full", ["full", "quick"], "How hard the compiler tries")
    flags.DEFINE_bool("largest", False, "Look for the most examples that fit on a chip")
    flags.DEFINE_integer("operations", 0, "How many of the dearest operations to name")
    flags.DEFINE_bool("json", False, "Print the results as JSON, a line each")
    flags.DEFINE_string("text", None, "A folder that gets the compiled programs' text")
    scripts.run_with_config(_compile, argv)


def _compile(config: ConfigDict) -> None:
    """Compiles for every slice and prints what comes out, one program after the other."""
    from lpdiff_jax.errors import UserError
    from lpdiff_jax.parallel.topology import describe

    if _per_device() < 0:
        raise UserError("--per-device must be at least 1, or 0 for the configuration's batch")
    for name in flags.FLAGS.topology:
        topology = describe(name)
        for program, size in _wanted(config, topology):
            _report(config, topology, program, size)


def _per_device() -> int:
    return int(flags.FLAGS["per-device"].value or 0)


def _wanted(config: ConfigDict, topology: Any) -> Iterator[tuple[str, int]]:
    """The programs' names, with the examples on each chip."""
    from lpdiff_jax.ahead.programs import names_of

    for name in names_of(config, flags.FLAGS.programs):
        section = config[name] if name in config.stages else config[config.stages[-1]]
        size = _per_device() or section.batch_size // len(topology.devices)
        yield name, max(size, 1)


def _report(config: ConfigDict, topology: Any, name: str, size: int) -> None:
    import dataclasses
    import json

    from lpdiff_jax.ahead import report
    from lpdiff_jax.errors import UserError

    attempt = functools.partial(_attempt, config, topology, name)
    found = report.largest(attempt, size) if flags.FLAGS.largest else attempt(size)
    if found is None:
        raise UserError(f"{name}: {size} examples do not fit on a chip of {topology.name}")
    cost, text = found
    if flags.FLAGS.text:
        place = f"{name}-{topology.name.replace(':', '-')}-{cost.per_device}.txt"
        _keep(Path(flags.FLAGS.text), place, text)
    if flags.FLAGS.json:
        print(json.dumps({"topology": topology.name} | dataclasses.asdict(cost)), flush=True)
    else:
        print(report.as_text(cost, topology, flags.FLAGS.operations), flush=True)


def _attempt(config: ConfigDict, topology: Any, name: str, size: int) -> tuple[Any, str] | None:
    """What a program costs, and its text; None if it does not fit."""
    from lpdiff_jax.ahead import programs, report
    from lpdiff_jax.parallel.devices import Parallel

    parallel = Parallel(config.parallel, topology.devices)
    program = programs.program(name, config, parallel, size)
    try:
        cost, text = report.compile_and_cost(program, topology, size, flags.FLAGS.effort)
    except report.DoesNotFit:
        return None
    return (cost, text) if cost.memory <= topology.chip.memory else None


def _keep(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)

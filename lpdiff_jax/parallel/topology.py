"""TPU slices that are not here: their devices, to compile for, and their chips' limits.

libtpu holds the compiler of every TPU and needs none to be present:

    pip install 'lpdiff-jax[tpu]'
"""

import dataclasses
import importlib.util
import os
import re
from typing import Any

from lpdiff_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip's limits, as its maker states them (Google Cloud's pages on each TPU version).

    Attributes:
      flops: FLOP/s of products of bfloat16; float32 operands are rounded to it by default.
      memory: bytes of HBM.
      bandwidth: bytes/s of HBM.
      link: bytes/s that it sends and receives over all of its links together.
      lanes: rows and columns of a matrix unit.
      clock: cycles/s: `flops` over what its matrix units do in a cycle.
    """

    flops: float
    memory: float
    bandwidth: float
    link: float
    lanes: int
    clock: float


_GIB = float(1 << 30)
CHIPS = {
    "v5e": Chip(197e12, 16 * _GIB, 819e9, 200e9, 128, 1.5e9),
    "v5p": Chip(459e12, 95 * _GIB, 2765e9, 600e9, 128, 1.75e9),
    "v6e": Chip(918e12, 32 * _GIB, 1640e9, 448e9, 256, 1.75e9),
}


# libtpu would ask the network which TPU this machine is, and let one process at a time load it.
_ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of a pod.

    Attributes:
      name: as it was asked for: 'v5e:2x4'.
      chip: the limits of each of its chips.
      devices: what JAX compiles for; nothing can be run on them.
    """

    name: str
    chip: Chip
    devices: tuple[Any, ...]


def describe(name: str) -> Topology:
    """The slice of a name such as 'v5e:2x4', 'v5p:2x2x1', 'v6e:16x16'.

    Raises:
      UserError: there is no such slice, or libtpu is not installed.
    """
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise UserError(
            f"--topology {name}: give a chip ({', '.join(CHIPS)}) and the sides of a slice, "
            "such as v5e:2x4 or v5p:2x2x1"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("a TPU's compiler is not installed: pip install 'lpdiff-jax[tpu]'")
    for variable, value in _ALONE.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except Exception as error:  # whatever the compiler says of a shape
        raise UserError(f"--topology {name}: no such slice ({str(error)[:200]})") from error
    return Topology(name, CHIPS[kind], tuple(found.devices))

"""SRCNN's checkpoints: `conv1`, `conv2`, `conv3`, nothing else."""

from typing import Any

from lpdiff_jax.errors import UserError
from lpdiff_jax.models.baselines.srcnn import SRCNN
from lpdiff_jax.pytorch.baselines import mapping

NAMES = mapping.Names(mapping.simple_names([(r"(conv\d)", r"\1")]))


def recognise(state: mapping.StateDict) -> bool:
    """Whether the state dict has SRCNN's layers and no others."""
    return {name.partition(".")[0] for name in state} == {"conv1", "conv2", "conv3"}


def infer(state: mapping.StateDict, source: str) -> dict[str, Any]:
    """The arguments of `SRCNN` that a state dict describes.

    Raises:
      UserError: kernels that no such network has.
    """
    shapes = [mapping.shape_of(state, f"conv{i}.weight", source, 4) for i in (1, 2, 3)]
    kernels = tuple(shape[2] for shape in shapes)
    if any(shape[2] != shape[3] or shape[2] % 2 == 0 for shape in shapes):
        raise UserError(f"{source}: kernels {[s[2:] for s in shapes]} are not squares of odd sides")
    first, second, last = (shape[0] for shape in shapes)
    return {"features": (first, second), "kernels": kernels, "out_channels": last}


def load(state: mapping.StateDict, source: str) -> tuple[SRCNN, mapping.Variables]:
    """The network and its variables.

    Raises:
      UserError: as `infer` and `mapping.load`.
    """
    network = SRCNN(**infer(state, source))
    channels = mapping.shape_of(state, "conv1.weight", source, 4)[1]
    x = mapping.image(16, 16, channels)
    return network, mapping.load(state, network, NAMES, x, source=source)

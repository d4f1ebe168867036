"""Real-ESRGAN's checkpoints: dense blocks `body.n.rdbk.convi`; the discriminator apart."""

from typing import Any

from lpdiff_jax.errors import UserError
from lpdiff_jax.models.baselines.discriminator import UNetDiscriminator
from lpdiff_jax.models.baselines.rrdb import RRDBNet
from lpdiff_jax.pytorch.baselines import mapping

NAMES = mapping.Names(
    mapping.simple_names(
        [
            (r"body_(\d+)/dense_(\d)/(conv\d)", r"body.\1.rdb\2.\3"),
            (r"(conv_\w+)", r"\1"),
        ]
    )
)


def _discriminator_name(path: mapping.Path) -> str:
    _, module, leaf = path
    if module in ("conv0", "conv9"):
        return f"{module}.{mapping.LEAVES[leaf]}"
    return f"{module}.weight_{'orig' if leaf == 'kernel' else leaf}"


DISCRIMINATOR_NAMES = mapping.Names(_discriminator_name)


def recognise(state: mapping.StateDict) -> bool:
    """Whether the state dict has the generator's dense blocks."""
    return any(name.startswith("body.0.rdb1.") for name in state)


def recognise_discriminator(state: mapping.StateDict) -> bool:
    """Whether the state dict is of the discriminator."""
    return "conv9.weight" in state and "conv1.weight_orig" in state


def infer(state: mapping.StateDict, source: str) -> dict[str, Any]:
    """The arguments of `RRDBNet` that a state dict describes.

    The scale follows from the channels that the first convolution sees: three for 4, twelve for 2,
    48 for 1 (of one image; several stacked would be told as the smaller scale).

    Raises:
      UserError: what says the network's shape is missing or does not fit.
    """
    features, channels = mapping.shape_of(state, "conv_first.weight", source, 4)[:2]
    scales = {3: 4, 12: 2, 48: 1}
    if channels not in scales:
        raise UserError(
            f"{source}: conv_first sees {channels} channels; known are 3 (scale 4), 12 (2), 48 (1)"
        )
    return {
        "features": features,
        "blocks": len(mapping.numbers(state, r"body\.(\d+)\..*")),
        "growth": mapping.shape_of(state, "body.0.rdb1.conv1.weight", source, 4)[0],
        "scale": scales[channels],
        "out_channels": mapping.shape_of(state, "conv_last.weight", source, 4)[0],
    }


def load(state: mapping.StateDict, source: str) -> tuple[RRDBNet, mapping.Variables]:
    """The generator and its variables.

    Raises:
      UserError: as `infer` and `mapping.load`.
    """
    network = RRDBNet(**infer(state, source))
    return network, mapping.load(state, network, NAMES, mapping.image(16, 16), source=source)


def load_discriminator(
    state: mapping.StateDict, source: str
) -> tuple[UNetDiscriminator, mapping.Variables]:
    """The discriminator and its variables, singular vectors included.

    Raises:
      UserError: as `mapping.load`.
    """
    network = UNetDiscriminator(mapping.shape_of(state, "conv0.weight", source, 4)[0])
    x = mapping.image(16, 16)
    return network, mapping.load(state, network, DISCRIMINATOR_NAMES, x, source=source)

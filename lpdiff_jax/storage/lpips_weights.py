"""The fetched weights of LPIPS, as parameters of `models.lpips.Lpips`."""

from pathlib import Path
from typing import Any

from lpdiff_jax.errors import UserError
from lpdiff_jax.storage import weights
from lpdiff_jax.storage.numpy_pickle import read_numpy_pickle

_FILES = {
    "alex": (weights.LPIPS_ALEX, "AlexNet_0"),
    "vgg": (weights.LPIPS_VGG, "VGG16_0"),
}


def read_lpips(network: str, directory: Path | None = None) -> dict[str, Any]:
    """The parameters: the 'backbone', 'alex' or 'vgg', and its five heads.

    Args:
      network: the backbone, 'alex' or 'vgg'.
      directory: where the weights are; None is where `lpdiff fetch-weights` puts them.

    Raises:
      UserError: the weights are missing, or not what they should be.
    """
    file, backbone = _FILES[network]
    path = weights.locate(file, directory)
    tree = read_numpy_pickle(path)
    try:
        heads = {f"head_{i}": tree[f"NetLinLayer_{i}"]["Conv_0"] for i in range(5)}
        return {"backbone": tree[backbone], **heads}
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not the weights of LPIPS: {error} is not in it") from error

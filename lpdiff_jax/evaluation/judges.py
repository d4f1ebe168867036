"""What judges the images: figures of a pair of images, features of one, and the reader."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.image_metrics import psnr, ssim
from lpdiff_jax.evaluation.inception import load_inception
from lpdiff_jax.evaluation.lpips import load_lpips
from lpdiff_jax.evaluation.reading import Reader, load_reader

# (images, targets), uint8 [B, H, W, 3] each -> one figure an image [B].
Figure = Callable[[np.ndarray, np.ndarray], np.ndarray]
# uint8 [B, H, W, 3] -> features [B, D].
Features = Callable[[np.ndarray], np.ndarray]
T = TypeVar("T")

MAX_PSNR = 100.0
READER, LPIPS_ALEX, LPIPS_VGG, FID = NAMES = ("reader", "lpips-alex", "lpips-vgg", "fid")
# What the published table has.
PUBLISHED = (READER, LPIPS_ALEX, FID)


def _capped_psnr(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """PSNR, 100 dB at most: equal images have an infinite one, which no mean survives."""
    return np.minimum(psnr(images, targets), MAX_PSNR)


BASIC: Mapping[str, Figure] = {"psnr": _capped_psnr, "ssim": ssim}


@dataclass(frozen=True)
class Judges:
    """The judges of one evaluation.

    Attributes:
      reader: reads the plates; None: no NED and ACC.
      figures: by name, see `summary.FIGURES`.
      features: of FID and KID; None: neither.
      missing: for each judge that was asked for and is not there, what to do about it.
    """

    reader: Reader | None = None
    figures: Mapping[str, Figure] = field(default_factory=lambda: BASIC)
    features: Features | None = None
    missing: tuple[str, ...] = ()


def load_judges(
    wanted: Sequence[str] = PUBLISHED, weights_dir: Path | None = None, reader: Reader | None = None
) -> Judges:
    """Loads judges; one whose weights are not there is left out, and named in `missing`.

    Args:
      wanted: of `NAMES`; PSNR and SSIM are always there.
      weights_dir: where `lpdiff fetch-weights` put its files; default: the user's cache.
      reader: used in place of the default reader.

    Raises:
      UserError: there is no such judge.
    """
    if unknown := set(wanted) - set(NAMES):
        raise UserError(f"no such judge: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    missing: list[str] = []

    def load(name: str, loader: Callable[[], T]) -> T | None:
        if name not in wanted:
            return None
        try:
            return loader()
        except UserError as error:
            missing.append(str(error))
            return None

    networks = {
        "lpips_alex": load(LPIPS_ALEX, lambda: load_lpips("alex", weights_dir)),
        "lpips_vgg": load(LPIPS_VGG, lambda: load_lpips("vgg", weights_dir)),
    }
    return Judges(
        reader=reader or load(READER, lambda: load_reader(weights_dir)),
        figures=dict(BASIC) | {name: net for name, net in networks.items() if net is not None},
        features=load(FID, lambda: load_inception(weights_dir)),
        missing=tuple(missing),
    )

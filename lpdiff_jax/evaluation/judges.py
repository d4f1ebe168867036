"""What judges the images: figures of a pair of images, features of one, and the reader."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.metrics.image_metrics import psnr, ssim
from lpdiff_jax.evaluation.metrics.inception import load_inception
from lpdiff_jax.evaluation.metrics.lpips import load_lpips
from lpdiff_jax.evaluation.reading.ctc_reader import load_onnx_reader, load_reader
from lpdiff_jax.evaluation.reading.readers import Reader

# (images, targets), uint8 [B, H, W, 3] each -> one figure per image [B].
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
      reader: what reads the plates; with None there are no NED and ACC.
      figures: the image metrics by name, see `summary.FIGURES`.
      features: the network of FID and KID; with None there are no FID and KID.
      missing: what to do about each judge that was asked for and is not there.
    """

    reader: Reader | None = None
    figures: Mapping[str, Figure] = field(default_factory=lambda: BASIC)
    features: Features | None = None
    missing: tuple[str, ...] = ()


def load_judges(
    wanted: Collection[str] = PUBLISHED,
    weights_dir: Path | None = None,
    open_reader: Callable[[], Reader] | None = None,
) -> Judges:
    """Loads judges; one whose weights are not there is left out, and named in `missing`.

    Args:
      wanted: names of `NAMES`; PSNR and SSIM are always there.
      weights_dir: where `lpdiff fetch-weights` put its files; None means the user's cache.
      open_reader: a function that makes another reader than the default one.

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
        reader=load(READER, open_reader or (lambda: load_reader(weights_dir))),
        figures=dict(BASIC) | {name: net for name, net in networks.items() if net is not None},
        features=load(FID, lambda: load_inception(weights_dir)),
        missing=tuple(missing),
    )


def choose_judges(
    wanted: Collection[str],
    weights_dir: str | None = None,
    model: str | None = None,
    charset: str | None = None,
    masked: bool = True,
) -> Judges:
    """The judges that a command line asks for.

    Args:
      wanted: names of `NAMES`.
      weights_dir: where the weights are, see `load_judges`.
      model: an ONNX file to read with in place of the default reader; needs `charset`.
      charset: the charset of that model, see `ctc_reader.load_onnx_reader`.
      masked: whether the default reader is masked, see `ctc_reader.load_reader`.

    Raises:
      UserError: the user's own reader cannot be used, or there is no such judge.
    """
    directory = Path(weights_dir) if weights_dir else None
    if model is None:
        return load_judges(wanted, directory, lambda: load_reader(directory, masked))
    if charset is None:
        raise UserError(f"{model}: give its characters too, as --charset FILE")
    reader = load_onnx_reader(Path(model), Path(charset))
    return load_judges({*wanted, READER}, directory, lambda: reader)

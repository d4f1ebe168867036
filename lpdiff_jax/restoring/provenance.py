"""What is needed to repeat a restoration: model, versions, date, and the settings."""

import datetime
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lpdiff_jax import __version__
from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.restorer import Restorer

_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "opencv-python-headless", "pillow")
_EPOCH = "SOURCE_DATE_EPOCH"


def identify_model(source: str | Path | None, restorer: Restorer) -> dict[str, Any]:
    """A model's name, and the SHA-256 of its file of weights, or of its parameters in memory."""
    # What comes with the package has the name of no folder.
    name = "packaged" if source is None else Path(source).resolve().name
    path = Path(__file__).parents[1] / "pretrained" if source is None else Path(source)
    weights = path / "weights.safetensors" if path.is_dir() else path
    if weights.is_file():
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"name": name, "sha256": digest, "of": weights.name}
    return {"name": name, "sha256": digest_of(restorer), "of": "parameters"}


def digest_of(restorer: Restorer) -> str:
    """SHA-256 over the parameters, in the order of their names."""
    total = hashlib.sha256()
    for place, value in jax.tree_util.tree_leaves_with_path(restorer.variables):
        array = np.asarray(value)
        total.update(f"{jax.tree_util.keystr(place)} {array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def versions() -> dict[str, str]:
    """Versions of this package and of what computes."""
    found = {"lpdiff-jax": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {"device": jax.devices()[0].device_kind}


def date() -> str:
    """Now, in UTC; or the moment of `SOURCE_DATE_EPOCH`, with which equal runs give equal bytes."""
    given = os.environ.get(_EPOCH)
    if given is None:
        moment = datetime.datetime.now(datetime.UTC)
    else:
        try:
            moment = datetime.datetime.fromtimestamp(int(given), datetime.UTC)
        except (ValueError, OverflowError, OSError):
            raise UserError(f"{_EPOCH} is {given!r}; seconds since 1970 are wanted") from None
    return moment.isoformat(timespec="seconds")


def is_repeatable() -> bool:
    """Whether equal bytes are wanted: then durations are left out as well."""
    return _EPOCH in os.environ

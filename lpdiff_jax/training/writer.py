"""TensorBoard events with clu's method names, and without its TensorFlow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorboardX


class Writer:
    """Writes event files; with no directory (any process but the first) it writes nothing."""

    def __init__(self, directory: Path | None):
        self._writer = None if directory is None else tensorboardX.SummaryWriter(str(directory))

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Numbers by name."""
        if self._writer:
            for name, value in scalars.items():
                self._writer.add_scalar(name, float(value), step)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """uint8 images [H, W, 3] by name."""
        if self._writer:
            for name, image in images.items():
                self._writer.add_image(name, image, step, dataformats="HWC")

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Markdown by name."""
        if self._writer:
            for name, text in texts.items():
                self._writer.add_text(name, text, step)

    def flush(self) -> None:
        """Makes what was written visible to readers."""
        if self._writer:
            self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        if self._writer:
            self._writer.close()

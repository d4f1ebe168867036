"""TensorBoard events by clu's interface: clu's own where TensorFlow is installed, or ours."""

import contextlib
import importlib.util
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event

from lpdiff_jax.errors import UserError


class Writer(Protocol):
    """What the loop needs of `clu.metric_writers.MetricWriter`."""

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Numbers by name."""

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """uint8 images [N, H, W, 3] by name."""

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Markdown by name."""

    def flush(self) -> None:
        """Makes what was written visible to readers."""

    def close(self) -> None:
        """Flushes and closes the file."""


def event_writer(directory: Path) -> Writer:
    """TensorBoard's writer into a directory: clu's where TensorFlow is installed, or ours."""
    if all(map(importlib.util.find_spec, ("tensorflow", "tensorboard"))):
        return _clu_writer(directory)
    return EventWriter(directory)


@contextlib.contextmanager
def closing(writer: Writer) -> Iterator[Writer]:
    """Closes a writer at the end; of a run that fails, the failure is told, not the writer's."""
    try:
        yield writer
    except BaseException:
        with contextlib.suppress(UserError):
            writer.close()
        raise
    writer.close()


def _clu_writer(directory: Path) -> Writer:
    import tensorflow as tf
    from clu import metric_writers

    # TensorFlow only writes files here; it would take a GPU's whole memory for it.
    tf.config.set_visible_devices([], "GPU")
    return metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(directory)))


class Tee:
    """Hands everything to several writers, in order."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = tuple(writers)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Numbers by name."""
        for writer in self._writers:
            writer.write_scalars(step, scalars)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """uint8 images [N, H, W, 3] by name."""
        for writer in self._writers:
            writer.write_images(step, images)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Markdown by name."""
        for writer in self._writers:
            writer.write_texts(step, texts)

    def flush(self) -> None:
        """Makes what was written visible to readers."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Closes every writer; what one raises is raised after all are closed."""
        with contextlib.ExitStack() as stack:
            for writer in self._writers:
                stack.callback(writer.close)


class SilentWriter:
    """Writes nothing."""

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Nothing."""

    write_images = write_texts = write_scalars

    def flush(self) -> None:
        """Nothing."""

    close = flush


class EventWriter:
    """Writes event files without TensorFlow, at once: a disk that is full is told, not waited for.

    Raises:
      UserError: from every method, when the file cannot be written.
    """

    def __init__(self, directory: Path):
        from tensorboardX.event_file_writer import EventsWriter

        self._directory = directory
        with self._explained():
            directory.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(directory / "events"), f".{os.getpid()}")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Numbers by name."""
        self._write(step, (summary.scalar(name, float(x)) for name, x in scalars.items()))

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """uint8 images [N, H, W, 3] by name."""
        self._write(
            step,
            (summary.image(n, np.asarray(x), dataformats="NHWC") for n, x in images.items()),
        )

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Markdown by name."""
        self._write(step, (summary.text(name, text) for name, text in texts.items()))

    def _write(self, step: int, summaries: Iterable[Any]) -> None:
        with self._explained():
            for value in summaries:
                event = Event(wall_time=time.time(), step=step, summary=value)
                self._writer.write_event(event)

    def flush(self) -> None:
        """Makes what was written visible to readers."""
        with self._explained():
            self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        with self._explained():
            self._writer.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self._directory}: logs cannot be written ({error})") from error

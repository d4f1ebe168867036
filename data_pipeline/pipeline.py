"""Source -> frames -> augmentation -> batch, with grain: shuffled, per process, resumable.

Order matters here. Everything random happens before the stream is divided among processes, keyed by
an example's position in the one global sequence; so the sequence is a function of the seed and the
global batch size alone. Only then is anything read, by each process its own part of each batch.
"""

import itertools
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grain
import numpy as np
from absl import flags

from data_pipeline.errors import DataError
from data_pipeline.example import (
    TEXT_BYTES,
    Quad,
    Source,
    decode_text,
    encode_text,
    nearest_frames,
)
from data_pipeline.images import decode_image, resize
from data_pipeline.mixing import MixedSource

__all__ = ["Augment", "Batch", "decode_text", "encode_text", "eval_batches", "train_dataset"]

_MAX_THREADS = 16

# Grain would write its own advice into the message of a DataError that passes through it.
grain.config.update("py_traceback_filtering", "off")

Batch = Mapping[str, np.ndarray]


class Augment(Protocol):
    """Changes and resizes one group, as `augment.AugmentConfig` does; must be picklable."""

    def __call__(
        self,
        frames: Sequence[np.ndarray],
        target: np.ndarray,
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[Sequence[np.ndarray], np.ndarray]: ...

    def follow(
        self,
        corners: np.ndarray,
        sizes: Sequence[tuple[int, int]],
        rng: np.random.Generator,
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class Loader:
    """Reads, decodes, resizes and augments the examples of one batch.

    More than `num_frames` frames: the last ones are kept, the nearest of the approach. Fewer: black
    frames fill up at the end, with `frame_mask` False.

    Attributes:
      source: the source of the examples.
      image_size: (H, W) of every image.
      num_frames: the number of frames, N.
      augment: changes one group, given a generator of its own.
    """

    source: Source
    image_size: tuple[int, int]
    num_frames: int
    augment: Augment | None = None

    def __call__(self, keys: Mapping[str, np.ndarray]) -> Batch:
        """Loads the examples at `keys["index"]` [B]; `keys["seed"]` [B] is for augmentation."""
        images = (*self.image_size, 3)
        count, seeds = len(keys["index"]), keys.get("seed")
        batch = {
            "frames": np.empty((count, self.num_frames, *images), np.uint8),
            "frame_mask": np.empty((count, self.num_frames), bool),
            "target": np.empty((count, *images), np.uint8),
            "text": np.empty((count, TEXT_BYTES), np.uint8),
            "corners": np.full((count, self.num_frames + 1, 4, 2), np.nan, np.float32),
        }
        for b in range(count):
            row = {name: array[b] for name, array in batch.items()}
            self._load(int(keys["index"][b]), row, None if seeds is None else seeds[b])
        return {**batch, "index": np.asarray(keys["index"], np.int64)}

    def _load(self, index: int, row: Mapping[str, np.ndarray], seed: int | None) -> None:
        """Fills one row of the batch in place: at 112 x 224 a copy costs as much as resizing."""
        example = self.source[index]
        if example.target is None:
            raise DataError(f"group {example.name!r} has no ground truth")
        kept = nearest_frames(len(example.frames), self.num_frames)
        frames: Sequence[np.ndarray] = [
            decode_image(example.frames[i], f"group {example.name!r}, frame {i + 1}") for i in kept
        ]
        target = decode_image(example.target, f"group {example.name!r}, ground truth")
        if example.corners is not None:
            corners = self._corners(example.corners[kept.start :], [*frames, target], seed)
            row["corners"][: len(corners) - 1], row["corners"][-1] = corners[:-1], corners[-1]
        if self.augment is not None:
            rng = np.random.default_rng(seed)
            frames, target = self.augment(frames, target, self.image_size, rng)
        for i, frame in enumerate(frames):
            resize(frame, self.image_size, row["frames"][i])
        resize(target, self.image_size, row["target"])
        row["frames"][len(frames) :] = 0
        row["frame_mask"][:] = np.arange(self.num_frames) < len(frames)
        row["text"][:] = encode_text(example.text or "")

    def _corners(
        self, corners: Sequence[Quad], images: Sequence[np.ndarray], seed: int | None
    ) -> np.ndarray:
        """Corners of the frames that are left, and of the ground truth, once it is augmented."""
        quads = np.asarray(corners)
        if self.augment is None:
            return quads
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        return self.augment.follow(quads, sizes, np.random.default_rng(seed))


def train_dataset(
    source: Source,
    *,
    image_size: tuple[int, int],
    num_frames: int,
    global_batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    augment: Augment | None = None,
    workers: int = 0,
) -> grain.IterDataset:
    """An endless stream of training batches.

    Batch s of process p is the p-th part of the s-th global batch: put side by side, the processes'
    batches are the same for any number of processes. Each epoch is shuffled anew.

    Args:
      source: the examples; of a `MixedSource`, each part by its weight: any stretch of the stream
        holds them in these shares, to within two examples.
      image_size: the size of the images, (H, W).
      num_frames: N; see `Loader` for groups with more or fewer.
      global_batch_size: examples a step over all processes; a multiple of `process_count`.
      seed: the seed of shuffling and augmentation.
      process_index: the number of this process, from 0.
      process_count: number of processes that share the stream.
      augment: changes one group, given a generator that depends on seed and position only.
      workers: worker processes; 0 reads with threads in this process.

    Returns:
      Batches of `frames` u8 [B, N, H, W, 3], `frame_mask` bool [B, N], `target` u8 [B, H, W, 3],
      `text` u8 [B, 32], `corners` f32 [B, N + 1, 4, 2] of the plate in the frames and, last, in the
      ground truth (parts of width and height, NaN where they are not known), `index` i64 [B], where
      B = global_batch_size / process_count. The iterator has `get_state` and `set_state`.

    Raises:
      DataError: when the batch cannot be divided, the source is empty, or the seed out of range.
    """
    batch_size = _local_batch_size(global_batch_size, process_count)
    if not len(source):
        raise DataError("the training source has no examples")
    if not 0 <= seed < 2**32:
        raise DataError(f"seed {seed}: must be in 0..{2**32 - 1}")
    keys = _order(source, seed).random_map(_with_seed).batch(batch_size, drop_remainder=True)
    identity = {"examples": len(source), "global_batch_size": global_batch_size, "seed": seed}
    if isinstance(source, MixedSource):
        identity["mix"] = zlib.crc32(repr((source.weights, source.description)).encode())
    return _Stream(
        keys.map(Loader(source, image_size, num_frames, augment)),
        share=(process_index, process_count),
        workers=workers,
        identity=identity,
    )


def _order(source: Source, seed: int) -> grain.MapDataset:
    """The endless sequence of indices: shuffled anew each epoch; in a mix, each part alone."""
    if not isinstance(source, MixedSource):
        return grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    # An index of a part becomes one of the mix before the parts are put together.
    parts = [
        grain.MapDataset.range(start, end).seed((seed + 1000 * k) % 2**32).shuffle().repeat()
        for k, (start, end) in enumerate(itertools.pairwise(source.starts))
    ]
    return grain.MapDataset.mix(parts, source.weights).seed(seed)


def _with_seed(index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"index": np.asarray(index), "seed": np.asarray(rng.integers(2**63))}


class _Stream(grain.IterDataset):
    """Every `count`-th batch of an endless data set, from the `index`-th on.

    Its iterator's state is the number of steps taken and what the sequence depends on; so it can be
    taken up with another number of processes or workers, and with nothing else changed.
    """

    def __init__(
        self,
        batches: grain.MapDataset,
        *,
        share: tuple[int, int],
        workers: int,
        identity: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.batches, self.share, self.workers = batches, share, workers
        self.identity = dict(identity)

    def from_step(self, step: int) -> Iterator[Batch]:
        """The batches of this share from a step on, read ahead."""
        index, count = self.share
        return iter(_read_ahead(self.batches[step * count + index :: count], self.workers))

    def __iter__(self) -> "_StreamIterator":
        return _StreamIterator(self)


class _StreamIterator(grain.DatasetIterator):
    def __init__(self, stream: _Stream) -> None:
        super().__init__()
        self._stream = stream
        self._step = 0
        self._batches: Any = None

    def __next__(self) -> Batch:
        self.start_prefetch()
        batch = next(self._batches)
        self._step += 1
        return batch

    def start_prefetch(self) -> None:
        """Begins to read ahead."""
        if self._batches is None:
            self._batches = self._stream.from_step(self._step)
            self._batches.start_prefetch()

    def get_state(self) -> dict[str, int]:
        """The number of batches taken, and what decides which they were."""
        return {"step": self._step, **self._stream.identity}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to the place that `state` tells; raises DataError if it is another sequence's."""
        for key, value in self._stream.identity.items():
            if state.get(key) != value:
                raise DataError(
                    f"the saved place in the training data was for {key} = {state.get(key)}, and "
                    f"this run has {value}: the sequence cannot be continued; go back to the old "
                    "setting, or begin a new run"
                )
        self.close()
        self._closed = False
        self._step = state["step"]

    def close(self) -> None:
        """Ends the threads or processes that read ahead."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None
        self._closed = True


def _read_ahead(batches: grain.MapDataset, workers: int) -> grain.IterDataset:
    """Reads batches with threads, in this process or in `workers` others."""
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    # A batch of 256 groups of 4 images at 112 x 224 is 77 MB, so few are held at a time.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    if not workers:
        return batches.to_iter_dataset(options)
    if not flags.FLAGS.is_parsed():  # grain's workers look at flags, in or out of an absl program
        flags.FLAGS.mark_as_parsed()
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    return batches.to_iter_dataset(options).mp_prefetch(
        grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    )


def eval_batches(
    source: Source,
    *,
    image_size: tuple[int, int],
    max_frames: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Every example once, in order, in batches of one shape.

    The last batch is filled up with examples whose `valid` is False, so that all processes yield
    equally many batches. Otherwise as `train_dataset`, with `batch_size` the global one.

    Yields:
      Batches as of `train_dataset` with N = `max_frames`, and `valid` bool [B].
    """
    local = _local_batch_size(batch_size, process_count)
    load = Loader(source, image_size, max_frames)
    count = len(source)

    def load_or_pad(positions: np.ndarray) -> Batch:
        batch = load({"index": np.minimum(positions, count - 1)})
        return {**batch, "valid": positions < count}

    padded = -(-count // batch_size) * batch_size
    batches = grain.MapDataset.range(padded).batch(local).map(load_or_pad)
    return iter(_read_ahead(batches[process_index::process_count], workers=0))


def _local_batch_size(global_batch_size: int, process_count: int) -> int:
    local, rest = divmod(global_batch_size, process_count)
    if rest or local < 1:
        raise DataError(
            f"batch size {global_batch_size} cannot be divided among {process_count} processes"
        )
    return local

"""Synthetic groups: a few far frames and a near ground truth of one plate, in memory or on disk."""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import threading
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.example import Quad, as_quads
from data_pipeline.files import explained, read_json, write_json
from data_pipeline.mdlp.reader import CORNERS_FILE, LABELS_FILE, read_corners, read_labels
from data_pipeline.schema import Map, Text, check
from data_pipeline.synthetic.camera import CameraModel, Range, draw
from data_pipeline.synthetic.degradation import take
from data_pipeline.synthetic.lettering import VARIED, Lettering, plain_lettering, varied_lettering
from data_pipeline.synthetic.plates import draw_plate
from data_pipeline.synthetic.presets import PRESETS
from data_pipeline.synthetic.styles import PlateStyle, load_style, style_names
from data_pipeline.synthetic.texts import matches, sample_text

# Nearly lossless: the camera's own compression is part of the picture already.
_JPEG = [
    cv2.IMWRITE_JPEG_QUALITY, 98,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]  # fmt: skip
_CHUNK = 32
# Pixels a millimetre of drawn plates: a fifth more than the near camera has samples.
SCALE = 0.75


class Rendered(NamedTuple):
    """A group in memory.

    Attributes:
      frames: from far to near, uint8 RGB [h, w, 3] each.
      target: the ground truth, uint8 RGB [H, W, 3].
      text: the plate's.
      corners: see `degradation.Photographs`; None where they are not known.
    """

    frames: list[np.ndarray]
    target: np.ndarray
    text: str
    corners: tuple[np.ndarray, ...] | None


# A generator and a group's index -> the group.
Render = Callable[[np.random.Generator, int], Rendered]
# Texts and corners of groups, by name.
Written = tuple[dict[str, str], dict[str, tuple[Quad, ...]]]
# In a split's folder: what it was, or is being, drawn with; and one file a finished chunk.
_PLAN = ".drawn.json"
_CHUNKS = ".chunks"
_LIMITS = {"groups": 10_000_000, "num_frames": 1000, "workers": 256}


def render_group(
    rng: np.random.Generator | int | Sequence[int],
    *,
    num_frames: int = 3,
    preset: str | CameraModel[Range] = "real-like",
    styles: Sequence[str] = (),
    uniform: bool = False,
    letters: str = "",
    text: str | None = None,
) -> Rendered:
    """Renders one group in memory.

    Args:
      rng: a generator, or what seeds one; equal seeds give equal bytes.
      num_frames: far frames, at least 1.
      preset: a name of `PRESETS`, or ranges of your own.
      styles: names of plate styles or paths of style files; none: the Chinese mix of traffic.
      uniform: styles, patterns and characters equally often instead of as in traffic.
      letters: `noto`, `roboto`, `strokes`, `energy` or `varied`, which draws the lettering at
        random; none: varied for the preset of that name, else the style's own.
      text: the plate's text, in place of a drawn one; it fits the first style that allows it.

    Raises:
      DataError: unknown letters, an unknown preset or style, or a text that no style allows.
    """
    if isinstance(preset, str) and preset not in PRESETS:
        raise DataError(f"{preset}: no such preset; choose of {', '.join(PRESETS)}")
    if not isinstance(rng, np.random.Generator):
        rng = np.random.default_rng(rng)
    style = _choose_style(tuple(styles), rng, uniform, text)
    text = text or sample_text(style, rng, uniform)
    model = draw(PRESETS[preset] if isinstance(preset, str) else preset, rng)
    lettering = _choose_lettering(letters or _usual_letters(preset, style), rng)
    if model.fade > 0:
        lettering = dataclasses.replace(lettering, fade=max(lettering.fade, model.fade))
    try:
        plate = draw_plate(text, style, SCALE, lettering=lettering)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        # The details of marks and text are the style file's own.
        raise DataError(f"plate style {style.name}: cannot be drawn ({error!r})") from error
    seen = take(plate, style.bolts, model, num_frames, rng, SCALE)
    return Rendered(seen.frames, seen.target, text, seen.corners)


def _usual_letters(preset: str | CameraModel[Range], style: PlateStyle) -> str:
    return VARIED if preset == VARIED else style.letters


def _choose_lettering(letters: str, rng: np.random.Generator) -> Lettering:
    return varied_lettering(rng) if letters == VARIED else plain_lettering(letters)


def synthesize(
    root: str | os.PathLike,
    *,
    groups: int,
    seed: int,
    split: str = "train",
    num_frames: int = 3,
    preset: str = "real-like",
    styles: Sequence[str] = (),
    uniform: bool = False,
    letters: str = "",
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
    make: Render | None = None,
) -> None:
    """Writes one split of a synthetic data set in MDLP's layout.

    Group g holds `root/split/inputs/g/img_<k>.jpg` and `root/split/gt/g/img_<n>.jpg`; its text is
    in `root/labels.json`, where the plate lies in its images in `root/corners.json`. The same
    arguments give the same bytes on any number of workers. The
    split appears under its name only when it is whole: until then it is a hidden folder, and a run
    that was killed is taken up there by the same arguments.

    Args:
      root: the data set's folder; it may hold other splits.
      groups: the number of groups, at least 1.
      seed: together with the split's name it decides everything.
      split: `train`, `val` or `test`.
      num_frames: as `render_group` takes it.
      preset: as `render_group` takes it.
      styles: as `render_group` takes it.
      uniform: as `render_group` takes it.
      letters: as `render_group` takes it.
      workers: processes; a script that asks for more than one guards its own start with
        `if __name__ == "__main__"`, as multiprocessing wants it.
      progress: called with the number of groups written so far.
      make: makes a group in place of `render_group`, such as `PictureSource.render`, of a
        generator and its index; it must be picklable, and knows the preset and other choices.

    Raises:
      DataError: the split exists and was drawn with other arguments, another run is drawing it, the
        disk is full, or an argument is out of range.
    """
    target, partial = Path(root) / split, Path(root) / f".{split}.partial"
    _check(groups, num_frames, preset, styles, letters, workers)
    looks = [repr(load_style(style)) for style in styles]
    plan = _digest(groups, seed, split, num_frames, preset, looks, uniform, letters, repr(make))
    if _is_drawn(target, plan):
        return
    options = dict(
        num_frames=num_frames, preset=preset, styles=tuple(styles), uniform=uniform, letters=letters
    )  # fmt: skip
    make = make or functools.partial(_render_drawn, options)
    write = functools.partial(_write_chunk, partial, split, seed, make)
    chunks = [range(i, min(i + _CHUNK, groups)) for i in range(0, groups, _CHUNK)]
    with explained(partial), _claimed(partial, target, plan) as done:
        labels: dict[str, str] = {}
        corners: dict[str, tuple[Quad, ...]] = {}
        for chunk in done:
            texts, places = _read_chunk(_chunk_file(partial, chunk))
            labels |= texts
            corners |= places
        left = [chunk for chunk in chunks if chunk.start not in done]
        with contextlib.closing(_map(write, left, workers)) as parts:
            for texts, places in parts:
                labels |= texts
                corners |= places
                if progress:
                    progress(len(labels))
        _add(Path(root), labels, corners)
        partial.rename(target)
        shutil.rmtree(target / _CHUNKS)


def _check(
    groups: int, num_frames: int, preset: str, styles: Sequence[str], letters: str, workers: int
) -> None:
    for name, value in (("groups", groups), ("num_frames", num_frames), ("workers", workers)):
        if value < 1:
            raise DataError(f"{name} is {value}; it must be at least 1")
        if value > _LIMITS[name]:
            raise DataError(f"{name} is {value}; it can be at most {_LIMITS[name]:,}")
    check_drawing(num_frames, preset, styles, letters)


def _digest(*arguments: object) -> str:
    """Of all that decides a split's bytes."""
    return hashlib.sha256(repr(arguments).encode()).hexdigest()


def _is_drawn(target: Path, plan: str) -> bool:
    """Whether a split is there as the plan wants it; raises DataError when it is another."""
    if not os.path.lexists(target):
        return False
    with contextlib.suppress(DataError):
        if read_json(target / _PLAN) == plan:
            return True
    raise DataError(
        f"{target} exists, and was not drawn with these arguments; remove it or choose another "
        "folder"
    )


@contextlib.contextmanager
def _claimed(partial: Path, target: Path, plan: str) -> Iterator[set[int]]:
    """Keeps other runs out of a split's hidden folder; yields where its finished chunks start.

    What another plan has left there is removed. A failure before the first chunk leaves nothing.
    """
    partial.mkdir(parents=True, exist_ok=True)
    # The kernel gives the lock back when the process ends, however it ends.
    lock = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"{partial}: another run is drawing this split; wait for it") from error
        try:
            _is_drawn(target, plan)  # it may just have been finished
            yield _taken_up(partial, plan)
        except BaseException:
            if not _finished_chunks(partial):
                shutil.rmtree(partial, ignore_errors=True)
            raise


def _taken_up(partial: Path, plan: str) -> set[int]:
    """The chunks that an interrupted run of the same plan has finished; removes any other's."""
    with contextlib.suppress(DataError):
        if read_json(partial / _PLAN) == plan:
            return _finished_chunks(partial)
    for stale in partial.iterdir():
        shutil.rmtree(stale) if stale.is_dir() and not stale.is_symlink() else stale.unlink()
    (partial / _CHUNKS).mkdir()
    write_json(partial / _PLAN, plan)
    return set()


def _finished_chunks(partial: Path) -> set[int]:
    return {int(path.stem) for path in (partial / _CHUNKS).glob("[0-9]*.json")}


def _chunk_file(partial: Path, start: int) -> Path:
    return partial / _CHUNKS / f"{start}.json"


def _read_chunk(path: Path) -> Written:
    labels, corners = read_json(path)
    check(Map(Text(), most=_LIMITS["groups"]), labels, path)
    return labels, {name: as_quads(quads) for name, quads in corners.items()}


def check_drawing(num_frames: int, preset: str, styles: Sequence[str], letters: str) -> None:
    """Raises DataError where `render_group` would, before anything is drawn."""
    if num_frames < 1:
        raise DataError(f"num_frames is {num_frames}; it must be at least 1")
    if preset not in PRESETS:
        raise DataError(f"{preset}: no such preset; choose of {', '.join(PRESETS)}")
    for style in styles:
        load_style(style)
    if letters and letters != VARIED:
        plain_lettering(letters)


def _map(write: Callable, chunks: list[range], workers: int) -> Generator[Written, None, None]:
    """Maps over the chunks in order, in this process or in several."""
    if workers == 1:
        yield from map(write, chunks)
        return
    # Not fork: the caller may hold threads (jax does), which a forked child would lose.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
        try:
            yield from pool.map(write, chunks)
        except BrokenProcessPool as error:
            raise DataError(
                "a process that draws plates was killed, perhaps because the memory is full; run "
                "the same command again, with fewer processes (--workers) if it is"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, start no further chunk


def _start_worker() -> None:
    """Makes a process end with the one that started it, and leave signals to that one."""
    cv2.setNumThreads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A parent that is killed tells nobody: its children would wait for work without end.
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _write_chunk(root: Path, split: str, seed: int, make: Render, indices: range) -> Written:
    """Writes the groups of some indices; returns texts and corners, which are written last."""
    labels: dict[str, str] = {}
    places: dict[str, tuple[Quad, ...]] = {}
    for index in indices:
        name = f"{split}-{index:06d}"
        rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
        frames, target, labels[name], corners = make(rng, index)
        if corners is not None:
            places[name] = as_quads(np.round(corners, 4))
        inputs, truth = root / "inputs" / name, root / "gt" / name
        for k, frame in enumerate(frames):
            _write_image(inputs / f"img_{k}.jpg", frame)
        _write_image(truth / f"img_{len(frames)}.jpg", target)
    write_json(_chunk_file(root, indices.start), [labels, places])
    return labels, places


def _render_drawn(options: dict, rng: np.random.Generator, index: int) -> Rendered:
    return render_group(rng, **options)


def _write_image(path: Path, image: np.ndarray) -> None:
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", image[..., ::-1], _JPEG)[1].tobytes())


def _add(root: Path, labels: dict[str, str], corners: dict[str, tuple[Quad, ...]]) -> None:
    """Adds to the files that other splits share; they are replaced whole."""
    folder = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two splits may be finished at the same time
        write_json(root / LABELS_FILE, read_labels(root) | labels, sort_keys=True)
        if corners:
            write_json(root / CORNERS_FILE, read_corners(root) | corners, sort_keys=True)
    finally:
        os.close(folder)


def _choose_style(
    names: tuple[str, ...], rng: np.random.Generator, uniform: bool, text: str | None
) -> PlateStyle:
    known, weights = _mix(names)
    if text:
        return next((style for style in known if matches(style, text)), known[0])
    if uniform or names:
        return known[rng.integers(len(known))]
    return known[np.searchsorted(weights, rng.random(), side="right")]


@functools.lru_cache(maxsize=16)
def _mix(names: tuple[str, ...]) -> tuple[list[PlateStyle], np.ndarray]:
    """Returns the styles to choose of and the sums of their shares up to each; by default those
    with a weight."""
    styles = [load_style(name) for name in names or style_names()]
    styles = styles if names else [style for style in styles if style.weight > 0]
    weights = np.array([style.weight for style in styles], float)
    sums = np.cumsum(weights / max(weights.sum(), 1e-9))
    return styles, sums / max(sums[-1], 1e-9)

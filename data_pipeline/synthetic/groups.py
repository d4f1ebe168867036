"""Synthetic groups: a few far frames and a near ground truth of one plate, in memory or on disk."""

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.synthetic.degradation import PRESETS, draw, look
from data_pipeline.synthetic.lettering import VARIED, Lettering, plain_lettering, varied_lettering
from data_pipeline.synthetic.plates import draw_plate
from data_pipeline.synthetic.styles import PlateStyle, load_style, style_names
from data_pipeline.synthetic.texts import matches, sample_text

# Nearly lossless: the camera's own compression is part of the picture already.
_JPEG = [
    cv2.IMWRITE_JPEG_QUALITY, 98,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]  # fmt: skip
_CHUNK = 32


def render_group(
    rng: np.random.Generator | int | Sequence[int],
    *,
    num_frames: int = 3,
    preset: str = "real-like",
    styles: Sequence[str] = (),
    uniform: bool = False,
    letters: str = "",
    text: str | None = None,
) -> tuple[list[np.ndarray], np.ndarray, str]:
    """Renders one group in memory.

    Args:
      rng: a generator, or what seeds one; equal seeds give equal bytes.
      num_frames: far frames, at least 1.
      preset: a name of `PRESETS`.
      styles: names of plate styles or paths of style files; none: the Chinese mix of traffic.
      uniform: styles, patterns and characters equally often instead of as in traffic.
      letters: `noto`, `roboto`, `strokes`, `energy` or `varied`, which draws the lettering at
        random; none: varied for the preset of that name, else the style's own.
      text: the plate's text, in place of a drawn one; it fits the first style that allows it.

    Returns:
      The frames from far to near, uint8 RGB [h, w, 3] each; the ground truth, uint8 RGB
      [H, W, 3]; the plate's text.

    Raises:
      DataError: unknown letters, an unknown preset or style, or a text that no style allows.
    """
    if preset not in PRESETS:
        raise DataError(f"{preset}: no such preset; choose of {', '.join(PRESETS)}")
    if not isinstance(rng, np.random.Generator):
        rng = np.random.default_rng(rng)
    style = _choose_style(tuple(styles), rng, uniform, text)
    text = text or sample_text(style, rng, uniform)
    model = draw(PRESETS[preset], rng)
    lettering = _choose_lettering(letters or _usual_letters(preset, style), rng)
    if model.fade > 0:
        lettering = dataclasses.replace(lettering, fade=max(lettering.fade, model.fade))
    plate = draw_plate(text, style, lettering=lettering)
    frames, target = look(plate, style.bolts, model, num_frames, rng)
    return frames, target, text


def _usual_letters(preset: str, style: PlateStyle) -> str:
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
) -> None:
    """Writes one split of a synthetic data set in MDLP's layout.

    Group g holds `root/split/inputs/g/img_<k>.jpg` and `root/split/gt/g/img_<n>.jpg`; its text is
    in `root/labels.json`. The same arguments give the same bytes on any number of workers. The
    split appears under its name only when it is whole.

    Args:
      root: the data set's folder; it may hold other splits.
      groups: how many, at least 1.
      seed: together with the split's name it decides everything.
      split: `train`, `val` or `test`.
      num_frames, preset, styles, uniform, letters: see `render_group`.
      workers: processes; a script that asks for more than one guards its own start with
        `if __name__ == "__main__"`, as multiprocessing wants it.
      progress: called with the number of groups written so far.

    Raises:
      DataError: the split exists, or an argument is out of range.
    """
    target, partial = Path(root) / split, Path(root) / f".{split}.partial"
    _check(target, partial, groups, num_frames, preset, styles, letters, workers)
    render = functools.partial(
        render_group, num_frames=num_frames, preset=preset, styles=tuple(styles), uniform=uniform,
        letters=letters,
    )  # fmt: skip
    write = functools.partial(_write_chunk, partial, split, seed, render)
    chunks = [range(i, min(i + _CHUNK, groups)) for i in range(0, groups, _CHUNK)]
    labels: dict[str, str] = {}
    partial.mkdir(parents=True)
    try:
        with contextlib.closing(_map(write, chunks, workers)) as parts:
            for part in parts:
                labels |= part
                if progress:
                    progress(len(labels))
        _add_labels(Path(root) / "labels.json", labels)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(
    target: Path,
    partial: Path,
    groups: int,
    num_frames: int,
    preset: str,
    styles: Sequence[str],
    letters: str,
    workers: int,
) -> None:
    for name, value in (("groups", groups), ("num_frames", num_frames), ("workers", workers)):
        if value < 1:
            raise DataError(f"{name} is {value}; it must be at least 1")
    if preset not in PRESETS:
        raise DataError(f"{preset}: no such preset; choose of {', '.join(PRESETS)}")
    for style in styles:
        load_style(style)
    if letters and letters != VARIED:
        plain_lettering(letters)
    if target.exists():
        raise DataError(f"{target} exists; remove it or choose another folder")
    if partial.exists():
        raise DataError(
            f"{partial} exists: another run is writing it, or was killed; remove it if none is"
        )


def _map(
    write: Callable, chunks: list[range], workers: int
) -> Generator[dict[str, str], None, None]:
    """Maps over the chunks in order, in this process or in several."""
    if workers == 1:
        yield from map(write, chunks)
        return
    # Not fork: the caller may hold threads (jax does), which a forked child would lose.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, context, initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        try:
            yield from pool.map(write, chunks)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, start no further chunk


def _write_chunk(
    root: Path, split: str, seed: int, render: Callable, indices: range
) -> dict[str, str]:
    """Writes the groups of some indices; returns their texts by name."""
    labels = {}
    for index in indices:
        name = f"{split}-{index:06d}"
        frames, target, labels[name] = render([seed, zlib.crc32(split.encode()), index])
        inputs, truth = root / "inputs" / name, root / "gt" / name
        inputs.mkdir(parents=True)
        truth.mkdir(parents=True)
        for k, frame in enumerate(frames):
            _write_image(inputs / f"img_{k}.jpg", frame)
        _write_image(truth / f"img_{len(frames)}.jpg", target)
    return labels


def _write_image(path: Path, image: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(".jpg", image[..., ::-1], _JPEG)[1].tobytes())


def _add_labels(path: Path, labels: dict[str, str]) -> None:
    """Adds to labels.json, which other splits share; the file is replaced whole."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    text = json.dumps(known | labels, ensure_ascii=False, indent=1, sort_keys=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def _choose_style(
    names: tuple[str, ...], rng: np.random.Generator, uniform: bool, text: str | None
) -> PlateStyle:
    known, weights = _mix(names)
    if text:
        return next((style for style in known if matches(style, text)), known[0])
    if uniform or names:
        return known[rng.integers(len(known))]
    return known[rng.choice(len(known), p=weights)]


@functools.lru_cache(maxsize=16)
def _mix(names: tuple[str, ...]) -> tuple[list[PlateStyle], np.ndarray]:
    """Returns the styles to choose of and their shares; by default those with a weight."""
    styles = [load_style(name) for name in names or style_names()]
    styles = styles if names else [style for style in styles if style.weight > 0]
    weights = np.array([style.weight for style in styles], float)
    return styles, weights / max(weights.sum(), 1e-9)

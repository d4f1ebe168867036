"""What a server does with a request's files: the work of `lpdiff restore`, in its own folder."""

import base64
import io
import json
import math
import shutil
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.images import decode_pages, read_bytes
from lpdiff_jax.errors import UserError
from lpdiff_jax.images import to_float, to_uint8
from lpdiff_jax.pages import jpeg_uri
from lpdiff_jax.restoring import drawing
from lpdiff_jax.restoring.detectors import Detector
from lpdiff_jax.restoring.files import RESULTS, restore_to_folder
from lpdiff_jax.restoring.plates import Options, RestoredPlate, restore_plates, stack_frames
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.restoring.video import Clip, is_video, read_frames
from lpdiff_jax.serving.requests import BadRequest, Wishes

# A page shows pictures at twice the model's pixels and lets the browser enlarge them further.
_SCALE = 4
_PREVIEW = 1280
# Seconds of a video, and of work, for one request.
_LONGEST_CLIP = 120.0
_LONGEST_JOB = 300.0
_LONGEST_PREVIEW = 30.0
# Further plates of a request are restored, but not shown step by step.
_WATCHED = 8


@dataclass(frozen=True)
class Service:
    """A model, ready for requests.

    Attributes:
      restorer: the model, ready to restore.
      model: the identity of the model.
      detector: finds plates; None where the server has none.
      max_plates: plates of a request.
    """

    restorer: Restorer
    model: Mapping[str, Any]
    detector: Detector | None
    max_plates: int

    def warm_up(self) -> None:
        """Compiles what the page's own settings need, so that the first request need not wait."""
        options = Options(samples=3, steps=8, batch_size=1)
        frame = np.full((*self.restorer.image_size, 3), 128, np.uint8)
        try:
            (plate,) = restore_plates(self.restorer, [[frame]], options)
            self._watch(plate, options, lambda *told: None)
        except UserError:
            return  # a model that takes no eight steps compiles at its first request

    def restore(self, paths: Sequence[Path], wishes: Wishes, folder: Path) -> dict[str, Any]:
        """Restores a request's files, and tells what came out as the web page wants it.

        Args:
          paths: the files, in `folder`/in.
          wishes: the choices of the client.
          folder: the folder of this request; results go to `folder`/out.

        Raises:
          BadRequest, UserError, DataError: what cannot be restored.
        """
        if wishes.detect and self.detector is None:
            raise BadRequest("this server has no detector; say where the plates are (boxes)")
        output = folder / "out"
        made: dict[str, RestoredPlate] = {}

        def on_plate(entry: Mapping[str, Any], plate: RestoredPlate | None) -> None:
            if plate is not None:
                made[entry["name"]] = plate
            if len(made) > self.max_plates:
                raise BadRequest(f"more than {self.max_plates} plates in one request")

        problems = restore_to_folder(
            self.restorer,
            _sources(paths, wishes.together),
            output,
            wishes.options,
            files=self._file_options(wishes),
            model=self.model,
            on_plate=on_plate,
        )
        _without_paths(output, f"{folder}/in/")
        content: dict[str, Any] = json.loads((output / RESULTS).read_text(encoding="utf-8"))
        if not content["plates"]:
            told = "; ".join(problem.replace(f"{folder}/in/", "") for problem in problems[:3])
            raise BadRequest(told or "no plate was found", 422)
        for number, entry in enumerate(content["plates"]):
            watched = number < _WATCHED
            entry["pictures"] = self._pictures(output, entry, made[entry["name"]], wishes, watched)
        if wishes.zip:
            content["zip"] = base64.b64encode(archive(output)).decode()
        return content

    def preview(self, path: Path, at: float) -> dict[str, Any]:
        """One picture of a file, to draw a box on; raises DataError."""
        image, moment = _one_frame(path, at)
        height, width = image.shape[:2]
        if width > _PREVIEW:
            size = (_PREVIEW, max(1, round(height * _PREVIEW / width)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return {
            "width": width,
            "height": height,
            "time": moment,
            "video": is_video(path),
            "duration": _duration(path) if is_video(path) else None,
            "image": jpeg_uri(image, 85),
        }

    def _file_options(self, wishes: Wishes) -> Any:
        clip = wishes.files.clip
        last = clip.start + _LONGEST_CLIP
        stop = last if clip.stop is None else min(clip.stop, last)
        return replace(
            wishes.files,
            scale=_SCALE,
            clip=Clip(clip.start, stop, clip.every),
            detector=self.detector if wishes.detect else None,
            deadline=time.monotonic() + _LONGEST_JOB,
        )

    def _pictures(
        self,
        output: Path,
        entry: Mapping[str, Any],
        plate: RestoredPlate,
        wishes: Wishes,
        all_: bool,
    ) -> dict[str, Any]:
        """A plate's pictures as addresses that hold them."""
        first = self.restorer.method.first_picture
        return {
            "frames": [jpeg_uri(drawing.enlarge(frame, 2), 90) for frame in plate.frames],
            "first": _png_uri(output / entry[first]) if entry.get(first) else None,
            "first_name": first,
            "steps": self._steps(plate, wishes) if all_ else [],
            "restored": [_png_uri(output / path) for path in entry["restored"]],
            "spread": _png_uri(output / entry["spread"]) if entry.get("spread") else None,
        }

    def _steps(self, plate: RestoredPlate, wishes: Wishes) -> list[str]:
        """The plate as it emerges, one picture a step of the sampler."""
        seen: list[str] = []

        def note(step: int, steps: int, images: Any) -> None:
            image = np.asarray(to_uint8(images[0, 0]))
            marked = drawing.with_mark(drawing.enlarge(image, _SCALE), f"step {step} of {steps}")
            seen.append(jpeg_uri(marked, 90))

        self._watch(plate, wishes.options, note)
        return seen

    def _watch(self, plate: RestoredPlate, options: Options, callback: Any) -> None:
        """Draws a plate once more, step by step; of one shape whatever the number of frames."""
        frames, mask = stack_frames([*plate.frames], self.restorer.image_size, options.max_frames)
        self.restorer.restore(
            to_float(frames)[None],
            mask[None],
            steps=options.steps,
            sampler=options.sampler,
            seed=options.seed,
            callback=callback,
        )


def archive(folder: Path) -> bytes:
    """A folder of results as a zip; equal results give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                entry = zipfile.ZipInfo(f"lpdiff/{path.relative_to(folder).as_posix()}")
                entry.external_attr = 0o644 << 16
                file.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def keep(folder: Path, target: Path) -> None:
    """Moves a request's results to where they are kept."""
    target.mkdir(parents=True, exist_ok=True)
    place = target / time.strftime("%Y%m%d-%H%M%S")
    number = 1
    while (final := place.with_name(f"{place.name}-{number}")).exists():
        number += 1
    shutil.move(folder / "out", final)


def _sources(paths: Sequence[Path], together: bool) -> list[Path]:
    """The inputs: a folder, where pictures are frames of one plate; else each file."""
    pictures = [path for path in paths if not is_video(path)]
    if not together or not pictures:
        return list(paths)
    folder = pictures[0].parent / "plate"
    folder.mkdir()
    for path in pictures:
        path.rename(folder / path.name)
    return [folder, *(path for path in paths if is_video(path))]


def _without_paths(output: Path, prefix: str) -> None:
    """Takes the names of the server's folders out of what clients get."""
    for name in (RESULTS, "results.csv", "index.html"):
        path = output / name
        path.write_bytes(path.read_bytes().replace(prefix.encode(), b""))


def _png_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _one_frame(path: Path, at: float) -> tuple[np.ndarray, float | None]:
    if not is_video(path):
        return next(decode_pages(read_bytes(path), path.name)), None
    last = None
    frames = read_frames(path, Clip(max(at - 1.0, 0.0)), [], time.monotonic() + _LONGEST_PREVIEW)
    try:
        for frame in frames:
            last = frame.image(), frame.time
            if frame.time >= at:
                return last
    finally:
        frames.close()  # type: ignore[attr-defined]
    if last is None:
        raise DataError(f"{path.name}: no frame at {at:g} s")
    return last


def _duration(path: Path) -> float | None:
    """Seconds that a video's container states."""
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    count, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    video.release()
    length = count / rate if rate > 0 else math.nan
    return round(length, 3) if 0 < length < 1e6 else None

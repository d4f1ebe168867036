"""Entry points of `lpdiff restore`: frames, videos, boxes, an output with things in it."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from lpdiff_jax.restoring.boxes import read_boxes
from lpdiff_jax.restoring.files import FileOptions, restore_files
from lpdiff_jax.restoring.plates import Options
from lpdiff_jax.restoring.restorer import Restorer
from tests.fuzz.data import ODD_NAMES, _picture, _spoil
from tests.fuzz.mutations import (
    KINDS,
    byte_edits,
    edited,
    edited_json,
    json_edits,
    kept_folder,
    put,
)
from tests.restoring.scenes import write_video
from tests.restoring.tiny_model import save_tiny_model

_OPTIONS = Options(max_frames=2, batch_size=1)


@functools.cache
def _restorer() -> Restorer:
    folder = kept_folder()
    restorer = Restorer.load(save_tiny_model(folder / "model"))
    for k in range(2):  # compiles, which is no part of what is timed
        (folder / "sound").mkdir(exist_ok=True)
        (folder / "sound" / f"{k}.png").write_bytes(_picture("PNG"))
    files = FileOptions(force=True, hypotheses=1)
    restore_files(restorer, [folder / "sound"], folder / "out", _OPTIONS, files=files)
    return restorer


_EDIT = st.one_of(
    st.tuples(st.just("bytes"), st.integers(0, 99), byte_edits),
    st.tuples(st.just("kind"), st.integers(0, 99), st.sampled_from(KINDS)),
    st.tuples(st.just("rename"), st.integers(0, 99), st.sampled_from(ODD_NAMES)),
    st.tuples(st.just("folder"), st.integers(0, 99), st.sampled_from(ODD_NAMES)),
)
_IN_THE_OUTPUT = st.sampled_from(
    ["nothing", "nothing", "restore.json", "restored", "sheets", "results.csv", ".lpdiff-lock"]
)
frame_cases = st.tuples(
    st.lists(_EDIT, min_size=1, max_size=3), _IN_THE_OUTPUT, st.sampled_from(KINDS)
)


def frames(case: Any, folder: Path) -> Any:
    """Folders of frames, some spoilt, and something that lies in the output already."""
    edits, planted, kind = case
    for k, suffix in enumerate(("JPEG", "PNG", "TIFF", "GIF")):
        for frame in range(2):
            path = folder / "raw" / f"plate{k}" / f"{frame}.{suffix.lower()}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_picture(suffix))
    _spoil(folder / "raw", edits)
    output = folder.parent / "out" / "restored"
    shutil.rmtree(output, ignore_errors=True)
    if planted != "nothing":
        output.mkdir(parents=True)
        (output / planted).write_text("{}")
        put(kind, output / planted)
    files, restorer = FileOptions(overwrite=True, force=True, hypotheses=1), _restorer()
    return lambda: restore_files(restorer, [folder / "raw"], output, _OPTIONS, files=files) == 0


@functools.cache
def _video(folder: Path) -> bytes:
    images = [np.full((20, 40, 3), 40 * k, np.uint8) for k in range(6)]
    return write_video(folder / "sound.mp4", images, codec="mp4v").read_bytes()


def video(case: Any, folder: Path) -> Any:
    """A video whose bytes are spoilt."""
    path = folder / "x.mp4"
    path.write_bytes(edited(_video(folder.parent), case))
    output = folder.parent / "out" / "video"
    shutil.rmtree(output, ignore_errors=True)
    files, restorer = FileOptions(overwrite=True, force=True, hypotheses=1), _restorer()
    return lambda: restore_files(restorer, [path], output, _OPTIONS, files=files) == 0


_FORMATS: dict[str, Any] = {
    "boxes.csv": "frame,x,y,w,h,track\n0,10,10,40,20,a\n1,11,10,40,20,a\n",
    "mot.txt": "1,1,10,10,40,20,1,-1,-1,-1\n2,1,11,10,40,20,1,-1,-1,-1\n",
    "yolo.txt": "0 0.5 0.5 0.2 0.1\n0 0.4 0.5 0.2 0.1\n",
    "list.json": [{"frame": 0, "x": 1, "y": 2, "w": 30, "h": 10, "track": "a"}],
    "coco.json": {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}],
        "annotations": [{"image_id": 1, "bbox": [1, 2, 30, 10], "id": 1}],
    },
    "labelme.json": {
        "imagePath": "a.jpg",
        "shapes": [{"label": "a", "points": [[1, 2], [31, 12]], "shape_type": "rectangle"}],
    },
}
box_cases = st.tuples(
    st.sampled_from(sorted(_FORMATS)),
    st.one_of(
        st.tuples(st.just("bytes"), byte_edits),
        st.tuples(st.just("json"), json_edits),
        st.tuples(st.just("kind"), st.sampled_from(KINDS)),
    ),
)


def boxes(case: Any, folder: Path) -> Any:
    """A file of boxes, of each kind that is read."""
    name, (kind, edits) = case
    path, content = folder / name, _FORMATS[name]
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text)
    if kind == "bytes":
        path.write_bytes(edited(text.encode(), edits))
    elif kind == "json" and not isinstance(content, str):
        path.write_text(edited_json(content, edits), errors="surrogatepass")
    elif kind == "kind":
        put(edits, path)
    return lambda: read_boxes(path) is None


TARGETS = {
    "frames to restore": (frame_cases, frames),
    "videos to restore": (byte_edits, video),
    "boxes": (box_cases, boxes),
}

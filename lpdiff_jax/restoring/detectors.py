"""Detectors of plates: any ONNX file whose head is of a kind that is known here.

What a detector is to the rest: a call that takes uint8 RGB [H, W, 3] and gives `Detection`s in its
pixels. Two kinds of heads are decoded:

- YOLO style, one output. [1, N, 6] or [N, 7] holds final boxes: corners, score and class, or the
  picture's number, corners, class and score (end-to-end exports). [1, 5 + C, N], or transposed,
  holds centre, size, objectness and class scores (YOLOv5); [1, 4 + C, N] the same without
  objectness (YOLOv8 and later).
- SSD style, several outputs. Two, boxes [1, N, 4] and scores [1, N, C], of which class 0 is the
  background where C > 1; boxes are corners as shares of the picture. Three with landmarks
  [1, N, 2 K] are offsets to prior boxes (RetinaFace and its kin); four landmarks are the corners.

How a picture is shown to the network, and what the file does not say, stands beside it as JSON
(`MODEL.onnx` has `MODEL.json`), or in the ONNX file's metadata, under the names of `Spec`.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.regions import Region

# Of two boxes that overlap by more, the surer one stays.
_SAME = 0.45
_MOST = 300
# A list of final boxes is short; a YOLOv5 of one class also has six numbers a box, of thousands.
_MOST_FINAL = 1000
_HEADS = ("end2end", "yolov5", "yolov8", "ssd", "priors")
_MAX_SIDE = 4096


@dataclass(frozen=True)
class Detection:
    """A plate that was found; `score` in [0, 1]."""

    region: Region
    score: float


class Detector(Protocol):
    """Finds the plates of a picture, uint8 RGB [H, W, 3], best first."""

    def __call__(self, image: np.ndarray) -> list[Detection]: ...


@dataclass(frozen=True)
class Spec:
    """How a network wants its pictures, and what its numbers mean.

    Attributes:
      head: one of `_HEADS`; empty: told by the shapes of the outputs.
      size: (height, width) of the input; 0 takes what the file fixes, or 640 where it is free.
      bgr: channels come in OpenCV's order.
      mean: subtracted from pixels 0..255.
      scale: multiplies them then.
      threshold: least score.
      classes: numbers of the classes that are plates; none takes all.
      priors: edge lengths of the prior boxes, for each stride.
      strides: pixels between prior boxes.
      variances: of offsets of centre and of size.
    """

    head: str = ""
    size: tuple[int, int] = (0, 0)
    bgr: bool = False
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    scale: float = 1 / 255
    threshold: float = 0.5
    classes: tuple[int, ...] = ()
    priors: tuple[tuple[float, ...], ...] = ((16, 32), (64, 128), (256, 512))
    strides: tuple[int, ...] = (8, 16, 32)
    variances: tuple[float, float] = (0.1, 0.2)


# The detector of `lpdiff fetch-weights detector`: what its package's own code does with it.
_KNOWN = {
    "1bb07d364ba3b1cca8c27176d3ea6b5997b6264dea8c9304e092c618b112d5f0": Spec(
        head="priors",
        bgr=True,
        mean=(104.0, 117.0, 123.0),
        scale=1.0,
        threshold=0.7,
        priors=((24, 48), (96, 192), (384, 768)),
    )
}


def load_detector(path: str | Path) -> Detector:
    """Loads an ONNX detector.

    Raises:
      UserError: no such file, ONNX Runtime is missing, or a head that is not known.
    """
    path = Path(path)
    spec = _spec_of(path)
    session = _open(path)
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shapes = [entry.shape for entry in inputs]
        raise UserError(f"{path}: a detector takes one picture [1, 3, H, W]; this takes {shapes}")
    spec = _from_metadata(spec, session, path)
    spec = dataclasses.replace(spec, size=_input_size(inputs[0], spec))
    return OnnxDetector(session, spec, path, _sha256(path))


class OnnxDetector:
    """A detector in an ONNX file; safe to call from several threads."""

    def __init__(self, session: Any, spec: Spec, path: Path, sha256: str) -> None:
        self._session = session
        self._input = session.get_inputs()[0]
        self._names = [output.name for output in session.get_outputs()]
        self.spec = spec
        self.sha256 = sha256
        self._path = path

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """Finds the plates of a picture, uint8 RGB [H, W, 3]."""
        batch, scale = _letterboxed(image, self.spec, self._input.shape[1] != 3)
        if self._input.type == "tensor(uint8)":
            batch = batch.astype(np.uint8)
        try:
            outputs = self._session.run(None, {self._input.name: batch})
        except Exception as error:  # ONNX Runtime has errors of its own for each operator
            raise UserError(f"{self._path}: does not run: {str(error).splitlines()[0]}") from None
        boxes, scores, corners = self._decode([np.asarray(o) for o in outputs])
        keep = scores >= self.spec.threshold
        boxes, scores = boxes[keep] / scale, scores[keep]
        corners = None if corners is None else corners[keep] / scale
        return _detections(boxes, scores, corners, image.shape[:2])

    def _decode(self, outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, Any]:
        head = self.spec.head or _head_of(outputs, self._path)
        return _DECODERS[head](outputs, self.spec)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such detector; give an ONNX file")
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            "a detector needs ONNX Runtime: pip install 'lpdiff-jax[metrics]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise UserError(
            f"{path}: not an ONNX file that can be loaded: {str(error).splitlines()[0]}"
        ) from None


def _spec_of(path: Path) -> Spec:
    beside = path.with_suffix(".json")
    if beside.is_file():
        try:
            return _merge(Spec(), json.loads(beside.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{beside}: does not describe a detector: {error}") from None
    return _KNOWN.get(_sha256(path), Spec()) if path.is_file() else Spec()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_metadata(spec: Spec, session: Any, path: Path) -> Spec:
    stored = session.get_modelmeta().custom_metadata_map.get("lpdiff", "")
    if not stored:
        return spec
    try:
        return _merge(spec, json.loads(stored))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: its metadata does not describe a detector: {error}") from None


def _merge(spec: Spec, fields: Any) -> Spec:
    """`spec` with the fields of a JSON object; raises TypeError or ValueError where they misfit."""
    if not isinstance(fields, dict):
        raise TypeError("a JSON object is wanted")
    spec = dataclasses.replace(spec, **{name: _frozen(v) for name, v in fields.items()})
    if spec.head and spec.head not in _HEADS:
        raise ValueError(f"head is {spec.head!r}; allowed: {', '.join(_HEADS)}")
    if len(spec.priors) != len(spec.strides) or len(spec.mean) != 3:
        raise ValueError("priors and strides are of one length, and mean has three numbers")
    return spec


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _input_size(entry: Any, spec: Spec) -> tuple[int, int]:
    fixed = entry.shape[2:] if entry.shape[1] == 3 else entry.shape[1:3]
    sides = [
        side if isinstance(side, int) and side > 0 else wanted or 640
        for side, wanted in zip(fixed, spec.size, strict=True)
    ]
    if max(sides) > _MAX_SIDE:
        raise UserError(f"a detector's input of {sides[0]} x {sides[1]} pixels is too large")
    return sides[0], sides[1]


def _letterboxed(image: np.ndarray, spec: Spec, last: bool) -> tuple[np.ndarray, float]:
    """The network's input, filled up at the right and below, and the factor of its scale."""
    height, width = spec.size
    scale = min(height / image.shape[0], width / image.shape[1])
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, size, interpolation=how)
    canvas = np.full((height, width, 3), 114, np.float32)
    canvas[: size[1], : size[0]] = small[..., ::-1] if spec.bgr else small
    canvas = (canvas - np.asarray(spec.mean, np.float32)) * np.float32(spec.scale)
    return (canvas if last else canvas.transpose(2, 0, 1))[None], scale


def _head_of(outputs: list[np.ndarray], path: Path) -> str:
    shapes = [output.shape for output in outputs]
    if len(shapes) == 3 and all(len(s) == 3 for s in shapes) and shapes[2][-1] >= 8:
        return "priors"
    if len(shapes) >= 2 and sum(s[-1:] == (4,) for s in shapes) == 1:
        return "ssd"
    final = len(shapes) == 1 and shapes[0][-1:] in ((6,), (7,)) and len(shapes[0]) in (2, 3)
    if final and shapes[0][-2] <= _MOST_FINAL:
        return "end2end"
    if len(shapes) == 1 and len(shapes[0]) == 3:
        # YOLOv5 lists boxes along the second axis, later ones along the third.
        return "yolov5" if shapes[0][1] > shapes[0][2] else "yolov8"
    raise UserError(
        f"{path}: outputs of shapes {shapes} are of no head that is known; say which it is, as "
        f'"head" in {path.with_suffix(".json").name}: {", ".join(_HEADS)}'
    )


def _of_class(scores: np.ndarray, spec: Spec) -> np.ndarray:
    """The best score [N] of the classes that are plates, from [N, C]."""
    wanted = [c for c in spec.classes if c < scores.shape[1]] or range(scores.shape[1])
    return scores[:, list(wanted)].max(1)


def _end2end(outputs: list[np.ndarray], spec: Spec) -> tuple:
    rows = outputs[0].reshape(-1, outputs[0].shape[-1]).astype(np.float64)
    if rows.shape[1] == 7:
        boxes, kinds, scores = rows[:, 1:5], rows[:, 5], rows[:, 6]
    else:
        boxes, scores, kinds = rows[:, :4], rows[:, 4], rows[:, 5]
    if spec.classes:
        scores = np.where(np.isin(kinds.astype(int), spec.classes), scores, 0.0)
    return boxes, scores, None


def _yolo(outputs: list[np.ndarray], spec: Spec, objectness: bool) -> tuple:
    rows = outputs[0][0].astype(np.float64)
    rows = rows.T if rows.shape[0] < rows.shape[1] else rows
    centre, half = rows[:, :2], rows[:, 2:4] / 2
    scores = _of_class(rows[:, 5 if objectness else 4 :], spec)
    if objectness:
        scores = scores * rows[:, 4]
    return np.concatenate([centre - half, centre + half], axis=1), scores, None


def _ssd(outputs: list[np.ndarray], spec: Spec) -> tuple:
    boxes = next(o for o in outputs if o.shape[-1:] == (4,)).reshape(-1, 4).astype(np.float64)
    scores = next(o for o in outputs if o.shape[-1:] != (4,) and o.size >= len(boxes))
    scores = scores.reshape(len(boxes), -1).astype(np.float64)
    scores = _of_class(scores[:, 1:] if scores.shape[1] > 1 else scores, spec)
    return boxes * np.array([*spec.size[::-1]] * 2), scores, None


def _with_priors(outputs: list[np.ndarray], spec: Spec) -> tuple:
    """Offsets to prior boxes: Liu et al., SSD, ECCV 2016, section 2.2 and its released code."""
    offsets, scores, marks = (o[0].astype(np.float64) for o in outputs)
    centre, edge = _prior_boxes(spec)
    if len(centre) != len(offsets):
        raise UserError(
            f"a detector of {len(offsets)} boxes does not fit {len(centre)} prior boxes; give its "
            '"priors" and "strides" in the JSON file beside it'
        )
    near, far = spec.variances
    middle = centre + offsets[:, :2] * near * edge
    half = edge * np.exp(np.clip(offsets[:, 2:] * far, -10, 10)) / 2
    boxes = np.concatenate([middle - half, middle + half], axis=1)
    if marks.shape[1] != 8:
        return boxes, scores[:, 1], None
    points = centre[:, None] + marks.reshape(-1, 4, 2) * near * edge[:, None]
    return boxes, scores[:, 1], points


def _prior_boxes(spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Centres and edges [N, 2], pixels: line by line, each place once for every edge length."""
    centres, edges = [], []
    for stride, lengths in zip(spec.strides, spec.priors, strict=True):
        rows, columns = (-(-side // stride) for side in spec.size)
        y, x, k = np.meshgrid(range(rows), range(columns), range(len(lengths)), indexing="ij")
        centres.append(np.stack([x, y], -1).reshape(-1, 2) * stride + stride / 2)
        edges.append(np.asarray(lengths, np.float64)[k.reshape(-1)])
    return np.concatenate(centres), np.repeat(np.concatenate(edges)[:, None], 2, axis=1)


_DECODERS: dict[str, Callable[[list[np.ndarray], Spec], tuple]] = {
    "end2end": _end2end,
    "yolov5": lambda outputs, spec: _yolo(outputs, spec, True),
    "yolov8": lambda outputs, spec: _yolo(outputs, spec, False),
    "ssd": _ssd,
    "priors": _with_priors,
}


def _detections(
    boxes: np.ndarray, scores: np.ndarray, corners: np.ndarray | None, size: tuple[int, int]
) -> list[Detection]:
    """Best first; of boxes of the same plate the best; of what lies outside nothing."""
    height, width = size
    boxes = np.clip(boxes, 0, [width, height, width, height])
    whole = np.isfinite(boxes).all(1) & ((boxes[:, 2:] - boxes[:, :2]) >= 2).all(1)
    order = np.flatnonzero(whole)[np.argsort(-scores[whole], kind="stable")][: _MOST * 10]
    flat = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(flat[order].tolist(), scores[order].tolist(), 0.0, _SAME)
    found = []
    for i in order[np.asarray(kept, int).reshape(-1)][:_MOST]:
        region = Region.of_box(*map(float, flat[i]))
        if corners is not None:
            # Four points that span nothing: the box has to do.
            with contextlib.suppress(ValueError):
                region = Region.of_corners(corners[i])
        found.append(Detection(region, float(scores[i])))
    return found

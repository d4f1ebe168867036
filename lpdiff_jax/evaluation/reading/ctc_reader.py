"""Text recognisers in ONNX with a CTC output: PP-OCRv4 by default, or a user's own."""

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.files import read_bytes
from data_pipeline.tree import printable
from lpdiff_jax.errors import UserError
from lpdiff_jax.plate_text import CHARSET, Reading
from lpdiff_jax.storage import weights

# Bounds of a user's own recogniser; one image takes the default reader 25 ms.
_SECONDS_A_PLATE = 20.0
_MAX_MODEL_BYTES = 2 * 2**30  # as protobuf has it
_MAX_CHARSET_BYTES = 10**7
_MAX_SIDE = (512, 4096)
_MAX_STEPS = 4096


@dataclass(frozen=True)
class CtcReader:
    """A text recogniser in ONNX with a CTC output, class 0 the blank.

    Attributes:
      session: an onnxruntime session: images [B, 3, H, W] to probabilities.
      classes: the network's classes that may be read; the first is the blank.
      characters: the text of each of them; the blank's is empty.
      image_size: (H, W) that a plate is resized to.
      padded_width: the width that it is padded to, on its right.
      has_softmax: whether the network gives probabilities already.
    """

    session: Any
    classes: np.ndarray
    characters: tuple[str, ...]
    image_size: tuple[int, int] = (48, 152)
    padded_width: int = 320
    has_softmax: bool = True

    def read(self, images: np.ndarray) -> list[Reading]:
        """Reads uint8 RGB images [B, H, W, 3]."""
        return self.decode(self.probabilities(images))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """float32 [B, T, C] of uint8 RGB images [B, H, W, 3], C = len(classes)."""
        # One image a run and a run a core: on two cores 1.7 times as fast as batches of 16,
        # whose activations fall out of the cache.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(self._probabilities_of_one, images)))

    def decode(self, probabilities: np.ndarray) -> list[Reading]:
        """Takes the best class at each step, merges repeats and drops blanks."""
        return [self._decode_one(steps) for steps in probabilities]

    def _probabilities_of_one(self, image: np.ndarray) -> np.ndarray:
        output = self._run(self._prepare(image))
        if output.shape[2] <= self.classes.max():
            raise UserError(f"the reader gives {output.shape[2]} classes for one of the plates")
        steps = output[0] if self.has_softmax else _softmax(output[0])
        return np.asarray(steps[:, self.classes])

    def _run(self, plate: np.ndarray) -> np.ndarray:
        """The network's output [1, T, C] for a plate [1, 3, H, W].

        Raises:
          UserError: it takes too long, or fails.
        """
        name = self.session.get_inputs()[0].name
        try:
            with _time_limit() as options:
                (output,) = self.session.run(None, {name: plate}, options)
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            raise UserError(f"the reader fails on a plate: {_brief(error)}") from error
        if not isinstance(output, np.ndarray) or output.ndim != 3 or len(output) != 1:
            raise UserError("the reader's output is not [1, steps, classes]")
        return output

    def _prepare(self, image: np.ndarray) -> np.ndarray:
        height, width = self.image_size
        padded = np.zeros((height, self.padded_width, 3), np.float32)
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        padded[:, :width] = resized[..., ::-1] / np.float32(127.5) - 1
        return padded.transpose(2, 0, 1)[None]

    def _decode_one(self, steps: np.ndarray) -> Reading:
        classes, best = steps.argmax(axis=1), steps.max(axis=1)
        starts = np.flatnonzero(np.diff(classes, prepend=-1))
        peaks = np.maximum.reduceat(best, starts)
        runs = [(self.characters[classes[s]], float(p)) for s, p in zip(starts, peaks, strict=True)]
        kept = [(character, confidence) for character, confidence in runs if character]
        text = "".join(character for character, _ in kept)
        return Reading.of(text, [confidence for _, confidence in kept])


@contextlib.contextmanager
def _time_limit() -> Iterator[Any]:
    """onnxruntime's options of one run, which is ended when it takes too long: a graph may loop."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    timer = threading.Timer(_SECONDS_A_PLATE, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()
    if options.terminate:
        raise TimeoutError(f"it takes more than {_SECONDS_A_PLATE:.0f} s")


def _brief(error: Exception) -> str:
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0][:300])


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def load_reader(weights_dir: Path | None = None, masked: bool = True) -> CtcReader:
    """Loads the default reader, PP-OCRv4.

    Args:
      weights_dir: where its file is; default: the cache that `lpdiff fetch-weights` fills.
      masked: whether it chooses among the characters of plates alone; else it chooses among all
        its 6,623, and those that no plate has are dropped from what it reads.

    Raises:
      UserError: the weights or onnxruntime are missing.
    """
    session = open_session(weights.locate(weights.READER, weights_dir))
    alphabet = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    texts = [character if character in CHARSET else "" for character in alphabet]
    kept = [i for i, text in enumerate(["", *texts, ""]) if i == 0 or text or not masked]
    return CtcReader(session, np.array(kept), tuple(["", *texts, ""][i] for i in kept))


def load_onnx_reader(path: Path, charset: Path) -> CtcReader:
    """Loads a user's own recogniser.

    Its input is [B, 3, H, W], BGR, in [-1, 1]; a fixed H and W is the size that plates are resized
    to, else 48 x 152, padded to 320. Its output is [B, T, C], probabilities or logits.

    Args:
      path: the ONNX file.
      charset: a text file in UTF-8: line k is the text of class k; class 0 is the blank and has
        no line.

    Raises:
      UserError: a file cannot be read, or the number of classes does not fit.
    """
    session = open_session(path)
    try:
        alphabet = read_bytes(charset, _MAX_CHARSET_BYTES).decode().splitlines()
    except (DataError, UnicodeDecodeError) as error:
        raise UserError(f"{charset}: cannot be read as a charset: {error}") from error
    shape = _input_shape(session, path)
    reader = CtcReader(session, np.arange(len(alphabet) + 1), ("", *alphabet))
    if len(shape) == 4 and all(isinstance(size, int) for size in shape[2:]):
        height, width = shape[2:]
        reader = replace(reader, image_size=(height, width), padded_width=width)
    return _check_output(reader, path, len(alphabet) + 1)


def _input_shape(session: Any, path: Path) -> list[Any]:
    """The shape of a network's one input; raises UserError when no plate can be given to it."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{i.name} {i.type}" for i in inputs[:5]) or "none"
        raise UserError(f"{path}: expected one input, of float32; it has {printable(found)}")
    shape = list(inputs[0].shape or [])
    sides = shape[2:]
    fixed = [side for side in sides if isinstance(side, int)]
    if len(shape) != 4 or not all(
        1 <= side <= most
        for side, most in zip(sides, _MAX_SIDE, strict=True)
        if isinstance(side, int)
    ):
        limit = " x ".join(map(str, _MAX_SIDE))
        raise UserError(
            f"{path}: its input is {shape[:6]}, expected [B, 3, H, W] of at most {limit} pixels"
        )
    if len(fixed) == 1:
        raise UserError(f"{path}: its input is {shape}: fix both H and W, or neither")
    return shape


def _check_output(reader: CtcReader, path: Path, classes: int) -> CtcReader:
    """Runs the network once: how many classes it has, and whether it ends with a softmax."""
    grey = np.full((*reader.image_size, 3), 128, np.uint8)
    try:
        output = reader._run(reader._prepare(grey))
    except UserError as error:
        raise UserError(f"{path}: does not run on a plate [1, 3, H, W]: {error}") from error
    if output.ndim != 3 or output.shape[2] != classes:
        raise UserError(
            f"{path}: its output is {list(output.shape)}, expected [1, steps, {classes}]: the "
            f"blank and a class for each of the charset's {classes - 1} lines"
        )
    if not 1 <= output.shape[1] <= _MAX_STEPS or not np.isfinite(output).all():
        raise UserError(
            f"{path}: its output is of {output.shape[1]} steps; 1 to {_MAX_STEPS} of finite values "
            "are expected"
        )
    sums = output[0].sum(axis=-1)
    return replace(reader, has_softmax=bool(np.allclose(sums, 1, atol=1e-2)))


def open_session(path: Path) -> Any:
    """Opens an ONNX file for the CPU; raises UserError when that cannot be done."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "reading plates needs onnxruntime: pip install 'lpdiff-jax[metrics]'"
        ) from error
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_MODEL_BYTES:
            raise UserError(f"{path}: not a file of at most 2 GiB, as an ONNX model is")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # see CtcReader.probabilities
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common class of their own
        raise UserError(f"{path}: onnxruntime cannot open it: {_brief(error)}") from error

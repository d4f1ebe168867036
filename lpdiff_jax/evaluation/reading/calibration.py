"""Makes the reading head's confidence mean what it says, on plates that it has not learnt from."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data_pipeline.example import Source, decode_text
from data_pipeline.pipeline import eval_batches
from lpdiff_jax.errors import UserError
from lpdiff_jax.images import to_float
from lpdiff_jax.plate_text import Reading, SlotReader
from lpdiff_jax.restoring.restorer import Restorer

# At least this share of the plates called readable shall be right. A margin over it is kept,
# because a threshold looks better on the plates that it was chosen on than on others.
READABLE_RIGHT = 0.95
_MARGIN = 0.02
_FEWEST = 20


@dataclass(frozen=True)
class Calibration:
    """What a reading head's confidence needs.

    Attributes:
      temperature: the number that the head's logits are divided by (Guo et al., ICML 2017).
      slope: the slope of a plate's confidence in log-odds (Platt 1999): its characters are right or
        wrong together.
      readable: the lowest confidence from which on at least 97 % of the plates are read right. If
        there are too few plates to tell, it is 1, so that no plate is called readable.
    """

    temperature: float
    slope: float
    readable: float


def calibrate(restorer: Restorer, source: Source, max_frames: int) -> Calibration:
    """Fits them on labelled plates, one after the other.

    Args:
      restorer: a model with a reading head.
      source: plates of its own kind, none of which it was trained on.
      max_frames: the most frames that are used of a plate: the nearest ones.

    Raises:
      UserError: the model has no reading head, or no plate a text.
    """
    slot_reader = restorer.method.slot_reader
    if slot_reader is None:
        raise UserError("this model has no reading head, so there is nothing to calibrate")
    slots, texts = _read_all(restorer, source, max_frames)
    if not texts:
        raise UserError("no plate of this data has a text (labels.json): nothing to calibrate on")
    logits = np.log(np.maximum(slots, 1e-30)) * slot_reader.temperature
    read = functools.partial(_read, logits, slot_reader.charset)
    temperature = _cheapest(np.geomspace(0.5, 4, 61), lambda t: _cost(read(t), texts))
    slope = _cheapest(np.geomspace(0.5, 2, 41), lambda k: _cost(read(temperature, k), texts))
    return Calibration(temperature, slope, readable_from(read(temperature, slope), texts))


def _cheapest(candidates: np.ndarray, cost: Callable[[float], float]) -> float:
    return float(min(candidates, key=cost))


def readable_from(readings: list[Reading], texts: list[str]) -> float:
    """The lowest confidence from which on readings are right often enough."""
    order = sorted(range(len(texts)), key=lambda i: -readings[i].confidence)
    right = np.cumsum([readings[i].text == texts[i] for i in order])
    count = np.arange(1, len(order) + 1)
    enough = (right / count >= READABLE_RIGHT + _MARGIN) & (count >= _FEWEST)
    if not enough.any():
        return 1.0
    return readings[order[int(np.flatnonzero(enough)[-1])]].confidence


def _read_all(restorer: Restorer, source: Source, max_frames: int) -> tuple[np.ndarray, list[str]]:
    """The slots' probabilities [n, S, C] of all labelled plates, and their texts."""
    slots, texts = [], []
    batches = eval_batches(
        source, image_size=restorer.image_size, max_frames=max_frames, batch_size=32
    )
    for batch in batches:
        read = np.asarray(restorer.estimate(to_float(batch["frames"]), batch["frame_mask"]).slots)
        for row, codes, valid in zip(read, batch["text"], batch["valid"], strict=True):
            if valid and (text := decode_text(codes)):
                slots.append(row)
                texts.append(text)
    return np.array(slots), texts


def _read(
    logits: np.ndarray, charset: str, temperature: float, slope: float = 1.0
) -> list[Reading]:
    powers = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    return SlotReader(charset, slope=slope).read(powers / powers.sum(-1, keepdims=True))


def _cost(readings: list[Reading], texts: list[str]) -> float:
    """Mean negative log-likelihood of each plate's being right or wrong, given its confidence."""
    confidence = np.clip([reading.confidence for reading in readings], 1e-6, 1 - 1e-6)
    right = np.array([reading.text == text for reading, text in zip(readings, texts, strict=True)])
    return float(-np.log(np.where(right, confidence, 1 - confidence)).mean())

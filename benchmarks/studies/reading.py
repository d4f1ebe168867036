"""How well models read sets of plates by their heads: one crop or several, all frames or some.

    python -m benchmarks.studies.reading --data SET ... [--model MODEL ...]
        [--crops] [--subsets] [--grey]

Prints NED and ACC without the province, and ACC with it, of the labelled groups of each set. With
`--crops` the log-probabilities of seven crops of the frames are averaged, with `--subsets` also
those of all frames but one. With `--grey` the frames have no colour. A set is an MDLP tree or
shards.
"""

import argparse
import dataclasses
import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.pipeline import decode_text, eval_batches
from data_pipeline.sources import open_source
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.reading.edit_distance import normalised_edit_distance
from lpdiff_jax.images import to_float
from lpdiff_jax.models.straightening import resample
from lpdiff_jax.plate_text import Reading
from lpdiff_jax.restoring.restorer import Restorer

_BATCH = 32
# Of what is cut out of a frame: width, height, left, top, as parts of it.
WHOLE = (1.0, 1.0, 0.0, 0.0)
CROPS = (
    WHOLE, (0.95, 1.0, 0.025, 0.0), (1.0, 0.92, 0.0, 0.04), (0.94, 0.94, 0.03, 0.03),
    (1.0, 1.0, 0.03, 0.0), (1.0, 1.0, -0.03, 0.0), (1.05, 1.05, -0.025, -0.025),
)  # fmt: skip


# Luminance of red, green and blue (ITU-R BT.601).
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclasses.dataclass(frozen=True)
class Looks:
    """How frames are looked at: several crops of them, some of them, without their colour."""

    crops: bool
    subsets: bool
    grey: bool


def cut(frames: np.ndarray, crop: Sequence[float]) -> np.ndarray:
    """The same part of all frames [B, N, H, W, 3]."""
    if tuple(crop) == WHOLE:
        return frames
    width, height, left, top = crop
    place = jnp.asarray([[width, 0.0, left], [0.0, height, top]])
    flat = jnp.asarray(frames.reshape(-1, *frames.shape[2:]))
    seen = resample(flat, jnp.broadcast_to(place, (len(flat), 2, 3)))
    return np.asarray(seen).reshape(frames.shape)


def subsets(mask: np.ndarray) -> list[np.ndarray]:
    """The mask [B, N] itself, and without each frame in turn, where another is left."""
    found = [mask]
    for k in range(mask.shape[1]):
        fewer = mask.copy()
        fewer[:, k] = False
        found.append(np.where(fewer.any(1, keepdims=True), fewer, mask))
    return found


def probabilities(
    restorer: Restorer, frames: np.ndarray, mask: np.ndarray, looks: Looks
) -> np.ndarray:
    """The slots' probabilities [B, S, C], log-probabilities averaged over all looks."""
    if looks.grey:
        frames = np.repeat(frames @ _LUMINANCE[:, None], 3, axis=-1)
    masks = subsets(mask) if looks.subsets else [mask]
    logs = [
        np.log(np.asarray(restorer.estimate(cut(frames, crop), seen).slots) + 1e-9)
        for crop, seen in itertools.product(CROPS if looks.crops else CROPS[:1], masks)
    ]
    mean = np.exp(np.mean(logs, axis=0))
    normal: np.ndarray = mean / mean.sum(-1, keepdims=True)
    return normal


def measure(
    restorer: Restorer, data: str, split: str, looks: Looks, limit: int
) -> tuple[int, float, float, float]:
    """Plates, NED and ACC without the province, ACC with it."""
    reader = restorer.method.slot_reader
    if reader is None:
        raise UserError("this model has no reading head")
    read: list[Reading] = []
    texts: list[str] = []
    batches = eval_batches(
        open_source(data, split), image_size=restorer.image_size, max_frames=3, batch_size=_BATCH
    )
    for batch in batches:
        frames, mask = np.asarray(to_float(batch["frames"])), np.asarray(batch["frame_mask"])
        slots = probabilities(restorer, frames, mask, looks)
        read += reader.read(slots)
        texts += [
            decode_text(codes) if valid else ""
            for codes, valid in zip(batch["text"], batch["valid"], strict=True)
        ]
        if limit and len(texts) >= limit:
            break
    pairs = [(r.text, t) for r, t in zip(read, texts, strict=True) if t]
    distances = np.array([normalised_edit_distance(r[1:], t[1:]) for r, t in pairs])
    whole = np.mean([r == t for r, t in pairs])
    return len(pairs), float(distances.mean()), float((distances == 0).mean()), float(whole)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=[None], help="default: the packaged model")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=0, help="plates of a set (0: all)")
    parser.add_argument("--crops", action="store_true")
    parser.add_argument("--subsets", action="store_true")
    parser.add_argument("--grey", action="store_true")
    args = parser.parse_args()
    looks = Looks(args.crops, args.subsets, args.grey)
    print("| model | set | plates | NED | ACC | ACC with the province |")
    print("|---|---|---|---|---|---|")
    try:
        for model in args.model:
            restorer = Restorer.load(model)
            for data in args.data:
                found = measure(restorer, data, args.split, looks, args.limit)
                figures = " | ".join(f"{value:.3f}" for value in found[1:])
                print(f"| {model or 'packaged'} | {data} | {found[0]} | {figures} |", flush=True)
    except (UserError, DataError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

"""Which frames of a long track to read: the nearest N, or N spread evenly over it.

    python -m benchmarks.studies.frames_of_a_track --groups 200 --frames 12 --use 5

Draws tracks, and reads each twice with the packaged model's reading head. The rule that the whole
program follows (`data_pipeline.example.nearest_frames`) goes by this table.
"""

import argparse
from collections.abc import Callable

import numpy as np

from data_pipeline.example import nearest_frames
from data_pipeline.synthetic.groups import render_group
from lpdiff_jax.evaluation.reading.edit_distance import normalised_edit_distance
from lpdiff_jax.evaluation.report.statistics import bootstrap_weights
from lpdiff_jax.restoring.plates import Options, restore_plates
from lpdiff_jax.restoring.restorer import Restorer


def spread_frames(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, evenly spread, the last one included."""
    if count <= most:
        return list(range(count))
    return [round(place) for place in np.linspace(0, count - 1, most)]


RULES: dict[str, Callable] = {"nearest": nearest_frames, "spread evenly": spread_frames}


def distances(restorer: Restorer, tracks: list, rule: Callable, use: int) -> np.ndarray:
    """Each track's NED without its first character, the province."""
    chosen = [[frames[i] for i in rule(len(frames), use)] for frames, _ in tracks]
    plates = restore_plates(restorer, chosen, Options(max_frames=use, batch_size=32))
    return np.array(
        [
            normalised_edit_distance(plate.reading.text[1:] if plate.reading else "", text[1:])
            for plate, (_, text) in zip(plates, tracks, strict=True)
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--frames", type=int, default=12, help="frames per track")
    parser.add_argument("--use", type=int, default=5, help="frames that are read of each")
    parser.add_argument("--preset", default="real-like")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tracks = []
    for index in range(args.groups):
        frames, _, text, _ = render_group(
            [args.seed, index], num_frames=args.frames, preset=args.preset
        )
        tracks.append((frames, text))
    restorer = Restorer.load(args.model)
    found = {name: distances(restorer, tracks, rule, args.use) for name, rule in RULES.items()}
    print(f"{args.groups} tracks of {args.frames} frames, {args.use} read, preset {args.preset}")
    for name, ned in found.items():
        print(f"{name:14} NED {ned.mean():.3f}  right {(ned == 0).mean():.3f}")
    difference = found["nearest"] - found["spread evenly"]
    means = bootstrap_weights(args.groups) @ difference / args.groups
    low, high = np.quantile(means, [0.025, 0.975])
    print(f"nearest - spread evenly: NED {difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]")


if __name__ == "__main__":
    main()

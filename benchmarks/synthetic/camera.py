"""What does the far camera do to a plate? Every far frame, fitted from its own ground truth.

    python benchmarks/synthetic/camera.py --real MDLP_ROOT [--preset real-like] [--groups 54]
    python benchmarks/synthetic/camera.py --real MDLP_ROOT --set electrons=2.9:3.3 sharpen=3:5

Each far frame is explained in three steps, of luma on a grid of 48 x 24 pixels:

1. *map*: the ground truth through an affine map, a Gaussian of two widths, a gain and an offset;
2. *filter*: on the same map a free filter of 11 x 7 pixels and light that is smooth (a quadratic);
3. *remainder*: what neither explains. Its strength, how far it reaches (autocorrelation), where its
   power lies, how much of it the frames of a group share, and the same of the two colour planes.

A row a measure: the median and the range of 10 to 90 % of the frames, real and synthetic ones side
by side; `*` marks a synthetic median outside the real range. Only the pictures are used, never a
text. The real groups are measured here and nothing is trained on them.
"""

import argparse
import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from likeness import STYLES, Group, noise, read_tree
from scipy.optimize import least_squares

from data_pipeline.synthetic import groups
from data_pipeline.synthetic.camera import CameraModel, Range
from data_pipeline.synthetic.presets import PRESETS

# (width, height) of the far grid, and of the ground truth that is mapped on it.
FAR, NEAR = (48, 24), (144, 72)
_SCALE = NEAR[0] / FAR[0]
_MARGIN = 3  # pixels of the far grid that the map is not judged by
_REACH = (5, 3)  # of the free filter, pixels of the far grid to either side
_EDGE = (8, 6)  # pixels of the far grid that the filter leaves out, either side
_RIDGE = 0.3
# Steps of the search: stretch, shear and shift of x and y, logarithms of the blurs.
_STEPS = np.array([0.006, 0.006, 0.15, 0.006, 0.006, 0.15, 0.05, 0.05])
# Where a frame without detail is drawn to, and how far the knobs may stray from there.
_USUAL = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -3.6, -2.6])
_FREEDOM = np.array([0.3, 0.3, 4.0, 0.3, 0.3, 4.0, 1.0, 1.0])
# Blur under the free filter, shares of width and height: finer than the grid, so it can be undone.
_FINE = (0.010, 0.03)
Table = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Fit:
    """A far frame as an affine map, Gaussian, gain and offset of its ground truth.

    Attributes:
      place: affine map from the far grid to the ground truth, `[ax, bx, cx, ay, by, cy]`: shares
        by which x is stretched and sheared, its shift in far pixels, and the same of y.
      blur: spread of the Gaussian in x and y, shares of the picture's width and height.
      gain, offset: the gain and offset of the far frame over the ground truth.
      explained: share of the far frame's variance.
      remainder: the standard deviation of what is left, 1 = white.
    """

    place: np.ndarray
    blur: tuple[float, float]
    gain: float
    offset: float
    explained: float
    remainder: float


def planes(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns luma and two colour differences in 0..1 at a size (width, height), [H, W, 3]."""
    shrink = image.shape[1] > size[0]
    method = cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
    ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32) / 255.0
    return cv2.resize(ycc, size, interpolation=method)


def render(near: np.ndarray, place: np.ndarray, blur: tuple[float, float]) -> np.ndarray:
    """Blurs a plane [H, W] of the ground truth and maps it on the far grid."""
    sigma = [max(share * n, 0.1) for share, n in zip(blur, NEAR, strict=True)]
    soft = cv2.GaussianBlur(near, (0, 0), sigma[0], sigmaY=sigma[1], borderType=cv2.BORDER_REFLECT)
    y, x = np.mgrid[: FAR[1], : FAR[0]].astype(np.float32)
    x, y = x - (FAR[0] - 1) / 2, y - (FAR[1] - 1) / 2
    ax, bx, cx, ay, by, cy = place
    across = ((1 + ax) * x + bx * y + cx) * _SCALE + (NEAR[0] - 1) / 2
    down = (ay * x + (1 + by) * y + cy) * _SCALE + (NEAR[1] - 1) / 2
    return cv2.remap(
        soft, across.astype(np.float32), down.astype(np.float32), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def _inner(plane: np.ndarray) -> np.ndarray:
    return plane[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN].ravel()


def _lit(model: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Returns gain and offset that bring a model nearest to a far frame."""
    return np.linalg.lstsq(np.column_stack([model, np.ones_like(model)]), far, rcond=None)[0]


def _miss(knobs: np.ndarray, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Returns the far frame's distance from its model, by pixels; knobs: place, log blur."""
    model = _inner(render(near, knobs[:6], tuple(np.exp(knobs[6:]))))
    gain, offset = _lit(model, far)
    # A weak pull, so that a frame without detail does not wander off.
    pull = 0.01 * (knobs - _USUAL) / _FREEDOM
    return np.asarray(np.concatenate([gain * model + offset - far, pull]))


def _slopes(knobs: np.ndarray, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Returns the slopes of `_miss` by central differences, wide enough for sampled pictures."""
    return np.column_stack(
        [
            (_miss(knobs + step, near, far) - _miss(knobs - step, near, far)) / (2 * step.max())
            for step in np.diag(_STEPS)
        ]
    )


def _starts(near: np.ndarray, far: np.ndarray, count: int = 2) -> list[np.ndarray]:
    """Returns the shifts and stretches of a coarse grid that correlate best with the far frame."""
    found = []
    for cx, cy, by in itertools.product((-3, -1.5, 0, 1.5, 3), (-1.5, 0, 1.5), (-0.15, 0, 0.25)):
        place = np.array([0, 0, cx, 0, by, cy], float)
        model = _inner(render(near, place, (0.026, 0.08)))
        found.append((float(np.corrcoef(model, far)[0, 1]), place))
    best = sorted(found, key=lambda pair: -pair[0])[:count]
    return [np.concatenate([place, np.log([0.026, 0.08])]) for _, place in best]


def fit_map(near: np.ndarray, far: np.ndarray) -> Fit:
    """Fits map, blur, gain and offset of luma [24, 48] from the ground truth's luma [72, 144]."""
    wanted = _inner(far)
    tries = [
        least_squares(_miss, start, _slopes, x_scale=_STEPS, max_nfev=30, args=(near, wanted))
        for start in _starts(near, wanted)
    ]
    knobs = min(tries, key=lambda one: one.cost).x
    blur = (float(np.exp(knobs[6])), float(np.exp(knobs[7])))
    model = _inner(render(near, knobs[:6], blur))
    gain, offset = _lit(model, wanted)
    rest = wanted - gain * model - offset
    explained = 1.0 - rest.var() / wanted.var()
    return Fit(knobs[:6], blur, float(gain), float(offset), float(explained), float(rest.std()))


def _basis(size: tuple[int, int]) -> list[np.ndarray]:
    """Returns light that is smooth: 1, x, y and their products on the filter's region."""
    y, x = (g / n - 0.5 for g, n in zip(np.mgrid[: size[1], : size[0]], size[::-1], strict=True))
    return [np.ones_like(x), x, y, x * x, x * y, y * y]


def _region(plane: np.ndarray, right: int = 0, down: int = 0) -> np.ndarray:
    rows, columns = (slice(e + o, n - e + o) for e, o, n in zip(
        _EDGE[::-1], (down, right), FAR[::-1], strict=True))  # fmt: skip
    return plane[rows, columns]


def fit_filter(model: np.ndarray, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits a free filter and smooth light by least squares with a ridge.

    Args:
      model: the ground truth's plane on the far grid [24, 48], hardly blurred.
      far: the frame's.

    Returns:
      The filter [7, 11], and the remainder on the region without edges, [12, 32].
    """
    shifts = itertools.product(range(-_REACH[1], _REACH[1] + 1), range(-_REACH[0], _REACH[0] + 1))
    columns = [_region(model, right, down).ravel() for down, right in shifts]
    wanted = _region(far)
    light = [plane.ravel() for plane in _basis(wanted.shape[::-1])]
    table = np.column_stack(columns + light).astype(float)
    ridge = np.diag([_RIDGE] * len(columns) + [1e-6] * len(light))
    answer = np.linalg.solve(table.T @ table + ridge, table.T @ wanted.ravel())
    kernel = answer[: len(columns)].reshape(2 * _REACH[1] + 1, 2 * _REACH[0] + 1)
    return kernel, wanted - (table @ answer).reshape(wanted.shape)


def correlation(rest: np.ndarray, right: int, down: int) -> float:
    """Autocorrelation of a remainder [H, W] at a distance."""
    rest = rest - rest.mean()
    height, width = rest.shape
    product = rest[: height - down, : width - right] * rest[down:, right:]
    return float(product.mean() / max(rest.var(), 1e-12))


def bands(rest: np.ndarray) -> list[float]:
    """Shares of a remainder's power at horizontal frequencies up to 1/8, 1/4 and 1/2 a pixel."""
    window = np.hanning(rest.shape[1])[None]
    power = (np.abs(np.fft.rfft((rest - rest.mean()) * window, axis=1)) ** 2).sum(axis=0)
    edges = np.array([0.0, 0.125, 0.25, 0.5001]) * rest.shape[1]
    bins = np.arange(len(power))
    parts = [power[(bins >= a) & (bins < b)].sum() for a, b in itertools.pairwise(edges)]
    return [float(part / power.sum()) for part in parts]


def _colour(near: np.ndarray, far: np.ndarray, fit: Fit) -> np.ndarray:
    """Returns what map and smooth light leave of a colour plane, given all planes of the truth."""
    models = [_region(render(np.ascontiguousarray(p), fit.place, fit.blur)) for p in
              np.moveaxis(near, 2, 0)]  # fmt: skip
    wanted = _region(far)
    table = np.column_stack([p.ravel() for p in (*models, *_basis(wanted.shape[::-1]))])
    answer = np.linalg.lstsq(table, wanted.ravel(), rcond=None)[0]
    return wanted - (table @ answer).reshape(wanted.shape)


def measure_frame(near: np.ndarray, far: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Measures one far frame.

    Args:
      near: planes of the ground truth, [72, 144, 3].
      far: the far of the far frame, [24, 48, 3].

    Returns:
      The measures by name, and luma's remainder.
    """
    luma = np.ascontiguousarray(near[..., 0])
    fit = fit_map(luma, far[..., 0])
    kernel, rest = fit_filter(render(luma, fit.place, _FINE), far[..., 0])
    across, down = kernel.sum(axis=0), kernel.sum(axis=1)
    peak = max(float(across.max()), 1e-3)
    tone = [_colour(near, far[..., k], fit) for k in (1, 2)]
    shares = bands(rest)
    measures = {
        "blur in x, % of the width": 100 * fit.blur[0],
        "blur in y, % of the height": 100 * fit.blur[1],
        "gain": fit.gain,
        "offset": fit.offset,
        "stretch in x": fit.place[0],
        "stretch in y": fit.place[4],
        "shear, rise a width": fit.place[3] * FAR[0] / FAR[1],
        "explained by map and blur": fit.explained,
        "rest of map and blur": fit.remainder,
        "spread of the far frame": float(_inner(far[..., 0]).std()),
        "spread of the ground truth": float(luma.std()),
        "mean of the far frame": float(far[..., 0].mean()),
        "mean of the ground truth": float(luma.mean()),
        "explained by the filter": 1.0 - float(rest.var() / _region(far[..., 0]).var()),
        "filter: peak in x": peak,
        "filter: lowest in x / peak": float(across.min()) / peak,
        **{
            f"filter: x, {k} pixels": float(across[_REACH[0] - k] + across[_REACH[0] + k]) / 2
            for k in range(1, 5)
        },
        "filter: peak in y": float(down.max()),
        "remainder": float(rest.std()),
        "remainder: x, 1 pixel": correlation(rest, 1, 0),
        "remainder: x, 2 pixels": correlation(rest, 2, 0),
        "remainder: x, 3 pixels": correlation(rest, 3, 0),
        "remainder: y, 1 pixel": correlation(rest, 0, 1),
        "remainder: y, 2 pixels": correlation(rest, 0, 2),
        "remainder: power below 1/8": shares[0],
        "remainder: power above 1/4": shares[2],
        "colour: remainder": float(np.sqrt(np.mean([np.var(t) for t in tone]))),
        "colour: x, 1 pixel": float(np.mean([correlation(t, 1, 0) for t in tone])),
        "colour: y, 1 pixel": float(np.mean([correlation(t, 0, 1) for t in tone])),
    }
    return measures, rest


def measure_group(group: Group) -> list[dict[str, float]]:
    """Measures the far frames of a group, and what their pictures and remainders share."""
    frames, truth = group
    near = planes(truth, NEAR)
    far = [planes(frame, FAR) for frame in frames[:3]]
    found = [measure_frame(near, plane) for plane in far]
    grain = noise(cv2.resize(truth, (136, 56), interpolation=cv2.INTER_AREA))[0] / 255.0
    pairs = list(itertools.combinations(range(len(far)), 2))
    lumas = [_region(plane[..., 0]).ravel() for plane in far]
    shared = {
        "noise of the ground truth": grain,
        "frames of a group: alike": float(
            np.mean([np.corrcoef(lumas[a], lumas[b])[0, 1] for a, b in pairs])
        ),
        "frames of a group: remainder alike": float(
            np.mean([_alike(found[a][1], found[b][1]) for a, b in pairs])
        ),
    }
    return [measures | shared for measures, _ in found]


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Best correlation of two remainders over shifts of up to a pixel in x and y."""
    inner = one[1:-1, 1:-1].ravel()
    height, width = one.shape
    shifted = [other[1 + j : height - 1 + j, 1 + i : width - 1 + i].ravel()
               for j, i in itertools.product((-1, 0, 1), repeat=2)]  # fmt: skip
    return float(max(np.corrcoef(inner, s)[0, 1] for s in shifted))


def measure(sets: Sequence[Group]) -> Table:
    """Measures all far frames of some groups: measure -> its values by frames."""
    rows = [row for group in sets for row in measure_group(group)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def spread(values: np.ndarray) -> tuple[float, float, float]:
    """Returns the 10th, 50th and 90th percentile."""
    low, middle, high = np.percentile(values, (10, 50, 90))
    return float(low), float(middle), float(high)


def report(columns: dict[str, Table]) -> str:
    """Returns a Markdown table, a column a set; the first set's range is what others must meet."""
    names = list(columns)
    lines = ["| measure | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for measure_name, values in columns[names[0]].items():
        low, _, high = spread(values)
        cells = []
        for name in names:
            a, b, c = spread(columns[name][measure_name])
            mark = "" if low <= b <= high else " *"
            cells.append(f"{b:.3f} ({a:.3f} to {c:.3f}){mark}")
        lines.append(f"| {measure_name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def changed(preset: str, changes: Sequence[str]) -> CameraModel[Range]:
    """Returns a preset with ranges replaced, each `field=low:high`."""
    model = PRESETS[preset]
    ranges = {}
    for change in changes:
        name, _, text = change.partition("=")
        low, _, high = text.partition(":")
        if not hasattr(model, name):
            raise SystemExit(f"{name}: the camera has no such field")
        ranges[name] = (float(low), float(high or low))
    return dataclasses.replace(model, **ranges)


def make(preset: str, count: int, seed: int, styles: Sequence[str] = STYLES) -> list[Group]:
    """Renders synthetic groups; their stored form differs from these by a nearly lossless JPEG."""
    return [groups.render_group([seed, i], preset=preset, styles=styles)[:2] for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--real", type=Path, required=True, help="an MDLP tree")
    parser.add_argument("--synthetic", type=Path, help="an MDLP tree, in place of rendering")
    parser.add_argument("--preset", nargs="+", default=["real-like"], choices=PRESETS)
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=LOW:HIGH",
                        help="ranges to try in place of the preset's")  # fmt: skip
    parser.add_argument("--groups", type=int, default=54, help="synthetic groups per preset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="keep all values in this JSON file")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    columns = {"real": measure(read_tree(args.real))}
    if args.synthetic:
        columns[args.synthetic.name] = measure(read_tree(args.synthetic))
    else:
        for name in args.preset:
            if args.set:
                PRESETS[name] = changed(name, args.set)
            columns[name] = measure(make(name, args.groups, args.seed))
    print(report(columns))
    if args.save:
        kept = {k: {n: v.tolist() for n, v in table.items()} for k, table in columns.items()}
        args.save.write_text(json.dumps(kept) + "\n")


if __name__ == "__main__":
    main()

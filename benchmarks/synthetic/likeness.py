"""How like the far frames of MDLP are the synthetic ones? Distributions, and a judge.

    python benchmarks/synthetic/likeness.py --real MDLP_ROOT [--preset real-like] [--sets 5]

Every far frame is brought to 42 x 14 pixels and described by measures of five families. A family's
distance is the mean over its measures of the 1-D Wasserstein distance between the real and the
synthetic distribution, in standard deviations of the real one (at least 5 % of its mean); `floor`
is the same between two random halves of the real groups. The judges are logistic regressions that
tell real frames from synthetic ones, cross-validated by group; 0.5 balanced accuracy is perfect.
Only statistics of the frames are used, never a text. Figures are means over several synthetic sets
of consecutive seeds, and `sd` is a judge's standard deviation over them.

`--synthetic DIR` measures a data set on disk instead of rendering; `--save FILE` keeps the figures
and `--beside FILE` prints kept ones in a further column. The first version's figures are kept in
benchmarks/synthetic/likeness_first_version.json.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.synthetic.groups import synthesize

# (width, height): MDLP's figure stretches all far frames to 43 x 20; this is a plate's own aspect.
SIZE = (42, 14)
# The kinds of plate among the 18 groups of MDLP's figure; the camera is judged, not the mix.
STYLES = ("cn-blue", "cn-green")
Group = tuple[list[np.ndarray], np.ndarray]


def read_tree(root: Path) -> list[Group]:
    """Reads the groups of every split of an MDLP tree: far frames and ground truth, uint8 RGB."""
    groups = []
    for folder in sorted(root.glob("*/inputs/*")):
        truth = next((folder.parents[1] / "gt" / folder.name).iterdir())
        frames = [cv2.imread(str(path)) for path in sorted(folder.iterdir())]
        groups.append(([frame[..., ::-1] for frame in frames], cv2.imread(str(truth))[..., ::-1]))
    if not groups:
        raise SystemExit(f"{root}: no groups; an MDLP root with <split>/inputs/<group> is wanted")
    return groups


def spectrum(image: np.ndarray) -> list[float]:
    """Natural logarithm of luma's power along rows and columns, in 5 bands each."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    window = np.outer(np.hanning(luma.shape[0]), np.hanning(luma.shape[1]))
    power = np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2
    fy, fx = (np.abs(np.fft.fftfreq(n)) for n in luma.shape)
    radius = np.hypot(fy[:, None], fx[None])
    edges = np.linspace(0.0, 0.5, 7)
    bands = [
        np.log(power[(radius > a) & (radius <= b)].mean()) for a, b in itertools.pairwise(edges)
    ]
    halves = [(fx > 0.25)[None] & (fy < 0.15)[:, None], (fx < 0.15)[None] & (fy > 0.25)[:, None]]
    return bands + [np.log(power[half].mean()) for half in halves]


def gradients(image: np.ndarray) -> list[float]:
    """Quantiles of the absolute differences along rows and along columns, in grey levels."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    across, down = np.abs(np.diff(luma, axis=1)), np.abs(np.diff(luma, axis=0))
    return [
        *np.quantile(across, (0.25, 0.5, 0.75, 0.95)),
        *np.quantile(down, (0.25, 0.5, 0.75, 0.95)),
    ]


def colours(image: np.ndarray) -> list[float]:
    """Means and spreads of CIE L*, a*, b* over the middle, and the share of clipped pixels."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab)[3:-3, 4:-4]
    clipped = [(image >= 250).all(axis=-1).mean(), (image <= 8).all(axis=-1).mean()]
    return [*lab.mean(axis=(0, 1)), *lab.std(axis=(0, 1)), *clipped]


def noise(image: np.ndarray) -> list[float]:
    """Immerkaer's estimate of the noise (CVIU 1996), of luma and of the two colour differences."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64)
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float64)
    return [
        np.sqrt(np.pi / 2) * np.abs(cv2.filter2D(p, -1, mask)).mean() / 6
        for p in np.moveaxis(planes, 2, 0)
    ]


def profile(image: np.ndarray) -> list[float]:
    """Brightness of border and middle: how far the plate fills the frame, and what is around it."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    rows, columns = luma[:, 8:-8].mean(axis=1), luma[4:-4].mean(axis=0)
    edges = [*rows[[0, 1, 3, -4, -2, -1]], *columns[[0, 2, 4, -5, -3, -1]]]
    return [edge - luma.mean() for edge in edges]


FAMILIES: dict[str, Callable[[np.ndarray], list[float]]] = {
    "power spectrum": spectrum,
    "gradients": gradients,
    "colour": colours,
    "noise level": noise,
    "border profile": profile,
}


def describe(groups: Sequence[Group]) -> dict[str, np.ndarray]:
    """Returns each family's measures of every far frame: [groups, frames, measures]."""
    table: dict[str, np.ndarray] = {}
    for name, measure in FAMILIES.items():
        table[name] = np.array(
            [
                [measure(cv2.resize(f, SIZE, interpolation=cv2.INTER_AREA)) for f in frames[:3]]
                for frames, _ in groups
            ]
        )
    ratios = [
        [target.shape[1] / frame.shape[1] for frame in frames[:3]] for frames, target in groups
    ]
    table["HR to LR size"] = np.array(ratios)[..., None]
    return table


def distance(real: np.ndarray, other: np.ndarray) -> float:
    """Mean over measures of the Wasserstein distance, in standard deviations of `real` [n, k]."""
    levels = (np.arange(200) + 0.5) / 200
    gap = np.abs(np.quantile(real, levels, axis=0) - np.quantile(other, levels, axis=0)).mean(
        axis=0
    )
    # MDLP's figure draws all pictures in equal cells, so their ratio of sizes hardly varies.
    spread = np.maximum(real.std(axis=0), 0.05 * np.abs(real.mean(axis=0)))
    return float((gap / np.maximum(spread, 1e-3)).mean())


def flat(measures: np.ndarray) -> np.ndarray:
    return measures.reshape(-1, measures.shape[-1])


def floor(measures: np.ndarray, seed: int = 0, repeats: int = 50) -> float:
    """Distance between random halves of the real groups [groups, frames, k], mean of many."""
    rng = np.random.default_rng(seed)
    halves = (np.array_split(rng.permutation(len(measures)), 2) for _ in range(repeats))
    return float(np.mean([distance(flat(measures[a]), flat(measures[b])) for a, b in halves]))


def logistic(x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: float = 3.0) -> np.ndarray:
    """Fits a weighted, L2-penalised logistic regression by Newton's method; returns [k + 1]."""
    x = np.column_stack([x, np.ones(len(x))])
    theta = np.zeros(x.shape[1])
    ridge = np.diag([penalty] * (x.shape[1] - 1) + [1e-6])
    for _ in range(25):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ theta, -30, 30)))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge
        theta -= np.linalg.solve(hessian, x.T @ (weight * (p - y)) + ridge @ theta)
    return theta


def judge(real: np.ndarray, other: np.ndarray, folds: int = 6, repeats: int = 5) -> float:
    """Cross-validates a judge over groups.

    Args:
      real: measures of the real frames [groups, frames, k].
      other: measures of the synthetic ones.

    Returns:
      Balanced accuracy on groups that were not fitted, mean over repeats.
    """
    scores = []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        hits: list[list[bool]] = [[], []]
        parts = [np.array_split(rng.permutation(len(m)), folds) for m in (real, other)]
        for fold in range(folds):
            train, test = [], []
            for measures, part in zip((real, other), parts, strict=True):
                held = np.zeros(len(measures), bool)
                held[part[fold]] = True
                train.append(flat(measures[~held]))
                test.append(flat(measures[held]))
            x = np.concatenate(train)
            mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
            y = np.repeat([1.0, 0.0], [len(t) for t in train])
            weight = np.repeat([54.0 / len(t) for t in train], [len(t) for t in train])
            theta = logistic((x - mean) / spread, y, weight)
            for label, t in enumerate(test):
                score = (t - mean) / spread @ theta[:-1] + theta[-1]
                hits[label].extend((score > 0) == (label == 0))
        scores.append(np.mean([np.mean(h) for h in hits]))
    return float(np.mean(scores))


def pixels(groups: Sequence[Group]) -> np.ndarray:
    """Returns the frames as 24 x 12 RGB pixels in 0..1, [groups, frames, 864]."""
    small = [
        [cv2.resize(frame, (24, 12), interpolation=cv2.INTER_AREA).ravel() for frame in frames[:3]]
        for frames, _ in groups
    ]
    return np.array(small) / 255.0


def principal(*sets: np.ndarray, components: int = 30) -> list[np.ndarray]:
    """Projects several sets [groups, frames, k] on the principal components of their union."""
    union = np.concatenate([flat(s) for s in sets])
    mean = union.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(union - mean, rowvar=False))
    return [(s - mean) @ vectors[:, -components:] for s in sets]


def compare(real: Sequence[Group], other: Sequence[Group]) -> dict[str, float]:
    """Returns every distance and both judges' accuracies."""
    a, b = describe(real), describe(other)
    figures = {name: distance(flat(a[name]), flat(b[name])) for name in a}
    joined = [np.concatenate([table[name] for name in FAMILIES], axis=-1) for table in (a, b)]
    figures["judge on measures"] = judge(*joined)
    figures["judge on pixels"] = judge(*principal(pixels(real), pixels(other)))
    return figures


def pool(sets: Sequence[dict[str, float]]) -> dict[str, float]:
    """Returns the means of several sets' figures, and the judges' standard deviations."""
    figures = {}
    for name in sets[0]:
        values = [one[name] for one in sets]
        figures[name] = float(np.mean(values))
        if name.startswith("judge") and len(sets) > 1:
            figures[f"{name}, sd"] = float(np.std(values, ddof=1))
    return figures


def report(columns: dict[str, dict[str, float]]) -> str:
    """Returns a Markdown table, one column a set of figures."""
    rows = [["measure", *columns], ["---"] * (len(columns) + 1)]
    for name in columns["now"]:
        values = [column.get(name) for column in columns.values()]
        rows.append([name, *("" if value is None else f"{value:.3f}" for value in values)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def make(preset: str, groups: int, seed: int) -> list[Group]:
    """Writes a synthetic set as users do, and reads it."""
    with tempfile.TemporaryDirectory() as folder:
        synthesize(folder, groups=groups, seed=seed, preset=preset, styles=STYLES)
        return read_tree(Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--real", type=Path, required=True, help="an MDLP tree")
    parser.add_argument("--synthetic", type=Path, help="an MDLP tree, in place of rendering")
    parser.add_argument("--preset", default="real-like")
    parser.add_argument("--groups", type=int, default=300, help="synthetic groups per set")
    parser.add_argument("--sets", type=int, default=5, help="synthetic sets")
    parser.add_argument("--seed", type=int, default=0, help="of the first set")
    parser.add_argument("--save", type=Path, help="keep the figures in this JSON file")
    parser.add_argument("--beside", type=Path, help="print the figures of such a file too")
    args = parser.parse_args()
    real = read_tree(args.real)
    if args.synthetic:
        figures = compare(real, read_tree(args.synthetic))
    else:
        seeds = range(args.seed, args.seed + args.sets)
        figures = pool([compare(real, make(args.preset, args.groups, seed)) for seed in seeds])
    columns = {"now": figures}
    if args.beside:
        columns = {args.beside.stem: json.loads(args.beside.read_text())} | columns
    columns["floor"] = {name: floor(values) for name, values in describe(real).items()}
    print(report(columns))
    if args.save:
        args.save.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

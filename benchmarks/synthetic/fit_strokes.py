"""Strokes of our own, fitted to pictures of characters.

    python benchmarks/synthetic/fit_strokes.py GLYPHS OUT.json [--only 4AMK]

GLYPHS holds `140_<character>.jpg` (plates of one row) and `green_<character>.jpg` (new energy),
dark characters that fill their pictures. Each is thinned to a skeleton, the skeleton is cut into
lines of few points, and points and widths are moved until the drawn strokes cover the picture best
(Adam on the distance to the strokes). OUT.json holds what `data_pipeline.synthetic.strokes` draws:
lines with their widths in quarter millimetres of a character of 45 x 90 mm.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np

WIDTH, HEIGHT = 45, 90  # millimetres
_FINE = 3  # pixels a millimetre of the skeleton
_COARSE = 1.5  # of the pictures that are compared
_SPUR = 5.0  # millimetres: shorter dead ends of a skeleton come from corners
_TOLERANCE = 0.5  # millimetres between a line and the skeleton
_SOFT = 0.35  # millimetres over which a stroke's edge fades, while it is fitted
_UNIT = 4  # steps a millimetre of what is written
# The eight neighbours in turn, clockwise from above, as shifts of the picture.
_RING = ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
Line = np.ndarray  # [n, 2] millimetres


def read_glyph(path: Path) -> np.ndarray:
    """Reads a glyph as ink that fills 45 x 90 mm, float32 [270, 135] in 0..1.

    The bare 1 keeps its place in its picture, which is as wide as the others'.
    """
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
    size = WIDTH * _FINE, HEIGHT * _FINE
    return 1.0 - cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0


def thin(ink: np.ndarray) -> np.ndarray:
    """Thins a picture to its skeleton (Zhang and Suen, CACM 1984): bool [H, W]."""
    image = np.pad(ink, 1)
    while True:
        before = image.sum()
        for step in (0, 1):
            p = [np.roll(image, shift, (0, 1)) for shift in _RING]
            count = sum(q.astype(int) for q in p)
            rises = sum((~p[k] & p[(k + 1) % 8]).astype(int) for k in range(8))
            a, b = ((p[0] & p[2] & p[4], p[2] & p[4] & p[6]) if step == 0 else
                    (p[0] & p[2] & p[6], p[0] & p[4] & p[6]))  # fmt: skip
            image = image & ~((count >= 2) & (count <= 6) & (rises == 1) & ~a & ~b)
        if image.sum() == before:
            return np.asarray(image[1:-1, 1:-1])


def _around(pixel: tuple[int, int], pixels: set[tuple[int, int]]) -> list[tuple[int, int]]:
    row, column = pixel
    near = [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    # Straight neighbours first: a diagonal beside one of them is the same way.
    near.sort(key=lambda q: abs(q[0] - row) + abs(q[1] - column))
    kept: list[tuple[int, int]] = []
    for q in near:
        if q in pixels and not any(abs(q[0] - k[0]) + abs(q[1] - k[1]) == 1 for k in kept):
            kept.append(q)
    return kept


def trace(skeleton: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """Cuts a skeleton at its forks: paths [n, 2] in pixels (x, y), and whether each is a spur."""
    pixels = {(int(r), int(c)) for r, c in np.argwhere(skeleton)}
    links = {p: _around(p, pixels) for p in pixels}
    nodes = {p for p in pixels if len(links[p]) != 2}
    seen: set[tuple[tuple[int, int], tuple[int, int]]] = set()
    paths = []

    def walk(start: tuple[int, int], step: tuple[int, int]) -> list[tuple[int, int]]:
        path = [start, step]
        seen.add((start, step))
        while path[-1] not in nodes and path[-1] != start:
            onward = [q for q in links[path[-1]] if q != path[-2]]
            if not onward:
                break
            path.append(onward[0])
        seen.add((path[-1], path[-2]))
        return path

    for node in sorted(nodes):
        for step in links[node]:
            if (node, step) not in seen:
                paths.append(walk(node, step))
    covered = {p for path in paths for p in path} | nodes
    for pixel in sorted(pixels):  # rings without a fork
        if pixel not in covered:
            ring = walk(pixel, links[pixel][0])
            covered.update(ring)
            paths.append(ring)
    free = {p for p in nodes if len(links[p]) == 1}
    # A piece with two free ends is a stroke of its own, however short.
    return [(np.array(path)[:, ::-1], (path[0] in free) != (path[-1] in free)) for path in paths]


def lines(ink: np.ndarray) -> tuple[list[Line], list[float]]:
    """Returns the lines of a glyph's skeleton in millimetres, and their widths."""
    solid = ink > 0.5
    depth = cv2.distanceTransform(np.pad(solid, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    found, widths = [], []
    for path, loose in trace(thin(solid)):
        length = np.hypot(*np.diff(path, axis=0).T).sum() / _FINE
        if (loose and length < _SPUR) or length < 1.0:
            continue
        curve = path.astype(np.float32)[:, None] / _FINE
        closed = len(path) > 8 and bool((path[0] == path[-1]).all())
        simple = cv2.approxPolyDP(curve, _TOLERANCE, False)[:, 0]
        if closed and len(simple) < 4:
            simple = curve[:: max(len(curve) // 8, 1), 0]
        found.append(simple.astype(float))
        widths.append(2.0 * float(np.median(depth[path[:, 1], path[:, 0]])) / _FINE)
    return found, widths


def _segments(found: list[Line]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns all points [p, 2], the two ends of every segment [s, 2], its line [s]."""
    ends, owner, at = [], [], 0
    for number, line in enumerate(found):
        for k in range(len(line) - 1):
            ends.append((at + k, at + k + 1))
            owner.append(number)
        at += len(line)
    return np.concatenate(found), np.array(ends), np.array(owner)


def coverage(
    points: jax.Array, widths: jax.Array, ends: np.ndarray, owner: np.ndarray, grid: jax.Array
) -> jax.Array:
    """Returns how much of each place [n, 2] (millimetres) the strokes cover, [n] in 0..1."""
    a, b = points[ends[:, 0]], points[ends[:, 1]]
    along = b - a
    square = (along**2).sum(-1) + 1e-6
    offset = grid[:, None] - a
    share = jnp.clip((offset * along).sum(-1) / square, 0.0, 1.0)
    distance = jnp.sqrt(((offset - share[..., None] * along) ** 2).sum(-1) + 1e-6)
    depth = (widths[owner] / 2 - distance).max(axis=1)
    return jax.nn.sigmoid(depth / _SOFT)


def refine(
    ink: np.ndarray, found: list[Line], widths: list[float], steps: int = 400, even: bool = False
) -> tuple[list[Line], list[float]]:
    """Moves points and widths until the strokes cover the ink best; `even`: one width for all."""
    points, ends, owner = _segments(found)
    size = round(WIDTH * _COARSE), round(HEIGHT * _COARSE)
    target = jnp.asarray(cv2.resize(ink, size, interpolation=cv2.INTER_AREA).ravel())
    y, x = np.mgrid[: size[1], : size[0]]
    grid = jnp.asarray(np.column_stack([x.ravel(), y.ravel()]) + 0.5) / _COARSE
    start = jnp.asarray(points), jnp.asarray(widths)

    def loss(knobs: tuple[jax.Array, jax.Array]) -> jax.Array:
        breadth = jnp.full_like(knobs[1], knobs[1].mean()) if even else knobs[1]
        miss = coverage(knobs[0], breadth, ends, owner, grid) - target
        # A weak hold, so that a point that nothing needs stays where it is.
        return (miss**2).sum() + 1e-3 * ((knobs[0] - start[0]) ** 2).sum()

    value = jax.value_and_grad(loss)

    @jax.jit
    def fit(knobs):
        def step(carry, rate):
            knobs, first, second, count = carry
            _, slope = value(knobs)
            count = count + 1
            first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
            second = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, second, slope)
            knobs = jax.tree.map(
                lambda k, m, v: k - rate * (m / (1 - 0.9**count))
                / (jnp.sqrt(v / (1 - 0.99**count)) + 1e-8),
                knobs, first, second,
            )  # fmt: skip
            return (knobs, first, second, count), None

        zero = jax.tree.map(jnp.zeros_like, knobs)
        rates = 0.25 * 0.5 * (1 + jnp.cos(jnp.linspace(0.0, jnp.pi, steps)))
        return jax.lax.scan(step, (knobs, zero, zero, 0.0), rates)[0][0]

    moved, breadth = fit(start)
    if even:
        breadth = jnp.full_like(breadth, breadth.mean())
    cuts = np.cumsum([len(line) for line in found])[:-1]
    return np.split(np.asarray(moved), cuts), [float(w) for w in breadth]


def packed(found: list[Line], widths: list[float]) -> list[list[int]]:
    """Returns lines as whole numbers: width, then x and y of each point; quarter millimetres."""
    return [
        [round(width * _UNIT), *(int(v) for v in np.round(line * _UNIT).ravel())]
        for line, width in zip(found, widths, strict=True)
    ]


def glyphs(folder: Path, only: str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields the alphabet (`140` or `green`), the character and its ink."""
    for path in sorted(folder.glob("*.jpg")):
        match = re.fullmatch(r"(140|green)_(.)", path.stem)
        if match and (not only or match[2] in only):
            yield match[1], match[2], read_glyph(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("glyphs", type=Path, help="folder of pictures of characters")
    parser.add_argument("out", type=Path, help="JSON file of the strokes; what it holds is kept")
    parser.add_argument("--only", default="", help="these characters")
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    strokes = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    for alphabet, character, ink in glyphs(args.glyphs, args.only):
        found, widths = lines(ink)
        found, widths = refine(ink, found, widths, args.steps, even=ord(character) < 128)
        strokes.setdefault(alphabet, {})[character] = packed(found, widths)
        print(alphabet, character, len(found), "lines", sum(len(f) for f in found), flush=True)
        text = json.dumps(strokes, ensure_ascii=False, separators=(",", ":"))
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

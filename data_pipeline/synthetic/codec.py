"""The recorder: ghosts, combs, video compression, enlargement of far crops, JPEG.

Pictures are uint8 RGB.
"""

import cv2
import numpy as np

_BLOCK = 8


def _dct_matrix(n: int) -> np.ndarray:
    k = np.arange(n)
    matrix = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * n)) * np.sqrt(2.0 / n)
    matrix[0] /= np.sqrt(2.0)
    return matrix.astype(np.float32)


_DCT = _dct_matrix(_BLOCK)


def video(
    image: np.ndarray,
    qp: float,
    rng: np.random.Generator,
    reference: np.ndarray | None = None,
    change: float = 0.0,
) -> np.ndarray:
    """Compresses as H.264 does a block: an 8 x 8 transform, one step size, half-size colour.

    The step is 0.625 * 2 ** (QP / 6) (ITU-T H.264, table 8-13 in effect; Richardson, "The H.264
    advanced video compression standard", 2010); a dead zone swallows small coefficients, those
    below two thirds of a step, or five sixths of one in predicted frames; block edges are then
    smoothed as by the loop filter.

    Args:
      image: uint8 RGB [H, W, 3].
      qp: quantisation parameter, 18 (clean) to 42 (ruined).
      rng: the generator that decides where the block grid starts.
      reference: the frame before, moved as the plate has moved, uint8 RGB [H, W, 3]: what changed
        since is coded. With None the frame is coded alone.
      change: quantisation steps; a block none of whose coefficients has changed by more repeats
        the reference (the standard's skipped macroblocks).
    """
    step = 0.625 * 2.0 ** (qp / 6.0)
    height, width = image.shape[:2]
    down, right = (int(v) for v in rng.integers(0, _BLOCK, 2))
    tail = [-(n + offset) % (2 * _BLOCK) for n, offset in ((height, down), (width, right))]
    border = down, tail[0], right, tail[1]
    luma, colour = _planes(image, border)
    old_luma, old_colour = (None, None) if reference is None else _planes(reference, border)
    planes = [_quantise(luma, step, old_luma, change)]
    for k in range(2):
        old = None if old_colour is None else old_colour[..., k]
        coarse = _quantise(colour[..., k], step, old, change)
        planes.append(cv2.resize(coarse, luma.shape[::-1], interpolation=cv2.INTER_LINEAR))
    levels = np.clip(np.round(cv2.merge(planes)), 0, 255).astype(np.uint8)
    return cv2.cvtColor(levels, cv2.COLOR_YCrCb2RGB)[down : down + height, right : right + width]


def _planes(image: np.ndarray, border: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns luma [H, W] and half-size colour differences [H / 2, W / 2, 2], float32, padded."""
    top, bottom, left, right = border
    padded = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE)
    ycc = cv2.cvtColor(padded, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    half = cv2.resize(ycc[..., 1:], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return ycc[..., 0], half


def _quantise(
    plane: np.ndarray, step: float, reference: np.ndarray | None, change: float
) -> np.ndarray:
    """Quantises a float32 plane [H, W] with sides multiples of 8, and smooths its block edges."""
    rows, columns = (n // _BLOCK for n in plane.shape)
    start = np.float32(128.0) if reference is None else reference
    blocks = (plane - start).reshape(rows, _BLOCK, columns, _BLOCK).transpose(0, 2, 1, 3)
    scaled = (_DCT @ blocks @ _DCT.T) / step
    zone = 1.0 / 3.0 if reference is None else 1.0 / 6.0
    kept = np.sign(scaled) * np.floor(np.abs(scaled) + zone) * step
    if reference is not None:
        kept *= np.abs(scaled).max(axis=(2, 3), keepdims=True) > change
    plane = (_DCT.T @ kept @ _DCT).transpose(0, 2, 1, 3).reshape(plane.shape) + start
    return _deblock(_deblock(plane, step).T, step).T


def _deblock(plane: np.ndarray, step: float) -> np.ndarray:
    """Draws the two rows beside a block edge together where they differ by less than two steps."""
    before, after = plane[_BLOCK - 1 : -1 : _BLOCK], plane[_BLOCK::_BLOCK]
    gap = np.where(np.abs(after - before) < 2.0 * step, after - before, 0.0) / 4.0
    plane = plane.copy()
    plane[_BLOCK - 1 : -1 : _BLOCK] += gap
    plane[_BLOCK::_BLOCK] -= gap
    return plane


def mix(image: np.ndarray, before: np.ndarray, share: float) -> np.ndarray:
    """Averages a frame with the one before, as cameras reduce noise over time: uint8 RGB.

    A recursive filter (Dubois and Sabri, "Noise reduction in image sequences using
    motion-compensated temporal filtering", IEEE Transactions on Communications 1984); what has
    moved leaves a ghost.

    Args:
      image, before: uint8 RGB [H, W, 3].
      share: the share of the frame before, 0 to 0.6.
    """
    return cv2.addWeighted(image, 1.0 - share, before, share, 0.0)


def interlace(image: np.ndarray, shift: float) -> np.ndarray:
    """Shifts every second row, as where two fields of a moving car are woven into one frame.

    Args:
      image: the picture, uint8 RGB.
      shift: the shift of the second field, pixels; a car that crosses 1 pixel in 1/50 s: 1.
    """
    move = np.array([[1.0, 0.0, shift], [0.0, 1.0, 0.0]])
    size = image.shape[1], image.shape[0]
    moved = cv2.warpAffine(image, move, size, borderMode=cv2.BORDER_REPLICATE)
    woven = image.copy()
    woven[1::2] = moved[1::2]
    return woven


def enlarge(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarges a far crop as recorders do before they store it.

    Cubic convolution (Keys, IEEE ASSP 1981); 1 to 2 times is usual for far crops.

    Args:
      image: the picture, uint8 RGB.
      size: (height, width) in pixels.
    """
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)


def jpeg(image: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    """Compresses as a part of a larger JPEG picture (ITU-T T.81), 4:2:0: the grid starts anywhere.

    Args:
      image: uint8 RGB [H, W, 3].
      quality: libjpeg's, 1 to 100.
      rng: the generator that decides where the block grid starts.
    """
    height, width = image.shape[:2]
    down, right = (int(v) for v in rng.integers(0, 16, 2))
    padded = cv2.copyMakeBorder(image, down, 16, right, 16, cv2.BORDER_REPLICATE)
    _, data = cv2.imencode(".jpg", padded[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return decoded[down : down + height, right : right + width, ::-1]

"""Encoded images to RGB arrays: the one place where a file's format matters.

Needs numpy, OpenCV and Pillow alone, so that restoring does not pull in the training stack.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from data_pipeline.errors import DataError
from data_pipeline.files import read_bytes

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".webp", ".tif", ".tiff",
)  # fmt: skip
# What a decoder may be asked to unpack: a plate crop has thousands of pixels, a photograph 50
# million; more is a mistake or an attack, and would fill the memory.
MAX_PIXELS = 100_000_000

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
# Pages of one file that are read at most: a scanner's TIFF has tens, an animation hundreds.
MAX_PAGES = 1000
# Bytes without a marker, that decode to anything but an even grey.
_JPEG_TAIL = bytes(i * 73 % 251 for i in range(1, 400))
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes one image of any common kind.

    JPEG, PNG, BMP, WebP, TIFF and the PPM of `encode_ppm`; grey, palette, CMYK and 16-bit images
    become 8-bit RGB, transparent pixels are laid on white, and a rotation noted in EXIF is
    carried out.

    Args:
      data: the encoded file.
      name: what to call it in an error, usually its path.

    Returns:
      uint8 RGB [H, W, 3].

    Raises:
      DataError: when it is empty, no image, truncated, damaged or larger than `MAX_PIXELS`.
    """
    if not data:
        raise DataError(f"{name}: the file is empty")
    if data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9"):
        return _decode_whole_jpeg(data, name)
    if data.startswith(b"P6\n"):
        return _decode_ppm(data, name)
    return next(_decode_with_pillow(data, name))


def decode_pages(data: bytes, name: str) -> Iterator[np.ndarray]:
    """Decodes every picture of a file, one at a time: pages of a TIFF, frames of an APNG or GIF.

    A JPEG is also checked to hold all of its picture, see `is_cut_jpeg`.

    Args:
      data: the encoded file.
      name: what to call it in an error.

    Yields:
      uint8 RGB [H, W, 3].

    Raises:
      DataError: as `decode_image`; or the file has more than `MAX_PAGES` pictures.
    """
    if data.startswith((b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")):
        yield from _decode_with_pillow(data, name)
        return
    image = decode_image(data, name)
    if data.startswith(b"\xff\xd8\xff") and is_cut_jpeg(data, image):
        raise DataError(
            f"{name}: a JPEG whose picture breaks off, and whose end was put back: the rest would "
            "be filled with grey"
        )
    yield image


def is_cut_jpeg(data: bytes, image: np.ndarray) -> bool:
    """Whether a JPEG ends before its picture does, although its end marker is in place.

    Decoders fill up such a file in silence. Behind a complete picture further bytes are skipped;
    behind one that breaks off they are decoded, and change it.

    Args:
      data: the file.
      image: what it decodes to, uint8 RGB.
    """
    end = data.rfind(b"\xff\xd9")
    if end < 0:
        return True
    longer = data[:end] + _JPEG_TAIL + data[end:]
    try:
        with Image.open(io.BytesIO(data)) as short, Image.open(io.BytesIO(longer)) as long:
            return short.size != long.size or short.tobytes() != long.tobytes()
    except Exception:  # as in `_decode_with_pillow`
        return True


def encode_ppm(image: np.ndarray) -> bytes:
    """u8 RGB [H, W, 3] as binary PPM: nothing is lost, and decoding it costs nothing."""
    height, width = image.shape[:2]
    return b"P6\n%d %d\n255\n" % (width, height) + image.tobytes()


def read_image(path: str | Path) -> np.ndarray:
    """Reads one image file as uint8 RGB [H, W, 3]; see `decode_image`."""
    return decode_image(read_bytes(path), str(path))


def resize(image: np.ndarray, size: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
    """Resizes to `size` = (H, W), bilinear without antialiasing, as the published system does.

    Writes into `out`, a contiguous array of the result's shape and type, where it is given.
    """
    if out is not None and image.shape == out.shape:
        out[...] = image
        return out
    return cv2.resize(image, size[::-1], dst=out, interpolation=cv2.INTER_LINEAR)


def _decode_whole_jpeg(data: bytes, name: str) -> np.ndarray:
    # OpenCV is five times as fast as Pillow, and agrees with it to a grey level; but some of its
    # versions fill up a truncated file in silence, hence only files with their end in place.
    height, width = _jpeg_size(data)
    _check_size(height, width, name)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DataError(f"{name}: a damaged JPEG: it cannot be decoded")
    return image


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(H, W) from the JPEG frame header; (0, 0) where there is none."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _START_OF_FRAME:
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            return height, int.from_bytes(data[position + 7 : position + 9], "big")
        if marker == 0xFF:  # a fill byte
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return 0, 0


def _check_size(height: int, width: int, name: str) -> None:
    if height * width > MAX_PIXELS:
        raise DataError(
            f"{name}: {width} x {height} pixels are more than the {MAX_PIXELS:,} that are read; "
            "cut out the plate first"
        )


def _decode_ppm(data: bytes, name: str) -> np.ndarray:
    header = re.match(rb"P6\n(\d{1,9}) (\d{1,9})\n255\n", data)
    if header is None:
        raise DataError(f"{name}: a damaged PPM: its header cannot be read")
    width, height = int(header[1]), int(header[2])
    pixels = np.frombuffer(data, np.uint8, offset=header.end())
    if pixels.size != height * width * 3 or not pixels.size:
        raise DataError(f"{name}: a damaged PPM: {pixels.size} bytes for {width} x {height} pixels")
    return pixels.reshape(height, width, 3)


def _decode_with_pillow(data: bytes, name: str) -> Iterator[np.ndarray]:
    """Each picture of a file in turn."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        _check_size(image.height, image.width, name)
        pages = getattr(image, "n_frames", 1)
        if pages > MAX_PAGES:
            raise DataError(f"{name}: {pages:,} pictures are more than the {MAX_PAGES:,} read")
        for page in range(pages):
            image.seek(page)
            _check_size(image.height, image.width, name)
            yield _to_rgb(ImageOps.exif_transpose(image), name)
    except (DataError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        kinds = ", ".join(_FORMATS)
        raise DataError(f"{name}: not an image of a known kind ({kinds})") from error
    except Exception as error:  # damaged files raise nearly anything, from OSError to struct.error
        raise DataError(f"{name}: a damaged image: {error}") from error


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.mode.startswith("I;16"):  # which convert() would clip at 255
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode[:1] in "IF":
        grey = _to_bytes(np.asarray(image, np.float64), image.mode == "F", name)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(canvas, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def _to_bytes(values: np.ndarray, real: bool, name: str) -> np.ndarray:
    """Grey of 32 bits as 8; its range is told by its largest value: 1 (of floats), 255 or 65535."""
    if not np.isfinite(values).all() or values.min() < 0:
        raise DataError(f"{name}: holds values that are no grey (negative, infinite or none)")
    most = float(values.max())
    ranges = [limit for limit in ((1.0,) if real else ()) + (255.0, 65535.0) if most <= limit]
    scale = 255.0 / (ranges[0] if ranges else most)
    return np.round(values * scale).astype(np.uint8)

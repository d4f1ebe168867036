import io

import numpy as np
import pytest
from PIL import Image

from data_pipeline import images
from data_pipeline.errors import DataError
from data_pipeline.files import MAX_BYTES


def picture(height=12, width=20):
    """A smooth RGB picture: every encoder keeps it within a few grey levels."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 8 + 40, y * 10 + 60, 200 - x * 6], -1).astype(np.uint8)


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def error_of(decoded, expected):
    assert decoded.dtype == np.uint8 and decoded.shape == expected.shape
    return np.abs(decoded.astype(int) - expected).max()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "TIFF", "JPEG"])
def test_every_kind_gives_the_same_rgb(kind):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    data = encode(Image.fromarray(picture()), kind, **options.get(kind, {}))
    assert error_of(images.decode_image(data, "x"), picture()) <= (3 if kind == "JPEG" else 0)


def test_ppm_gives_back_the_pixels():
    np.testing.assert_array_equal(images.decode_image(images.encode_ppm(picture()), "x"), picture())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_rotation_is_carried_out(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture is to be rotated by 90 degrees clockwise
    data = encode(Image.fromarray(picture()), kind, exif=exif, quality=100)
    turned = np.rot90(picture(), -1)
    assert error_of(images.decode_image(data, "x"), turned) <= 12


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_grey_becomes_three_equal_channels(kind):
    grey = picture()[..., 0]
    decoded = images.decode_image(encode(Image.fromarray(grey), kind), "x")
    assert error_of(decoded, np.repeat(grey[..., None], 3, -1)) <= 3


def test_sixteen_bits_keep_their_upper_half():
    grey = np.linspace(0, 65535, 240).reshape(12, 20).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        decoded = images.decode_image(encode(Image.fromarray(grey), kind), "x")
        assert error_of(decoded, np.repeat((grey >> 8)[..., None], 3, -1)) == 0


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    image = Image.fromarray(picture()).convert("CMYK")
    decoded = images.decode_image(encode(image, kind), "x")
    assert error_of(decoded, np.asarray(image.convert("RGB"))) <= 8


def test_transparency_lies_on_white():
    rgba = np.dstack([picture(), np.full((12, 20), 255, np.uint8)])
    rgba[:, 10:, 3] = 0
    decoded = images.decode_image(encode(Image.fromarray(rgba), "PNG"), "x")
    assert error_of(decoded[:, :10], picture()[:, :10]) == 0
    assert (decoded[:, 10:] == 255).all()


def test_palette_with_a_transparent_colour():
    image = Image.fromarray(picture()).quantize(8)
    data = encode(image, "PNG", transparency=int(np.asarray(image)[0, 0]))
    assert (images.decode_image(data, "x")[0, 0] == 255).all()


def jpeg():
    return encode(Image.fromarray(picture(80, 120)), "JPEG")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "is empty"),
        (b"not an image at all", "not an image"),
        (jpeg()[:-100], "damaged"),
        (jpeg()[:200] + b"\xff\xd9", "damaged"),
        (jpeg()[:3], "not an image|damaged"),
        (encode(Image.fromarray(picture(80, 120)), "PNG")[:150], "damaged"),
        (encode(Image.fromarray(picture()), "PCX"), "not an image"),
        (images.encode_ppm(picture())[:-1], "damaged PPM: 719 bytes for 20 x 12"),
        (b"P6\n0 0\n255\n", "damaged PPM"),
        (b"P6\n# a comment\n20 12\n255\n", "damaged PPM"),
    ],
)
def test_bad_data_names_the_file_and_the_fault(data, reason):
    with pytest.raises(DataError, match=f"^a/b.jpg: .*({reason})"):
        images.decode_image(data, "a/b.jpg")


def test_a_jpeg_that_claims_to_be_huge_is_not_unpacked():
    data = bytearray(jpeg())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = b"\xff\x00\xff\x00"
    with pytest.raises(DataError, match=r"x.jpg: 65280 x 65280 pixels"):
        images.decode_image(bytes(data), "x.jpg")


def test_a_png_that_claims_to_be_huge_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    with pytest.raises(DataError, match="20 x 12 pixels are more than"):
        images.decode_image(encode(Image.fromarray(picture()), "PNG"), "x.png")


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no room
    with pytest.raises(DataError, match="bytes are more than"):
        images.read_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.jpg: cannot be read: No such file"):
        images.read_image(tmp_path / "nothing.jpg")


def test_resize_is_bilinear_without_antialiasing():
    column = np.zeros((8, 1, 3), np.uint8)
    column[4] = 255
    # Output row i samples at 2 i + 0.5: halfway between rows 2 i and 2 i + 1, no wider.
    half = images.resize(column, (4, 1))[:, 0, 0]
    np.testing.assert_array_equal(half, [0, 0, 128, 0])
    out = np.empty((4, 1, 3), np.uint8)
    images.resize(column, (4, 1), out)
    np.testing.assert_array_equal(out[:, 0, 0], half)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_end_was_put_back_is_told(progressive):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    data = encode(Image.fromarray(noise), "JPEG", progressive=progressive)
    assert len(list(images.decode_pages(data, "x"))) == 1
    assert len(list(images.decode_pages(data + b"a trailer of a phone", "x"))) == 1
    for share in (0.6, 0.9, 0.99):
        cut = data[: int(len(data) * share)].rstrip(b"\xff") + b"\xff\xd9"
        with pytest.raises(DataError, match=r"x: .*breaks off|x: a damaged"):
            list(images.decode_pages(cut, "x"))


@pytest.mark.parametrize(
    ("dtype", "most"), [("float32", 1.0), ("float32", 255.0), ("int32", 255), ("int32", 65535)]
)
def test_grey_of_32_bits_keeps_its_range(dtype, most):
    grey = (np.linspace(0, 1, 240).reshape(12, 20) * most).astype(dtype)
    decoded = images.decode_image(encode(Image.fromarray(grey), "TIFF"), "x")
    assert error_of(decoded, np.repeat((grey / most * 255)[..., None], 3, -1).astype(np.uint8)) <= 1


def test_grey_that_is_no_number_is_refused():
    grey = np.full((12, 20), np.nan, np.float32)
    with pytest.raises(DataError, match="no grey"):
        images.decode_image(encode(Image.fromarray(grey), "TIFF"), "x")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "WEBP"])
def test_every_page_is_decoded(kind):
    pages = [Image.fromarray(np.full((12, 20, 3), grey, np.uint8)) for grey in (10, 120, 230)]
    data = encode(pages[0], kind, save_all=True, append_images=pages[1:])
    means = [page.mean() for page in images.decode_pages(data, "x")]
    np.testing.assert_allclose(means, [10, 120, 230], atol=3)

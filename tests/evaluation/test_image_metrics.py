"""PSNR and SSIM against the golden vectors, and on cases with a known answer."""

from pathlib import Path

import numpy as np
import pytest

from lpdiff_jax.evaluation.metrics.image_metrics import psnr, ssim

GOLDEN = Path(__file__).parents[1] / "golden/metrics.npz"


@pytest.fixture(scope="module")
def golden():
    arrays = np.load(GOLDEN)
    return {k: np.stack([arrays[f"{k}{i}"] for i in range(4)]) for k in ("a", "b", "psnr", "ssim")}


def test_golden_vectors(golden):
    np.testing.assert_allclose(psnr(golden["a"], golden["b"]), golden["psnr"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(ssim(golden["a"], golden["b"]), golden["ssim"], rtol=0, atol=1e-6)


def test_batch_equals_single_images(golden):
    a, b = golden["a"], golden["b"]
    single = [float(ssim(a[i : i + 1], b[i : i + 1])[0]) for i in range(4)]
    np.testing.assert_allclose(ssim(a, b), single, atol=1e-6)


def test_equal_images(golden):
    a = golden["a"]
    assert np.isinf(psnr(a, a)).all()
    np.testing.assert_allclose(ssim(a, a), 1, atol=1e-6)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_ssim_of_flat_images_is_exact(level):
    # Var and covariance vanish; only the luminance term is left.
    a = np.full((1, 16, 32, 3), level, np.uint8)
    b = np.full((1, 16, 32, 3), 100, np.uint8)
    c1 = 2.55**2
    expected = (2 * level * 100.0 + c1) / (level**2 + 100.0**2 + c1)
    np.testing.assert_allclose(ssim(a, b), expected, atol=1e-6)


def test_psnr_of_a_known_difference():
    a = np.zeros((2, 12, 12, 3), np.uint8)
    b = a.copy()
    b[0] += 5
    b[1, 0, 0, 0] = 255
    expected = [20 * np.log10(255 / 5), 10 * np.log10(12 * 12 * 3)]
    np.testing.assert_allclose(psnr(a, b), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((1, 12, 12, 3), np.float32), np.zeros((1, 12, 12, 3), np.uint8)),
        (np.zeros((1, 12, 12, 3), np.uint8), np.zeros((1, 12, 13, 3), np.uint8)),
        (np.zeros((1, 10, 40, 3), np.uint8), np.zeros((1, 10, 40, 3), np.uint8)),
    ],
)
def test_wrong_input_is_refused(a, b):
    with pytest.raises(ValueError, match=r"expected|needs"):
        ssim(a, b)

"""LPIPS, Inception, FID and KID against the packages that everyone's figures come from.

`golden/perceptual.npz` was made once with torch 2.13: `lpips` 0.1.4 with its backbones and heads
set to the seeded values below, the TorchScript Inception of FID with its parameters set likewise,
and the distance function of `pytorch-fid` 0.3.
"""

import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.metrics import distribution, inception
from lpdiff_jax.evaluation.metrics import lpips as judge
from lpdiff_jax.models import lpips
from lpdiff_jax.storage import weights

GOLDEN = np.load(Path(__file__).parents[1] / "golden/perceptual.npz")


def z(name, shape):
    generator = np.random.default_rng([0, zlib.crc32(name.encode())])
    return generator.standard_normal(shape, dtype=np.float32)


def image(name, shape):
    return np.clip(z(name, shape), -2, 2) / 2


def lpips_params(network):
    module = lpips.Lpips(lpips.BACKBONES[network])
    like = jnp.zeros((1, 64, 96, 3))
    shapes = jax.eval_shape(module.init, jax.random.key(0), like, like)["params"]
    params = {"backbone": {}}
    for i in range(len(shapes["backbone"])):
        h, w, fan_in, out = shapes["backbone"][f"Conv_{i}"]["kernel"].shape
        kernel = z(f"{network}.conv{i}.weight", (out, fan_in, h, w))
        scale = np.float32(np.sqrt(2 / (fan_in * h * w)))
        params["backbone"][f"Conv_{i}"] = {
            "kernel": (kernel * scale).transpose(2, 3, 1, 0),
            "bias": 0.1 * z(f"{network}.conv{i}.bias", (out,)),
        }
    for i in range(5):
        channels = shapes[f"head_{i}"]["kernel"].shape[2]
        head = np.abs(z(f"{network}.head{i}", (1, channels, 1, 1)))
        params[f"head_{i}"] = {"kernel": head.transpose(2, 3, 1, 0)}
    return params


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_lpips(network):
    params = lpips_params(network)
    a, b = image("lpips.a", (2, 64, 96, 3)), image("lpips.b", (2, 64, 96, 3))
    distance = lpips.Lpips(lpips.BACKBONES[network]).apply({"params": params}, a, b)
    np.testing.assert_allclose(distance, GOLDEN[f"lpips_{network}"], rtol=1e-5)
    normalised = (a - lpips._SHIFT) / lpips._SCALE
    backbone = lpips.Backbone(lpips.BACKBONES[network])
    taps = backbone.apply({"params": params["backbone"]}, normalised)
    norms = [float(jnp.linalg.norm(tap)) for tap in taps]
    np.testing.assert_allclose(norms, [GOLDEN[f"{network}_tap{i}_norm"] for i in range(5)], 1e-5)
    np.testing.assert_allclose(taps[4][:1, ..., :16], GOLDEN[f"{network}_tap4"], atol=1e-4)


def test_lpips_of_equal_images_is_zero():
    distance = judge.LpipsDistance("alex", lpips_params("alex"))
    a = np.random.default_rng(0).integers(0, 255, (1, 48, 96, 3), np.uint8)
    assert distance(a, a) < 1e-9
    assert distance(a, 255 - a) > 0


@pytest.fixture(scope="module")
def inception_arrays():
    """The arrays of a weights file, seeded."""
    init = inception.Inception().init
    shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 299, 299, 3)))["params"]
    arrays = {}
    for layer, parts in shapes.items():
        name = f"net.layers.{layer}"
        h, w, fan_in, out = parts["kernel"].shape
        scale = np.sqrt(2 / (fan_in * h * w))
        arrays[f"{layer}.weight"] = z(f"{name}.weight", (out, fan_in, h, w)) * scale
        arrays[f"{layer}.beta"] = 0.1 * z(f"{name}.beta", (out,))
        arrays[f"{layer}.mean"] = 0.1 * z(f"{name}.mean", (out,))
        arrays[f"{layer}.var"] = 1 + 0.5 * np.abs(z(f"{name}.var", (out,)))
    return arrays


def test_inception(inception_arrays):
    x = image("inception.x", (2, 299, 299, 3))
    params = inception.fold(inception_arrays)
    assert len(params) == 94
    features = jax.jit(inception.Inception().apply)({"params": params}, x)
    expected = GOLDEN["inception"]
    assert np.linalg.norm(features - expected) / np.linalg.norm(expected) < 1e-5
    np.testing.assert_allclose(features, expected, atol=1e-4)


def fid_sets():
    a = z("fid.a", (200, 32)) @ z("fid.mix", (32, 32))
    b = 1.3 * z("fid.b", (150, 32)) @ z("fid.mix2", (32, 32)) + 0.2
    return a.astype(np.float64), b.astype(np.float64)


def test_fid_of_given_statistics():
    a, b = fid_sets()
    statistics = [f(x) for x in (a, b) for f in (lambda x: x.mean(0), lambda x: np.cov(x.T))]
    expected = float(GOLDEN["fid"])
    assert distribution.frechet_distance(*statistics) == pytest.approx(expected, rel=1e-6)
    assert distribution.fid(a, b) == pytest.approx(expected, rel=1e-6)


def test_fid_of_known_gaussians():
    # Independent features: the distance is that of each feature, added up.
    means, spreads = z("m", (2, 64)).astype(np.float64), 1 + np.abs(z("s", (2, 64)))
    expected = np.sum((means[0] - means[1]) ** 2 + (spreads[0] - spreads[1]) ** 2)
    statistics = [x for m, s in zip(means, spreads, strict=True) for x in (m, np.diag(s**2.0))]
    assert distribution.frechet_distance(*statistics) == pytest.approx(expected, rel=1e-6)


def test_fid_of_fewer_images_than_features_is_stable():
    a, b = z("few.a", (12, 300)), z("few.b", (10, 300))
    statistics = [f(x) for x in (a, b) for f in (lambda x: x.mean(0), lambda x: np.cov(x.T))]
    expected = distribution.frechet_distance(*statistics)
    assert distribution.fid(a, b) == pytest.approx(expected, rel=1e-5)
    assert distribution.fid(a, a) == pytest.approx(0, abs=1e-6)


def test_kid_is_unbiased():
    # Two halves of one distribution: the estimate scatters around zero, FID stays above it.
    values, fids = [], []
    for seed in range(40):
        x = np.random.default_rng(seed).standard_normal((60, 16))
        values.append(distribution.kid(x[:30], x[30:])[0])
        fids.append(distribution.fid(x[:30], x[30:]))
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(fids) > 0.5


def test_kid_by_definition():
    a, b = z("kid.a", (4, 3)).astype(np.float64), z("kid.b", (4, 3)).astype(np.float64)

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    expected = np.mean(
        [k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(a[j], b[i]) for i, j in pairs]
    )
    value, error = distribution.kid(a, b)
    assert value == pytest.approx(expected)
    without = [distribution.kid(np.delete(a, i, 0), np.delete(b, i, 0))[0] for i in range(4)]
    assert error == pytest.approx(np.sqrt(3 * np.var(without)))
    assert distribution.kid(a, a) == (0, 0)


def weights_or_skip(file):
    try:
        return weights.locate(file)
    except UserError:
        pytest.skip(f"{file.filename} is not in the cache (lpdiff fetch-weights)")


def test_real_lpips_weights():
    weights_or_skip(weights.LPIPS_ALEX)
    grey = np.full((1, 64, 64, 3), 128, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), np.uint8)
    distance = judge.load_lpips("alex")
    assert distance(grey, grey) < 1e-9
    assert distance(grey, grey + 10) < 0.05 < 0.5 < distance(grey, noise)


def test_real_inception_weights():
    weights_or_skip(weights.FID)
    x = np.random.default_rng(0).integers(0, 255, (2, 299, 299, 3)).astype(np.uint8)
    features = inception.load_inception()(x)
    # The TorchScript module itself gives this mean, run by torch on the same images.
    assert features.mean() == pytest.approx(0.1893563, rel=1e-5)


def test_a_file_with_other_content_is_named(tmp_path, monkeypatch):
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(b"\x80\x02}.")  # an empty dict
    monkeypatch.setattr(weights, "locate", lambda *_: path)
    with pytest.raises(UserError, match=r"alexnet\.ckpt: not the weights of LPIPS"):
        judge.load_lpips("alex")

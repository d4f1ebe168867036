"""Shapes, sizes and precision of the compared systems' networks; nothing is computed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from lpdiff_jax.models.baselines.discriminator import SpectralConv, UNetDiscriminator
from lpdiff_jax.models.baselines.hat import HAT
from lpdiff_jax.models.baselines.resdiff import GuidedUNet, SimpleCNN
from lpdiff_jax.models.baselines.rrdb import RRDBNet
from lpdiff_jax.models.baselines.srcnn import SRCNN
from lpdiff_jax.models.baselines.swin_unet import SwinUNet
from lpdiff_jax.models.baselines.vq import VQAutoencoder

HEIGHT, WIDTH = 48, 96


def plate(channels=3, shrink=1):
    return jax.ShapeDtypeStruct((2, HEIGHT // shrink, WIDTH // shrink, channels), jnp.float32)


TIME = jax.ShapeDtypeStruct((2,), jnp.float32)
# Network, what it is called with at 48 x 96, and how many million parameters it has (published).
NETWORKS = {
    "srcnn_915": (SRCNN(), (plate(),), 0.020),
    "srcnn_955": (SRCNN(kernels=(9, 5, 5)), (plate(),), 0.069),
    "hat": (HAT(), (plate(),), 20.5),
    "hat_s": (HAT(features=144, compress=24, squeeze=24), (plate(),), 9.3),
    "rrdb": (RRDBNet(), (plate(),), 16.7),
    "discriminator": (UNetDiscriminator(), (plate(),), 4.4),
    "resdiff": (GuidedUNet(splitter="released"), (plate(), plate(), TIME), 98.9),
    "resshift": (SwinUNet(nominal_size=48, window=6), (plate(), plate(), TIME), 118.6),
    "resshift_latent": (
        SwinUNet(
            multipliers=(1, 2, 2), attention_levels=(0, 1, 2), nominal_size=12, window=6,
            condition_halvings=2,
        ),
        (plate(), plate(shrink=4), TIME),
        None,
    ),
    "autoencoder": (VQAutoencoder(), (plate(),), 55.3),
}  # fmt: skip


def parameters(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) / 1e6


@pytest.mark.parametrize("name", NETWORKS)
def test_plates_and_published_sizes(name):
    network, inputs, millions = NETWORKS[name]
    out, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), *inputs)
    image = out[0] if isinstance(out, tuple) else out
    expected = inputs[1].shape if name == "resshift_latent" else (2, HEIGHT, WIDTH, 3)
    assert image.shape == (expected if name != "discriminator" else (2, HEIGHT, WIDTH, 1))
    assert image.dtype == jnp.float32
    if millions is not None:
        digits = 3 if millions < 1 else 1
        assert round(parameters(variables), digits) == millions


SMALL = {
    "srcnn": (SRCNN(dtype=jnp.bfloat16), (plate(),)),
    "hat": (
        HAT(24, (2,), 2, 8, 3, 6, dtype=jnp.bfloat16),
        (plate(),),
    ),
    "rrdb": (RRDBNet(8, 1, 4, dtype=jnp.bfloat16), (plate(),)),
    "discriminator": (UNetDiscriminator(8, dtype=jnp.bfloat16), (plate(),)),
    "cnn": (SimpleCNN(dtype=jnp.bfloat16), (plate(),)),
    "resdiff": (
        GuidedUNet(16, (1, 2), 1, 8, (1,), dtype=jnp.bfloat16),
        (plate(), plate(), TIME),
    ),
    "resshift": (
        SwinUNet(16, (1, 2), 1, 8, (1,), 12, 6, 16, head_features=8, dtype=jnp.bfloat16),
        (plate(), plate(), TIME),
    ),
    "autoencoder": (VQAutoencoder(16, (1, 2), 1, 8, 32, dtype=jnp.bfloat16), (plate(),)),
}


@pytest.mark.parametrize("name", SMALL)
def test_half_precision_computes_in_it_and_stores_in_full(name):
    network, inputs = SMALL[name]
    layers = (nn.Conv, nn.Dense, SpectralConv)

    def run(key, *inputs):
        return network.init_with_output(
            key,
            *inputs,
            capture_intermediates=lambda m, call: isinstance(m, layers) and call == "__call__",
        )

    _, variables = jax.eval_shape(run, jax.random.key(0), *inputs)
    stored = {leaf.dtype for leaf in jax.tree.leaves(variables["params"])}
    assert stored == {jnp.dtype(jnp.float32)}
    outputs = jax.tree.leaves_with_path(variables["intermediates"])
    assert len(outputs) > 2
    for path, leaf in outputs:
        if "squeeze" not in str(path[:2]):  # the splitter's gates, of a handful of numbers
            assert leaf.dtype == jnp.bfloat16, path


@pytest.mark.parametrize(
    "network, inputs, words",
    [
        (RRDBNet(), (jax.ShapeDtypeStruct((1, 46, 96, 3), jnp.float32),), "multiples of 4"),
        (RRDBNet(scale=3), (plate(),), "allowed: 1, 2, 4"),
        (HAT(scale=5), (plate(),), "powers of two"),
        (HAT(window=6), (plate(),), "must be even"),
        (HAT(features=24), (plate(),), "leave nothing"),
        (UNetDiscriminator(), (jax.ShapeDtypeStruct((1, 44, 96, 3), jnp.float32),), "of 8"),
        (SwinUNet(window=7, nominal_size=56), (plate(), plate(), TIME), "window 7"),
        (SwinUNet(mask="none", window=6), (plate(), plate(), TIME), "'regions', 'released'"),
        (GuidedUNet(splitter="none"), (plate(), plate(), TIME), "'per_image', 'released'"),
    ],
)
def test_what_cannot_be_is_said(network, inputs, words):
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(network.init, jax.random.key(0), *inputs)


def test_several_frames_stacked_keep_three_colours_out():
    stacked = plate(9)
    for network in (SRCNN(), HAT(24, (1,), 2, 8, 3, 6), RRDBNet(8, 1, 4), SimpleCNN()):
        out, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), stacked)
        assert out.shape == (2, HEIGHT, WIDTH, 3)


def test_the_cnn_adds_the_last_frame():
    frames = jax.random.normal(jax.random.key(0), (1, 8, 8, 6))
    zero = jax.tree.map(jnp.zeros_like, SimpleCNN().init(jax.random.key(1), frames))
    assert (SimpleCNN().apply(zero, frames) == frames[..., 3:]).all()

"""The published sizes against the public programs' numbers, and what they cost."""

import jax.numpy as jnp
import pytest

from lpdiff_jax.pytorch.baselines import hat, real_esrgan, resdiff, resshift

PLATE = (1, 3, 32, 64)


@pytest.fixture(scope="module")
def numbers(golden):
    return golden("full")


@pytest.fixture(scope="module")
def full(state):
    return lambda system, configuration: state(
        f"{system}_full", configuration, system == "resshift"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "configuration, name, shape",
    [("hat_s_x1", "full.x", PLATE), ("hat_x4", "full.x16", (1, 3, 16, 32))],
)
def test_hat(configuration, name, shape, full, image, numbers, check, compiled):
    network, variables = hat.load(full("hat", configuration), "seeded")
    out = compiled(network.apply)(variables, image(name, shape))
    check(out, numbers[f"hat.{configuration}"], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scale, name, shape", [(1, "full.x", PLATE), (4, "full.x8", (1, 3, 8, 16))]
)
def test_real_esrgan(scale, name, shape, full, image, numbers, check, compiled):
    network, variables = real_esrgan.load(full("realesrgan", f"generator_x{scale}"), "seeded")
    out = compiled(network.apply)(variables, image(name, shape))
    check(out, numbers[f"realesrgan.generator_x{scale}"], 1e-4)


@pytest.mark.slow
def test_discriminator(full, image, numbers, check, compiled):
    state = full("realesrgan", "discriminator")
    network, variables = real_esrgan.load_discriminator(state, "seeded")
    out = compiled(network.apply)(variables, image("full.x", PLATE))
    check(out, numbers["realesrgan.discriminator"], 1e-4)


@pytest.mark.slow
def test_resdiff(full, image, numbers, check, compiled):
    network, variables = resdiff.load_denoiser(full("resdiff", "unet_128"), "seeded")
    assert (network.multipliers, network.attention_levels) == ((1, 2, 4, 8, 8), (3,))
    x6 = image("full.x6", (1, 6, 128, 128))
    out = compiled(network.apply)(variables, x6[..., :3], x6[..., 3:], jnp.array([0.7]))
    check(out[:, ::2, ::2], numbers["resdiff.unet_128_every_second_pixel"], 1e-4)


@pytest.mark.slow
def test_resshift(full, image, numbers, check, compiled):
    network, variables = resshift.load(full("resshift", "unet_published"), "seeded")
    condition, x = image("full.lq64", (1, 3, 64, 64)), image("full.x64", (1, 3, 64, 64))
    out = compiled(network.apply)(variables, condition, x, jnp.array([9]))
    check(out, numbers["resshift.unet_published"], 1e-4)


@pytest.mark.slow
def test_autoencoder(full, image, numbers, check, compiled):
    state = full("resshift", "autoencoder_vq_f4")
    network, variables = resshift.load_autoencoder(state, "seeded")

    def run(variables, x):
        bound = network.bind(variables)
        z = bound.encode(x)
        return z, bound.decode(z, quantize=False)

    z, decoded = compiled(run)(variables, image("full.x", PLATE))
    check(z, numbers["resshift.autoencoder_encode"], 1e-4)
    check(decoded, numbers["resshift.autoencoder_decode_unquantized"], 1e-4)

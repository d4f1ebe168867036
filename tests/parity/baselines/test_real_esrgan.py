"""Real-ESRGAN: networks, losses, one training step, and its blurs, against the public program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import blur_kernels
from lpdiff_jax.methods.real_esrgan import losses
from lpdiff_jax.models.baselines.blocks import pixel_shuffle, pixel_unshuffle
from lpdiff_jax.models.baselines.discriminator import UNetDiscriminator
from lpdiff_jax.models.baselines.rrdb import DenseBlock, ResidualDenseBlocks
from lpdiff_jax.models.baselines.vgg import VGG, VGG19
from lpdiff_jax.pytorch.baselines import real_esrgan

BIG = (1, 3, 32, 64)
INPUTS = {1: BIG, 2: (1, 3, 16, 32), 4: (1, 3, 8, 16)}


@pytest.fixture(scope="module")
def numbers(golden):
    return golden("realesrgan")


@pytest.fixture(scope="module")
def discriminator(state):
    return real_esrgan.load_discriminator(state("realesrgan", "discriminator"), "seeded")


@pytest.fixture(scope="module")
def generator(state):
    return real_esrgan.load(state("realesrgan", "generator_x1"), "seeded")


@pytest.fixture(scope="module")
def vgg(state):
    weights = state("realesrgan", "vgg19")
    names = [f"conv{b}_{i}" for b, count in enumerate(VGG19, 1) for i in range(1, count + 1)]
    return {
        f"Conv_{number}": {
            "kernel": weights[f"vgg.vgg_net.{name}.weight"].transpose(2, 3, 1, 0),
            "bias": weights[f"vgg.vgg_net.{name}.bias"],
        }
        for number, name in enumerate(names)
    }


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_generator(scale, state, image, numbers, check, compiled):
    network, variables = real_esrgan.load(state("realesrgan", f"generator_x{scale}"), "seeded")
    assert (network.scale, network.blocks, network.growth) == (scale, 2, 8)
    out = compiled(network.apply)(variables, image(f"in.x{scale}", INPUTS[scale]))
    check(out, numbers[f"generator_x{scale}"], 1e-4)


def test_dense_blocks(state, image, numbers, check):
    _, variables = real_esrgan.load(state("realesrgan", "generator_x4"), "seeded")
    body, x = variables["params"]["body_0"], image("in.feat", (1, 16, 8, 16))
    check(DenseBlock(8).apply({"params": body["dense_1"]}, x), numbers["rdb"])
    check(ResidualDenseBlocks(8).apply({"params": body}, x), numbers["rrdb"])


def test_unshuffle(image, numbers):
    x = image("in.un", (1, 3, 4, 8))
    small = pixel_unshuffle(x, 2)
    np.testing.assert_array_equal(small.transpose(0, 3, 1, 2), numbers["unshuffle2"])
    np.testing.assert_array_equal(pixel_shuffle(small, 2), x)


def sigmas(variables):
    """The largest singular value of each kernel by the stored vectors."""
    result = []
    for i in range(1, 9):
        stats = variables["batch_stats"][f"conv{i}"]
        kernel = variables["params"][f"conv{i}"]["kernel"]
        matrix = np.asarray(kernel).transpose(3, 2, 0, 1).reshape(len(stats["u"]), -1)
        result.append(stats["u"] @ matrix @ stats["v"])
    return np.array(result)


def test_discriminator(discriminator, image, numbers, check, compiled):
    network, variables = discriminator
    x = image("in.img", BIG)
    check(compiled(network.apply)(variables, x), numbers["discriminator_eval"], 1e-4)
    check(sigmas(variables), numbers["sigma_eval"])
    no_skips = UNetDiscriminator(network.features, skips=False)
    check(compiled(no_skips.apply)(variables, x), numbers["discriminator_noskip_eval"], 1e-4)

    def in_training(variables):
        return network.apply(variables, x, train=True, mutable=["batch_stats"])

    out, updated = compiled(in_training)(variables)
    check(out, numbers["discriminator_train"], 1e-4)
    check(sigmas({**variables, **updated}), numbers["sigma_train"])
    check(updated["batch_stats"]["conv3"]["u"], numbers["conv3_u_after"])
    check(updated["batch_stats"]["conv3"]["v"], numbers["conv3_v_after"])


def test_perceptual_loss(vgg, image, numbers, check, compiled):
    a, b = image("in.img", BIG), image("in.hr", BIG)
    network = VGG(VGG19)
    distances = compiled(lambda p: losses.feature_distances(network, p, a, b))(vgg)[0]
    check(distances, numbers["vgg_l1"], 1e-4)
    check(distances @ np.array(losses.PERCEPTUAL_WEIGHTS), numbers["perceptual"], 1e-4)
    last = compiled(lambda p: network.apply({"params": p}, a)[-1])(vgg)
    check(last[..., :64], numbers["vgg_conv5_4"], 1e-4)


def test_training_step(
    generator, discriminator, vgg, image, numbers, check, compiled, check_gradient_norms,
    gradient_norms,
):  # fmt: skip
    net, variables = generator
    judge, judged = discriminator
    lq, gt = image("in.x1", BIG), image("in.hr", BIG)

    def judge_image(params, stats, x):
        judged = {"params": params, "batch_stats": stats}
        logits, updated = judge.apply(judged, x, train=True, mutable=["batch_stats"])
        return logits, updated["batch_stats"]

    def generator_loss(params, vgg):
        out = net.apply({"params": params}, lq)
        logits, stats = judge_image(judged["params"], judged["batch_stats"], out)
        parts = {
            "l1": jnp.abs(out - gt).mean(),
            "perceptual": losses.perceptual_loss(VGG(VGG19), vgg, out, gt).mean(),
            "gan_g": losses.GAN_WEIGHT * losses.adversarial_loss(logits, True).mean(),
        }
        return sum(parts.values()), (parts, out, stats)

    def discriminator_loss(params, stats, fake):
        real, stats = judge_image(params, stats, gt)
        fake, stats = judge_image(params, stats, fake)
        parts = {
            "d_real": losses.adversarial_loss(real, True).mean(),
            "d_fake": losses.adversarial_loss(fake, False).mean(),
        }
        outs = {"out_d_real": real.mean(), "out_d_fake": fake.mean()}
        return sum(parts.values()), parts | outs

    gradient_of = compiled(jax.value_and_grad(generator_loss, has_aux=True))
    (total, (parts, out, stats)), gradient = gradient_of(variables["params"], vgg)
    judge_gradient_of = compiled(jax.grad(discriminator_loss, has_aux=True))
    judge_gradient, judge_parts = judge_gradient_of(judged["params"], stats, out)

    for name, value in (parts | judge_parts | {"total_g": total}).items():
        check(value, numbers[f"step.{name}"], 1e-4)
    norms = gradient_norms(numbers, "step.gradnorm.")
    judge_norms = gradient_norms(numbers, "step.d_gradnorm.")
    check_gradient_norms(gradient, real_esrgan.NAMES, norms)
    check_gradient_norms(judge_gradient, real_esrgan.DISCRIMINATOR_NAMES, judge_norms)


def test_sharpening(numbers, numbers_of, check):
    small = 1 / (1 + np.exp(-numbers_of("in.usm", (1, 3, 4, 8)).transpose(0, 2, 3, 1)))
    x = small.repeat(8, axis=1).repeat(8, axis=2)
    row = losses.gaussian_row()
    check(row * row[25], numbers["usm_kernel_row"])
    check(losses.sharpen(x), numbers["usm"])


def test_blur_kernels(numbers, image, check):
    make = blur_kernels.anisotropic_kernel
    slanted = dict(size=21, sigma_x=2.5, sigma_y=0.8, theta=0.6)
    check(make("gaussian", 21, 1.7, 1.7), numbers["kernel_iso"])
    kernel = make("gaussian", **slanted)
    check(kernel, numbers["kernel_aniso"])
    check(make("generalized", **slanted, beta=0.7), numbers["kernel_generalized_aniso"])
    check(make("plateau", **slanted, beta=1.6), numbers["kernel_plateau_aniso"])
    sinc = blur_kernels.pad_kernel(blur_kernels.sinc_kernel(13, 1.9))
    check(sinc, numbers["kernel_sinc"])
    filtered = blur_kernels.blur(image("in.img", BIG)[0, :, :, :1], kernel)
    check(filtered[..., 0] if filtered.ndim == 3 else filtered, numbers["filtered"][0, 0])

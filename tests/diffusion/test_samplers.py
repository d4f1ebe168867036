"""Samplers by their properties, on Gaussian data, where the best denoiser is known exactly.

Samplers are linear in their noise, so a batch whose rows hold one unit of noise each measures the
output's mean and variance exactly, without drawing anything.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.diffusion.samplers import NAMES, Sampler, coefficients, sample
from lpdiff_jax.diffusion.schedule import SPACINGS, make_schedule

MEAN, DEVIATION = 0.3, 0.5
DETERMINISTIC = ("ddim", "dpmpp_2m")
ZERO_SNR = make_schedule("cosine", 20_000, zero_terminal_snr=True)
LINEAR = make_schedule("linear", 20_000, 5e-8, 5e-4)


def gaussian_denoiser(x, level):
    """E[x_0 | x_t] where x_0 ~ N(MEAN, DEVIATION^2)."""
    level = level.reshape(level.shape + (1,) * (x.ndim - 1))
    variance = 1 - level**2
    return (variance * MEAN + level * DEVIATION**2 * x) / (level**2 * DEVIATION**2 + variance)


def moments(name, steps, spacing, trained, **options):
    """The output's mean and standard deviation when all noise is N(0, 1)."""
    plan = Sampler(name, steps, spacing=spacing, **options).steps_of(trained)
    noise = jnp.vstack([jnp.zeros(steps + 1), jnp.eye(steps + 1)])
    out = sample(gaussian_denoiser, noise[:, steps], lambda i: noise[:, i], plan)
    out = np.asarray(out, np.float64)
    return out[0], np.sqrt(((out[1:] - out[0]) ** 2).sum())


def true_moments(name, trained):
    """Their limits: the data's, but for what the trajectory still knows of its start.

    Along the probability flow (x - level MEAN) / sqrt(level^2 DEVIATION^2 + sigma^2) is constant.
    """
    level = trained.noise_levels[-1] if name in DETERMINISTIC else 0.0
    spread = DEVIATION / np.sqrt(level**2 * DEVIATION**2 + 1 - level**2)
    return MEAN - level * MEAN * spread, spread


@pytest.mark.parametrize("trained", [ZERO_SNR, LINEAR], ids=["zero_snr", "linear"])
@pytest.mark.parametrize(("name", "spacing"), [*itertools.product(NAMES, SPACINGS)])
def test_many_steps_of_each_meet(name, spacing, trained):
    mean, deviation = moments(name, 512, spacing, trained)
    true_mean, true_deviation = true_moments(name, trained)
    # The linear schedule's last level is not pure noise: sampling from N(0, I) biases the mean.
    assert abs(mean - true_mean) < 1e-3
    assert abs(deviation - true_deviation) < 0.01


@pytest.mark.parametrize(("name", "spacing"), [*itertools.product(NAMES, SPACINGS)])
def test_order_of_convergence(name, spacing):
    counts = (64, 128, 256, 512)
    _, truth = true_moments(name, LINEAR)
    errors = [abs(moments(name, n, spacing, LINEAR)[1] - truth) for n in counts]
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    if not name.startswith("dpmpp"):
        assert 0.85 < order < 1.15
    elif spacing == "uniform":
        # Uniform steps grow without bound in log(SNR) at the clean end, which costs some order.
        assert 1.35 < order < 2.25
    else:
        assert 1.75 < order < 2.25


@pytest.mark.parametrize("trained", [ZERO_SNR, LINEAR], ids=["zero_snr", "linear"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_ddim_with_eta_1_is_ddpm(spacing, trained):
    levels = Sampler(steps=20, spacing=spacing).visited(trained).noise_levels
    ddpm, ddim = coefficients(levels, "ddpm"), coefficients(levels, "ddim", eta=1.0)
    for part in ddpm:
        np.testing.assert_array_equal(ddpm[part], ddim[part])


def test_ddpm_has_the_published_posterior():
    schedule = make_schedule("linear", 50, 1e-6, 0.2)
    numbers, buffers = coefficients(schedule.noise_levels, "ddpm"), schedule.buffers()
    np.testing.assert_allclose(numbers["x_0"], buffers["posterior_mean_coef1"], rtol=1e-5)
    np.testing.assert_allclose(numbers["x"], buffers["posterior_mean_coef2"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(numbers["noise"] ** 2, buffers["posterior_variance"], rtol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_keeps_the_level_of_noise(eta):
    """With a perfect denoiser every x stays `level x_0 + sigma noise`, whatever eta is."""
    levels = Sampler(steps=12).visited(ZERO_SNR).noise_levels
    n = coefficients(levels, "ddim", eta)
    level, after = levels[1:], levels[:-1]
    np.testing.assert_allclose(n["x"] * level + n["x_0"], after, atol=1e-12)
    variance = n["x"] ** 2 * (1 - level**2) + n["noise"] ** 2
    np.testing.assert_allclose(variance, 1 - after**2, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "spacing", "steps"), [*itertools.product(NAMES, SPACINGS, (1, 2, 3, 1000))]
)
def test_levels_0_and_1_do_no_harm_in_float32(name, spacing, steps):
    trained = make_schedule("cosine", 1000, zero_terminal_snr=True)
    plan = Sampler(name, steps, spacing=spacing).steps_of(trained)
    out = sample(gaussian_denoiser, jnp.array([-2.0, 2.0]), lambda i: jnp.zeros(2), plan)
    assert np.isfinite(out).all()
    assert (np.abs(out - MEAN) < 4 * DEVIATION).all()


def test_one_step_is_the_denoiser_itself():
    for name in NAMES:
        steps = Sampler(name, 1).steps_of(ZERO_SNR)
        out = sample(gaussian_denoiser, jnp.array([5.0]), lambda i: jnp.ones(1), steps)
        np.testing.assert_allclose(out, MEAN, rtol=1e-6)


def test_deterministic_samplers_draw_no_noise():
    def forbidden(index):
        raise AssertionError("drew noise")

    for name in DETERMINISTIC:
        sample(gaussian_denoiser, jnp.ones(1), forbidden, Sampler(name, 5).steps_of(ZERO_SNR))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_8_is_8_batches_of_1(name):
    keys = jax.random.split(jax.random.key(0), 8)
    steps = Sampler(name, 6).steps_of(ZERO_SNR)

    def noise_fn(keys):
        return lambda i: jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, i), (4,)))(keys)

    @jax.jit
    def run(keys):
        noise = noise_fn(keys)
        return sample(gaussian_denoiser, noise(6), noise, steps)

    together, apart = run(keys), jnp.concatenate([run(key[None]) for key in keys])
    np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)
    assert len(np.unique(np.round(together, 4), axis=0)) == 8


def test_what_is_prepared_reaches_its_step():
    steps = Sampler(steps=7).steps_of(ZERO_SNR)

    def denoise(x, level, prepared):
        return gaussian_denoiser(x, level) + (prepared["twice"] - 2 * level)

    x = jnp.linspace(-1, 1, 5)
    plain = sample(gaussian_denoiser, x, lambda i: x, steps)
    told = sample(denoise, x, lambda i: x, steps, prepare=lambda levels: {"twice": 2 * levels})
    np.testing.assert_allclose(told, plain, rtol=1e-6)


def test_starting_from_noised_psi():
    sampler = Sampler(steps=4, start=0.3)
    schedule = sampler.visited(ZERO_SNR)
    level = ZERO_SNR.noise_levels[6_000]
    assert schedule.noise_levels[-1] == pytest.approx(level)
    assert sampler.steps_of(ZERO_SNR).first_scale == pytest.approx(np.sqrt(1 - level**2))
    assert Sampler(steps=4).steps_of(ZERO_SNR).first_scale == 1


@pytest.mark.parametrize(
    "fields", [{"name": "euler"}, {"spacing": "cubic"}, {"steps": 0}, {"eta": 2.0}, {"start": 0.0}]
)
def test_wrong_choices_are_named(fields):
    with pytest.raises(ValueError, match=str(next(iter(fields.values())))):
        Sampler(**fields)

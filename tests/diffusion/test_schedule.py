"""Schedules and their respacing."""

import numpy as np
import pytest

from lpdiff_jax.diffusion.schedule import NAMES, SPACINGS, make_schedule

ZERO_SNR = make_schedule("cosine", 1000, zero_terminal_snr=True)


@pytest.mark.parametrize("name", NAMES)
def test_levels_fall_from_1(name):
    levels = make_schedule(name).noise_levels
    assert levels[0] == 1
    assert (np.diff(levels) < 0).all() or name == "jsd"  # jsd's last beta is 1
    assert levels[-1] >= 0


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_zero_terminal_snr_ends_in_pure_noise(name):
    plain, zero = make_schedule(name), make_schedule(name, zero_terminal_snr=True)
    assert plain.noise_levels[-1] > 0
    assert zero.noise_levels[-1] == 0
    assert zero.noise_levels[1] == pytest.approx(plain.noise_levels[1])


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("start", [1.0, 0.3])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 50, 299, 300])
def test_timesteps_are_distinct_and_begin_at_the_start(spacing, start, steps):
    times = ZERO_SNR.timesteps(steps, spacing, start)
    assert len(times) == steps
    assert (np.diff(times) > 0).all()
    assert times[0] >= 1
    assert times[-1] == 1000 * start


@pytest.mark.parametrize("spacing", SPACINGS)
def test_all_steps_are_the_trained_ones(spacing):
    np.testing.assert_array_equal(ZERO_SNR.timesteps(1000, spacing), np.arange(1, 1001))


def test_spacings():
    uniform = ZERO_SNR.timesteps(10, "uniform")
    np.testing.assert_array_equal(uniform, np.arange(100, 1001, 100))
    np.testing.assert_array_equal(ZERO_SNR.timesteps(10, "quadratic"), 10 * np.arange(1, 11) ** 2)
    log_snr = ZERO_SNR.log_snr[ZERO_SNR.timesteps(10, "log_snr") - 1]
    np.testing.assert_allclose(np.diff(log_snr[:-1]), np.diff(log_snr[:-1]).mean(), rtol=0.05)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_respacing_keeps_the_trained_levels(spacing):
    times = ZERO_SNR.timesteps(10, spacing)
    respaced = ZERO_SNR.respaced(times)
    np.testing.assert_allclose(
        respaced.noise_levels[1:], ZERO_SNR.noise_levels[times], atol=1e-12
    )  # fmt: skip
    assert respaced.steps == 10


@pytest.mark.parametrize(("steps", "start"), [(0, 1.0), (1001, 1.0), (101, 0.1)])
def test_impossible_numbers_of_steps(steps, start):
    with pytest.raises(ValueError, match=str(steps)):
        ZERO_SNR.timesteps(steps, start=start)

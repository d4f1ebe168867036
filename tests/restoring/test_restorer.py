"""The public way to restore, with a small untrained model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.diffusion.samplers import Sampler, sample
from lpdiff_jax.errors import UserError
from lpdiff_jax.methods.lpdiff.model import Guide, build_model
from lpdiff_jax.restoring.restorer import Restorer, _compiled, batch_parts
from lpdiff_jax.storage.model_directory import save_model
from tests.methods.small_lpdiff import CONFIG, READER, SAMPLER, SIZE, draw_variables


@pytest.fixture(scope="module")
def restorer():
    model = build_model(CONFIG)
    return Restorer(model, draw_variables(model), SAMPLER, max_batch=4)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(1).uniform(-1, 1, (5, 2, *SIZE, 3)).astype(np.float32)


def test_shapes_and_range(restorer, frames):
    plates = np.asarray(restorer.restore(frames, samples=2))
    assert plates.shape == (5, 2, *SIZE, 3)
    assert abs(plates).max() <= 1
    assert plates.std() > 0.1


def test_samples_and_seeds_differ_and_repeat(restorer, frames):
    two = np.asarray(restorer.restore(frames[:2], samples=2, seed=3))
    assert abs(two[:, 0] - two[:, 1]).max() > 0.1
    np.testing.assert_array_equal(two, restorer.restore(frames[:2], samples=2, seed=3))
    assert abs(two - restorer.restore(frames[:2], samples=2, seed=4)).max() > 0.1


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m_sde"])
def test_a_plate_does_not_depend_on_its_batch(restorer, frames, name):
    seeds = [7, 8, 9, 8, 7]
    together = np.asarray(restorer.restore(frames, sampler=name, seed=seeds))
    for i, seed in enumerate(seeds):
        alone = restorer.restore(frames[i : i + 1], sampler=name, seed=seed)
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5)


def test_masked_frames_do_not_count(restorer, frames):
    mask = np.array([[True, False]] * 2)
    changed = frames[:2].copy()
    changed[:, 1] = 0.5
    a, b = restorer.restore(frames[:2], mask), restorer.restore(changed, mask)
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_restore_is_the_sampler_over_the_plain_denoiser(restorer, frames):
    """The hoisted loop against one written out, with `predict_x0` at each step."""
    model, variables = restorer.method, restorer.variables
    psi = restorer.condition(frames[:1])
    steps = Sampler(steps=3).steps_of(model.schedule)
    key = jax.random.fold_in(jax.random.key(0), 0)
    noise = jax.random.normal(jax.random.fold_in(key, 3), (*SIZE, 3))[None]
    denoise = lambda x, level: model.predict_x0(variables, Guide(psi), x, level)  # noqa: E731
    x_0 = sample(denoise, noise, None, steps)
    expected = jnp.clip(model.compose(x_0, psi), -1, 1)
    np.testing.assert_allclose(restorer.restore(frames[:1])[:, 0], expected, atol=1e-5)


def test_draw_continues_from_the_estimate(restorer, frames):
    estimate = restorer.estimate(frames)
    np.testing.assert_array_equal(restorer.draw(estimate), restorer.restore(frames))


def test_starting_from_psi_stays_near_it(restorer, frames):
    """With one step from a level where x_t is almost x_0, little of the residual is invented."""
    estimate = restorer.estimate(frames)
    psi = jnp.clip(estimate.image, -1, 1)
    near = restorer.draw(estimate, sampler=Sampler(steps=1, start=0.05))[:, 0]
    far = restorer.draw(estimate)[:, 0]
    assert abs(near - psi).mean() < 0.5 * abs(far - psi).mean()


def test_batches_of_any_size_compile_few_functions(frames):
    model = build_model(CONFIG)
    restorer = Restorer(model, draw_variables(model), SAMPLER, max_batch=2)
    for count in (2, 3, 4, 5):
        restorer.restore(frames[:count])
    other = restorer.with_variables(restorer.variables)
    other.restore(frames[:2])
    assert _compiled(model, None).draw._cache_size() == 1
    assert _compiled(model, None).estimate._cache_size() == 1


@pytest.mark.parametrize(
    ("total", "largest", "sizes"),
    [(1, 32, [1]), (3, 32, [4]), (32, 32, [32]), (33, 32, [32, 32]), (1000, 64, [64] * 16),
     (5, 6, [6])],
)  # fmt: skip
def test_batch_parts(total, largest, sizes):
    parts = list(batch_parts(total, largest))
    assert [size for _, size in parts] == sizes
    assert [i for part, _ in parts for i in range(total)[part]] == list(range(total))


def test_bfloat16_is_near_float32(restorer, frames, tmp_path):
    save_model(tmp_path / "m", {"model": CONFIG, "sampler": SAMPLER}, restorer.variables)
    half = Restorer.load(tmp_path / "m", dtype="bfloat16")
    assert half.variables["denoiser"]["params"]["head"]["kernel"].dtype == jnp.bfloat16
    assert half.variables["denoiser"]["params"]["head"]["bias"].dtype == jnp.float32
    psi = half.condition(frames[:1])
    assert psi.dtype == jnp.float32
    noise, level = np.ones((1, *SIZE, 3), np.float32), np.array([0.7], np.float32)
    a, b = (np.asarray(r.denoise(psi, noise, level)) for r in (restorer, half))
    assert 0 < np.linalg.norm(a - b) < 0.05 * np.linalg.norm(a)


def test_saved_choices_of_the_sampler_are_used(restorer, tmp_path):
    section = {"name": "dpmpp_2m", "steps": 2, "spacing": "log_snr", "start": 0.5}
    save_model(tmp_path / "m", {"model": CONFIG, "sampler": section}, restorer.variables)
    loaded = Restorer.load(tmp_path / "m")
    assert loaded.method.choose(loaded.defaults) == Sampler(**section)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 21}, "21"),
        ({"steps": 0}, "0"),
        ({"sampler": "euler"}, "'euler'; allowed: 'ddpm'"),
    ],
)
def test_impossible_requests_are_the_users_mistake(restorer, frames, arguments, message):
    with pytest.raises(UserError, match=message):
        restorer.restore(frames, **arguments)


def test_frames_of_another_size(restorer):
    with pytest.raises(UserError, match=r"\[B, N, 8, 16, 3\], not \[1, 2, 9, 16, 3\]"):
        restorer.restore(np.zeros((1, 2, 9, 16, 3), np.float32))


@pytest.mark.parametrize("section", [{"name": "euler"}, {"eta": 7}, {"speed": 3}])
def test_a_saved_sampler_that_does_not_exist(restorer, section):
    with pytest.raises(UserError, match="sampler"):
        Restorer(restorer.method, restorer.variables, section)


def test_unknown_dtype(restorer):
    with pytest.raises(UserError, match="allowed: float32, bfloat16"):
        restorer.in_precision("int4")


def test_without_a_denoiser_psi_is_the_result(restorer, frames):
    only_psi = Restorer(
        restorer.method, {"condition": restorer.variables["condition"]}, SAMPLER, max_batch=4
    )  # fmt: skip
    psi = np.clip(only_psi.condition(frames), -1, 1)
    np.testing.assert_array_equal(only_psi.restore(frames, samples=2)[:, 1], psi)


@pytest.fixture(scope="module")
def reads():
    """A model with a reading head and a sketch."""
    model = build_model(CONFIG | READER | {"sketch": {"layers": 1, "features": 8, "heads": 2}})
    return Restorer(model, draw_variables(model), SAMPLER, max_batch=4)


def test_the_denoiser_is_shown_what_is_read(reads, frames):
    estimate = reads.estimate(frames)
    guide = estimate.guide
    assert guide.stacked().shape == (5, *SIZE, 6)
    np.testing.assert_array_equal(guide.psi, estimate.image)
    restored = np.asarray(reads.draw(estimate))
    np.testing.assert_array_equal(restored, reads.restore(frames))
    blank = estimate._replace(guide=guide._replace(sketch=0 * guide.sketch))
    without = reads.draw(blank)
    assert np.abs(restored - without).max() > 1e-3


def test_denoise_takes_all_that_is_known_or_psi_alone(reads, frames):
    estimate = reads.estimate(frames)
    x_t, level = jnp.zeros_like(estimate.image), np.full(5, 0.5)
    told = reads.denoise(estimate, x_t, level)
    alone = reads.denoise(estimate.image, x_t, level)
    assert told.shape == alone.shape == x_t.shape
    assert np.abs(told - alone).max() > 1e-4  # psi alone knows of no text
    nothing_drawn = estimate.guide._replace(sketch=0 * estimate.guide.sketch)
    same = reads.denoise(estimate._replace(guide=nothing_drawn), x_t, level)
    np.testing.assert_allclose(alone, same, atol=1e-6)
    with pytest.raises(UserError, match=r"psi is .B, 8, 16, 3., not .5, 9, 16, 3"):
        reads.denoise(np.zeros((5, 9, 16, 3)), x_t, level)


def test_the_denoiser_is_shown_the_mean_of_the_real_frames(frames):
    model = build_model(CONFIG | {"guide_frame": True})
    restorer = Restorer(model, draw_variables(model), SAMPLER, max_batch=4)
    mask = np.ones(np.shape(frames)[:2], bool)
    mask[:, 0] = False
    estimate = restorer.estimate(frames, mask)
    guide = estimate.guide
    assert guide.stacked().shape == (5, *SIZE, 6)
    mean = np.asarray(frames)[:, 1:].mean(axis=1)
    np.testing.assert_allclose(guide.frame, mean, atol=1e-6)
    without = restorer.draw(estimate._replace(guide=guide._replace(frame=0 * guide.frame)))
    assert np.abs(restorer.draw(estimate) - without).max() > 1e-3


def test_the_guide_does_not_depend_on_the_temperature(reads, frames):
    """It is fitted after training, and must not change what the denoiser is used to."""
    reader = dataclasses.replace(reads.method.slot_reader, temperature=0.5)
    cold = dataclasses.replace(reads.method, slot_reader=reader)
    other = Restorer(cold, reads.variables, SAMPLER, max_batch=4).estimate(frames)
    assert np.abs(other.slots - reads.estimate(frames).slots).max() > 1e-3
    np.testing.assert_array_equal(other.guide.stacked(), reads.estimate(frames).guide.stacked())


def test_reading_goes_by_the_frames(reads, frames):
    slots = np.asarray(reads.estimate(frames).slots)
    assert slots.shape == (5, 3, 4)
    np.testing.assert_allclose(slots.sum(-1), 1, rtol=1e-5)
    readings = reads.read(frames)
    assert len(readings) == 5
    assert all(set(reading.text) <= set("AB1") for reading in readings)
    assert readings[2] == reads.read(frames[2:3])[0]


def test_a_model_without_a_reading_head_says_so(restorer, frames):
    with pytest.raises(UserError, match="no reading head"):
        restorer.read(frames)


def test_a_seed_that_is_no_seed(restorer, frames):
    for seed in (-1, 2**32, 0.5):
        with pytest.raises(UserError, match="seeds are whole numbers from 0"):
            restorer.restore(frames, seed=seed)


def test_it_does_not_change(restorer):
    with pytest.raises(dataclasses.FrozenInstanceError):
        restorer.max_batch = 3

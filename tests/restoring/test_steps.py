"""The plate as it emerges: a picture a step, the last of which is the result."""

import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.restoring.restorer import Restorer
from tests.restoring.tiny_model import SIZE, save_tiny_model


def test_every_step_is_shown_and_the_last_is_the_result(tmp_path):
    restorer = Restorer.load(save_tiny_model(tmp_path / "tiny"))
    frames = np.random.default_rng(0).uniform(-1, 1, (1, 2, *SIZE, 3)).astype(np.float32)
    for sampler in ("ddim", "dpmpp_2m"):
        seen = []
        how = {"steps": 3, "samples": 2, "seed": 5, "sampler": sampler}
        result = restorer.restore(frames, callback=lambda *told: seen.append(told), **how)  # noqa: B023
        assert [told[:2] for told in seen] == [(1, 3), (2, 3), (3, 3)]
        assert {told[2].shape for told in seen} == {(1, 2, *SIZE, 3)}
        np.testing.assert_array_equal(seen[-1][2], result)
        np.testing.assert_allclose(result, restorer.restore(frames, **how), atol=1e-5)
        assert jnp.abs(seen[0][2] - result).max() > 1e-3


def test_a_step_is_told_before_the_next_is_taken(tmp_path):
    """In parts of a large batch, too: what interrupts the callback leaves the rest undone."""
    restorer = Restorer.load(save_tiny_model(tmp_path / "tiny"), max_batch=2)
    assert restorer.has_diffusion
    frames = np.random.default_rng(0).uniform(-1, 1, (3, 1, *SIZE, 3)).astype(np.float32)
    seen = []

    def stop(step, steps, plates):
        seen.append((step, plates.shape))
        if step == 2:
            raise KeyboardInterrupt

    how = {"steps": 3, "sampler": "ddpm"}
    with pytest.raises(KeyboardInterrupt):
        restorer.restore(frames, callback=stop, **how)
    assert seen == [(1, (3, 1, *SIZE, 3)), (2, (3, 1, *SIZE, 3))]
    last = restorer.restore(frames, callback=lambda *_: None, **how)
    np.testing.assert_allclose(last, restorer.restore(frames, **how), atol=1e-5)


def test_a_model_without_steps_shows_its_result(tmp_path):
    restorer = Restorer.load(save_tiny_model(tmp_path / "psi", without=("denoiser",)))
    frames = np.zeros((1, 2, *SIZE, 3), np.float32)
    seen = []
    result = restorer.restore(frames, callback=lambda *told: seen.append(told))
    assert [told[:2] for told in seen] == [(1, 1)]
    np.testing.assert_array_equal(seen[0][2], result)
    assert not restorer.has_diffusion

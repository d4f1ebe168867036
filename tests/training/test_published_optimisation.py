"""What the compared systems' recipes need of the optimiser, and how their cost is counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common, compact
from configs.baselines import hat, real_esrgan, regression, resdiff, resshift, srcnn
from lpdiff_jax.errors import UserError
from lpdiff_jax.methods import registry
from lpdiff_jax.models.lpips import BACKBONES, Lpips
from lpdiff_jax.storage import lpips_weights
from lpdiff_jax.training.flops import flops_per_example
from lpdiff_jax.training.optimizer import learning_rate, make_optimizer


def stage(**fields):
    return ConfigDict(common.get_optimisation().to_dict() | fields)


def test_a_rate_that_is_halved():
    rate = learning_rate(
        stage(learning_rate=8.0, warmup_steps=0, decay="halving", halve_at=(10, 20))
    )
    assert [float(rate(step)) for step in (0, 9, 11, 19, 21, 99)] == [8, 8, 4, 4, 2, 2]


def test_the_halvings_count_from_the_beginning_of_the_warm_up():
    rate = learning_rate(stage(learning_rate=8.0, warmup_steps=4, decay="halving", halve_at=(10,)))
    assert [float(rate(step)) for step in (0, 2, 4, 9, 11)] == [2, 5, 8, 8, 4]


def test_a_cosine_that_ends_above_zero():
    rate = learning_rate(
        stage(learning_rate=5e-5, warmup_steps=0, steps=100, final_learning_rate=2e-5)
    )
    assert float(rate(0)) == pytest.approx(5e-5)
    assert float(rate(100)) == pytest.approx(2e-5)


def test_layers_that_learn_more_slowly():
    params = {"network": {"conv1": {"kernel": jnp.ones(3)}, "conv3": {"kernel": jnp.ones(3)}}}
    grads = jax.tree.map(jnp.ones_like, params)
    section = stage(learning_rate=1.0, warmup_steps=0, decay="none", clip_norm=0.0, weight_decay=0)
    plain = make_optimizer(section, ("network",))
    section.layer_rates = {"conv3": 0.1}
    slow = make_optimizer(section, ("network",))
    states = plain.init(params), slow.init(params)
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    updates, _ = slow.update(grads, states[1], params)
    np.testing.assert_allclose(updates["network"]["conv1"]["kernel"], -1, rtol=1e-5)
    np.testing.assert_allclose(updates["network"]["conv3"]["kernel"], -0.1, rtol=1e-5)


def cost(config):
    """Operations of a whole training."""
    method = registry.build(config)
    return sum(
        flops_per_example(method, s, config[s.name], config.data.num_frames)
        * config[s.name].batch_size
        * config[s.name].steps
        for s in method.stages(config, ())
    )


def test_operations_are_those_of_the_formula():
    """Forward, the gradient of each kernel, and that of each input but the image."""
    config = srcnn.get_config()
    with config.unlocked():
        config.model.image_size = (48, 96)
        config.regression.update(steps=1, batch_size=1)
    forward = [2 * 48 * 96 * k * k * a * b for k, a, b in ((9, 3, 64), (1, 64, 32), (5, 32, 3))]
    expected = 3 * sum(forward) - forward[0]
    assert 0.9 * expected < cost(config) < 1.1 * expected


COMPACT = {
    "regression": regression.get_config("compact"),
    "srcnn": srcnn.get_config("compact"),
    "hat": hat.get_config("compact"),
    "hat_small": hat.get_config("small,compact"),
    "real_esrgan": real_esrgan.get_config("compact"),
    "resdiff": resdiff.get_config("compact"),
    "resshift": resshift.get_config("compact"),
    "resshift_4": resshift.get_config("4,compact"),
    "resshift_latent": resshift.get_config("latent,compact"),
    "resshift_latent_4": resshift.get_config("latent,4,compact"),
}


def no_weights(network, directory=None):
    """LPIPS' parameters, all zero: what it costs does not depend on them."""
    del directory
    image = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(Lpips(BACKBONES[network]).init, jax.random.key(0), image, image)
    return jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), shapes["params"])


@pytest.mark.slow
def test_compact_systems_cost_the_same(monkeypatch):
    """Each one's whole training within 20 % of LP-Diff's two stages."""
    monkeypatch.setattr(lpips_weights, "read_lpips", no_weights)
    reference = cost(compact.get_config())
    shares = {name: cost(config) / reference for name, config in COMPACT.items()}
    assert all(0.8 < share < 1.2 for share in shares.values()), shares


@pytest.mark.parametrize("name", COMPACT)
def test_compact_configurations_are_methods(name, monkeypatch):
    monkeypatch.setattr(lpips_weights, "read_lpips", no_weights)
    config = COMPACT[name]
    method = registry.build(config)
    assert method.image_size == (48, 96)
    assert tuple(s.name for s in method.stages(config, ())) == tuple(config.stages)


def test_the_decay_is_one_that_exists():
    with pytest.raises((ValueError, UserError), match="'cosine', 'halving', 'none'"):
        learning_rate(stage(decay="steps"))

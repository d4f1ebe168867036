"""The split denoiser computes what the whole one computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.models.hoisting import apply_hoisted, hoist, level_biases
from lpdiff_jax.models.unet import UNet

LEVELS = jnp.array([0.999, 0.5, 0.0])


@pytest.fixture(scope="module", params=["level", "log_snr"])
def unet_and_params(request):
    unet = UNet(
        features=8,
        multipliers=(1,),
        blocks=1,
        norm_groups=4,
        nominal_resolution=32,
        attention_resolutions=(32,),
        embedding=request.param,
        patch=1 if request.param == "level" else 2,
    )
    image = jnp.zeros((1, 8, 16, 3))
    shapes = jax.eval_shape(unet.init, jax.random.key(0), image, image, jnp.ones(1))["params"]
    # Random everywhere: initial biases and last layers are zero and would hide mistakes.
    generator = np.random.default_rng(0)
    draw = lambda x: 0.3 * generator.standard_normal(x.shape, np.float32)  # noqa: E731
    return unet, jax.tree.map(draw, shapes)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_split_is_whole(unet_and_params, dtype, tolerance):
    unet, params = unet_and_params
    unet = unet.clone(dtype=jnp.dtype(dtype))
    assert "attention" in params["down_0_0"]
    psi, x_t = jax.random.normal(jax.random.key(2), (2, 2, 8, 16, 3))
    hoisted, biases = hoist(unet, params, psi), level_biases(unet, params, LEVELS)
    split = jax.jit(lambda b: apply_hoisted(unet, hoisted, x_t, b))
    whole = jax.jit(lambda level: unet.apply({"params": params}, psi, x_t, level))
    for i, level in enumerate(LEVELS):
        expected = np.asarray(whole(jnp.full(2, level)))
        ours = np.asarray(split({name: bias[i] for name, bias in biases.items()}))
        assert np.linalg.norm(ours - expected) < tolerance * np.linalg.norm(expected)
    assert abs(whole(jnp.ones(2)) - whole(jnp.zeros(2))).max() > 0.01  # levels do matter


def test_every_block_gets_its_bias(unet_and_params):
    unet, params = unet_and_params
    blocks = {name for name in params if name.startswith(("down", "mid", "up"))}
    assert level_biases(unet, params, LEVELS).keys() == blocks

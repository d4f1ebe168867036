"""The 92 M denoiser and the condition network at 112 x 224 against the published program's."""

import jax
import jax.numpy as jnp

from lpdiff_jax.methods.lpdiff.model import Guide, build_model

SHAPE = (1, 3, 112, 224)


def test_full_size(full_checkpoint, golden, draw_image, relative_error):
    model, numbers = build_model(full_checkpoint.config["model"]), golden("full")
    parameters = jax.tree.leaves(full_checkpoint.variables["denoiser"])
    assert round(sum(array.size for array in parameters) / 1e6, 1) == 92.0

    frames = jnp.stack([draw_image(f"full.f{i}", SHAPE) for i in (1, 2, 3)], axis=1)
    psi = jax.jit(model.estimate)(full_checkpoint.variables, frames).image
    assert relative_error(psi, numbers["condition"]) < 1e-5

    x = jnp.asarray(draw_image("full.x", SHAPE))
    noise = jax.jit(model.predict_noise)(full_checkpoint.variables, Guide(psi), x, jnp.array([0.7]))
    assert relative_error(noise, numbers["eps"]) < 1e-4

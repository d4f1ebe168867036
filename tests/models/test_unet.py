"""Shapes and properties of the denoiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.models.unet import UNet

SMALL = dict(
    features=8, multipliers=(1, 2), blocks=1, norm_groups=4,
    nominal_resolution=32, attention_resolutions=(16,),
)  # fmt: skip


def draw(shape, seed=0):
    """Standard normal numbers."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def build(batch=2, **fields):
    """A module, random variables and inputs (psi, x_t, level)."""
    module = UNet(**(SMALL | fields))
    inputs = (draw((batch, 8, 16, 3)), draw((batch, 8, 16, 3), 1), jnp.linspace(0.2, 0.9, batch))
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    generator = np.random.default_rng(2)
    variables = jax.tree.map(lambda x: 0.3 * generator.standard_normal(x.shape, np.float32), shapes)
    return module, variables, inputs


@pytest.mark.parametrize(
    "choice",
    [{}, {"embedding": "level", "patch": 1, "dtype": jnp.bfloat16},
     {"attention_resolutions": (), "out_channels": 5, "multipliers": (1,)}],
    ids=str,
)  # fmt: skip
def test_every_choice_runs(choice):
    module, variables, inputs = build(**choice)
    output = jax.jit(module.apply)(variables, *inputs)
    assert output.shape == (2, 8, 16, module.out_channels) and output.dtype == jnp.float32
    assert np.isfinite(output).all() and float(output.std()) > 0


def test_samples_of_a_batch_do_not_meet():
    module, variables, inputs = build(batch=3)
    apply = jax.jit(module.apply)
    together = apply(variables, *inputs)
    for i in range(3):
        alone = apply(variables, *(x[i : i + 1] for x in inputs))
        np.testing.assert_allclose(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)


def test_it_hears_the_noise_level_and_the_condition():
    module, variables, (psi, x_t, level) = build()
    apply = jax.jit(module.apply)
    output = apply(variables, psi, x_t, level)
    for other in ((psi, x_t, level / 2), (-psi, x_t, level)):
        assert float(jnp.abs(apply(variables, *other) - output).max()) > 1e-3


def test_rematerialisation_changes_no_gradient():
    gradients = []
    for remat in (False, True):
        module, variables, inputs = build(remat=remat)

        def loss(v, module=module, inputs=inputs):
            return jnp.square(module.apply(v, *inputs)).mean()

        gradients.append(jax.jit(jax.grad(loss))(variables))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max()),
        *gradients,
    )


def test_dropout_needs_training():
    module, variables, inputs = build(dropout=0.5)
    train = jax.jit(lambda key: module.apply(variables, *inputs, True, rngs={"dropout": key}))
    still = jax.jit(module.apply)(variables, *inputs)  # without a key: nothing is drawn
    assert np.isfinite(still).all()
    a, b = (train(jax.random.key(i)) for i in range(2))
    assert float(jnp.abs(a - b).max()) > 1e-3


def test_the_forward_pass_exports():
    module, variables, inputs = build()
    forward = jax.jit(lambda *x: module.apply(variables, *x))
    exported = jax.export.export(forward, platforms=("cpu", "cuda", "tpu"))(*inputs)
    again = jax.export.deserialize(exported.serialize())
    np.testing.assert_allclose(again.call(*inputs), forward(*inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({}, (1, 8, 18, 3), "multiples of 4, not 8 x 18"),
        ({"embedding": "time"}, (1, 8, 16, 3), "'log_snr'"),
        ({"norm_groups": 5}, (1, 8, 16, 3), "8 channels do not divide into 5 groups"),
    ],
    ids=str,
)
def test_what_it_cannot_take_is_named(fields, shape, message):
    module, image = UNet(**(SMALL | fields)), jnp.zeros(shape)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), image, image, jnp.ones(1))

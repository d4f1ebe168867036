"""SRCNN against the public program's numbers."""

import jax
import jax.numpy as jnp
import pytest

from lpdiff_jax.pytorch.baselines import srcnn


@pytest.mark.parametrize("kernels", ["915", "955"])
def test_output_and_gradients(
    kernels, state, image, golden, check, check_gradient_norms, gradient_norms, compiled
):
    numbers = golden("srcnn")
    network, variables = srcnn.load(state("srcnn", kernels), "seeded")
    x, target = image("in.x", (2, 3, 16, 32)), image("in.hr", (2, 3, 16, 32))

    def loss(params):
        out = network.apply({"params": params}, x)
        return jnp.mean((out - target) ** 2), out

    (value, out), gradient = compiled(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    check(out, numbers[f"out_{kernels}"])
    check(value, numbers[f"loss_{kernels}"])
    check(gradient["conv3"]["bias"], numbers[f"grad.conv3.bias_{kernels}"])
    norms = gradient_norms(numbers, suffix=f"_{kernels}")
    check_gradient_norms(gradient, srcnn.NAMES, norms)

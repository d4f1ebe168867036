"""Parameters that are known to fit are not checked again while a function is traced."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError

from lpdiff_jax.restoring.tracing import trusting


class Counted(nn.Module):
    note: Callable[[tuple[int, ...]], None]

    @nn.compact
    def __call__(self, x):
        def init(key, shape):
            self.note(shape)
            return jnp.ones(shape)

        return x * self.param("scale", init, x.shape[-1:]) + nn.Dense(3)(x).sum()


@pytest.fixture
def network():
    calls = []
    module = Counted(calls.append)
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    return module, calls, module.init(jax.random.key(0), x), x


def test_no_initialiser_is_traced_and_the_result_is_the_same(network):
    module, calls, variables, x = network
    calls.clear()
    found = jax.jit(trusting(module.apply))(variables, x)
    assert calls == []
    assert np.array_equal(found, jax.jit(module.apply)(variables, x))
    assert calls == [(3,)]


def test_elsewhere_parameters_are_checked(network):
    module, _, variables, x = network
    trusting(module.apply)(variables, x)
    with pytest.raises(ScopeParamShapeError):
        module.apply(variables, x[:, :2])


def test_what_is_missing_is_still_told(network):
    module, _, _, x = network
    with pytest.raises(Exception, match="scale"):
        trusting(module.apply)({"params": {}}, x)


def test_fresh_parameters_are_made_as_ever(network):
    module, calls, variables, x = network
    calls.clear()
    fresh = trusting(module.init)(jax.random.key(0), x)
    assert calls == [(3,)]
    assert jax.tree.all(jax.tree.map(np.array_equal, fresh, variables))

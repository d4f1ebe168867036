"""The sketch draws the characters that it is given, where psi says that they stand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.models.sketch import Sketch
from tests.restoring.test_restorer import CONFIG

CLASSES, SLOTS = 4, 3
GLYPHS = np.random.default_rng(0).integers(0, 2, (CLASSES, 8, 4, 3)).astype(np.float32)


def draw_texts(generator, count):
    """Texts as probabilities [B, S, C] and their pictures [B, 8, 12, 3]."""
    labels = generator.integers(0, CLASSES, (count, SLOTS))
    pictures = np.concatenate(np.moveaxis(GLYPHS[labels], 1, 0), axis=2)
    return np.eye(CLASSES, dtype=np.float32)[labels], pictures


def test_it_learns_to_draw_the_text():
    """Texts never seen come out right, so it has learnt characters and places, not texts."""
    sketch = Sketch(layers=1, features=32, heads=2)
    generator = np.random.default_rng(1)
    psi = jnp.zeros((32, 8, 12, 3))
    variables = jax.jit(sketch.init)(jax.random.key(0), jnp.zeros((32, SLOTS, CLASSES)), psi)
    optimizer = optax.adam(3e-3)

    def error(variables, slots, picture):
        return jnp.abs(sketch.apply(variables, slots, psi) - picture).mean()

    @jax.jit
    def step(variables, state, slots, picture):
        value, grads = jax.value_and_grad(error)(variables, slots, picture)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(variables, updates), state, value

    state = optimizer.init(variables)
    # Of the 64 texts the last is kept for the test.
    kept = np.full((32, SLOTS), CLASSES - 1)
    for _ in range(300):
        slots, picture = draw_texts(generator, 32)
        seen = ~(slots.argmax(-1) == kept).all(-1)
        slots, picture = slots * seen[:, None, None], picture * seen[:, None, None, None]
        variables, state, _ = step(variables, state, slots, picture)
    picture = np.concatenate(GLYPHS[kept[0]], axis=1)[None]
    assert error(variables, np.eye(CLASSES, dtype=np.float32)[kept], picture) < 0.1


def test_it_follows_psi_too():
    sketch = Sketch(layers=2, features=8, heads=2)
    slots, _ = draw_texts(np.random.default_rng(2), 2)
    psi = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
    drawing, variables = sketch.init_with_output(jax.random.key(1), slots, psi)
    assert drawing.shape == (2, 8, 12, 3)
    assert drawing.dtype == jnp.float32
    np.testing.assert_array_equal(drawing, 0)  # it begins with nothing drawn
    variables = jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(2), x.shape), variables)
    drawing = sketch.apply(variables, slots, psi)
    moved = sketch.apply(variables, slots, jnp.roll(psi, 2, axis=2))
    assert jnp.abs(moved - drawing).max() > 1e-3


def test_a_column_begins_with_the_slot_at_its_place():
    """Of plates with as many characters as slots, and of those with one less."""
    sketch = Sketch(layers=1, features=8, heads=2)
    slots, _ = draw_texts(np.random.default_rng(2), 1)
    psi = jnp.zeros((1, 8, 12, 3))
    params = sketch.init(jax.random.key(0), slots, psi)["params"]
    expected = params["layer_0_place"].argmax(-1)
    np.testing.assert_array_equal(expected, [[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2]])


@pytest.mark.parametrize("wrong", [{"layers": -1}, {"features": 9}])
def test_impossible_sizes_are_the_users_mistake(wrong):
    sketch = {"layers": 1, "features": 8, "heads": 2} | wrong
    with pytest.raises(UserError, match=r"sketch\.features a multiple"):
        build_model(CONFIG | {"sketch": sketch})


def test_without_a_reading_head_there_is_no_text_to_draw():
    with pytest.raises(UserError, match="needs a reading head"):
        build_model(CONFIG | {"sketch": {"layers": 1, "features": 8, "heads": 2}})

"""The sketch draws the characters that it is given, where psi says that they stand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipeline.example import encode_text
from lpdiff_jax.diffusion.samplers import Sampler
from lpdiff_jax.errors import UserError
from lpdiff_jax.methods.lpdiff.losses import guide_of
from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.models.sketch import Sketch, likeliest
from lpdiff_jax.restoring.restorer import Restorer
from tests.methods.small_lpdiff import CONFIG, READER, SAMPLER, draw_variables

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


ONE_TEXT = {"sketch": {"layers": 1, "features": 8, "heads": 2, "text": "likeliest"}}


@pytest.fixture(scope="module")
def restorer():
    model = build_model(CONFIG | READER | ONE_TEXT)
    return Restorer(model, draw_variables(model), SAMPLER)


def test_it_draws_one_text_and_is_trained_with_the_true_one(restorer):
    model, variables = restorer.method, restorer.variables
    frames = jnp.full((2, 2, *model.image_size, 3), 100, jnp.uint8)
    mask, texts = jnp.ones((2, 2), bool), np.stack([encode_text(text) for text in ("A1", "")])
    batch = {"frames": frames, "frame_mask": mask, "text": texts}
    estimate = model.estimate(variables, frames / 127.5 - 1, mask)
    seen = model._see(variables, frames / 127.5 - 1, mask)
    sure = likeliest(estimate.guide.slots)
    drawn = lambda text: model.sketch.apply(variables["sketch"], text, seen.psi)  # noqa: E731
    np.testing.assert_allclose(estimate.guide.sketch, drawn(sure), atol=1e-5)
    judged = guide_of(model, variables, seen, batch, train=False)
    np.testing.assert_allclose(judged.sketch, drawn(sure), atol=1e-5)
    taught = guide_of(model, variables, seen, batch, train=True)
    true = np.eye(4, dtype=np.float32)[[1, 3, 0]]  # "A1" of AB1, and an empty slot
    # The second plate has no label.
    np.testing.assert_allclose(taught.sketch, drawn(jnp.stack([true, sure[1]])), atol=1e-5)
    assert abs(taught.sketch[0] - estimate.guide.sketch[0]).max() > 1e-3


def test_samples_suppose_other_texts_where_the_head_is_unsure(restorer):
    frames = np.random.default_rng(1).uniform(-1, 1, (1, 2, *restorer.image_size, 3))
    estimate = restorer.estimate(frames)
    slots = jnp.asarray([[[0, 1, 0, 0], [0, 0.5, 0.5, 0], [1, 0, 0, 0]]], jnp.float32)
    unsure = estimate._replace(guide=estimate.guide._replace(slots=slots))
    keys, numbers = jax.random.split(jax.random.key(0), 16), jnp.arange(16)
    many = jax.tree.map(lambda x: jnp.repeat(x, 16, axis=0), unsure)
    sketches = restorer.method.suppose(restorer.variables, many, keys, numbers).guide.sketch
    np.testing.assert_array_equal(sketches[0], unsure.guide.sketch[0])
    texts = np.eye(4, dtype=np.float32)[[[1, 1, 0], [1, 2, 0]]]
    psi = jnp.repeat(unsure.guide.psi, 2, axis=0)
    one, other = restorer.method.sketch.apply(restorer.variables["sketch"], texts, psi)
    is_one = [np.allclose(sketch, one, atol=1e-5) for sketch in sketches[1:]]
    is_other = [np.allclose(sketch, other, atol=1e-5) for sketch in sketches[1:]]
    assert all(a != b for a, b in zip(is_one, is_other, strict=True))
    assert 2 < sum(is_one) < 13


def test_the_first_of_several_samples_is_the_only_one_of_one(restorer):
    frames = np.random.default_rng(1).uniform(-1, 1, (2, 2, *restorer.image_size, 3))
    three = restorer.restore(frames, samples=3)
    np.testing.assert_allclose(three[:, :1], restorer.restore(frames), atol=1e-5)


def test_sampling_begins_with_the_sketch_where_not_all_is_noise(restorer):
    """With hardly any noise the first step's picture is what the sketch has drawn on psi."""
    frames = np.random.default_rng(1).uniform(-1, 1, (2, 2, *restorer.image_size, 3))
    guide = restorer.estimate(frames).guide
    model, noise = restorer.method, jnp.ones_like(guide.psi)
    part = Sampler(steps=1, start=0.1).steps_of(model.schedule)
    first = model.first(guide, noise, part)
    level = (1 - part.first_scale**2) ** 0.5
    np.testing.assert_allclose(first, level * guide.sketch + part.first_scale, atol=1e-6)
    assert 0.9 < level < 1
    whole = Sampler(steps=1).steps_of(model.schedule)
    np.testing.assert_array_equal(model.first(guide, noise, whole), noise)

"""The reading head, and the labels that it learns from."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipeline.example import encode_text
from lpdiff_jax.models.reading_head import ReadingHead
from lpdiff_jax.reading import CHARSET, UNKNOWN, read_slots, slot_labels

TEXTS = ["粤B12345", "京AD12345", "1", "é"]


def labels(*texts: str, charset: str = CHARSET) -> np.ndarray:
    codes = np.stack([encode_text(text) for text in texts])
    return np.asarray(slot_labels(jnp.asarray(codes), charset, 8))


@pytest.mark.parametrize("text", TEXTS)
def test_labels_spell_their_text(text):
    charset = CHARSET + "é"
    (row,) = labels(text, charset=charset)
    assert "".join(charset[k - 1] for k in row if k) == text
    assert (row[len(text) :] == 0).all()


@pytest.mark.parametrize("text", ["", "粤B123456789", "粤b12345"])
def test_a_plate_that_cannot_be_spelt_is_not_labelled(text):
    assert (labels(text) == UNKNOWN).all()


def test_a_reading_is_as_sure_as_all_its_slots():
    probabilities = np.full((1, 3, len(CHARSET) + 1), 0.0)
    for slot, (character, probability) in enumerate([("粤", 0.5), ("B", 0.8), ("", 0.9)]):
        probabilities[0, slot, CHARSET.index(character) + 1 if character else 0] = probability
    (reading,) = read_slots(probabilities, CHARSET)
    assert reading.text == "粤B"
    assert reading.character_confidences == (0.5, 0.8)
    assert reading.confidence == pytest.approx(0.5 * 0.8 * 0.9)


def test_it_learns_where_its_characters_are():
    """Each column of the features holds a character; the slots learn to read them in order."""
    head = ReadingHead(classes=5, slots=3, features=16, layers=1, heads=2)
    rng = np.random.default_rng(0)
    texts = jnp.asarray(rng.integers(0, 5, (64, 3)))
    features = jnp.repeat(jax.nn.one_hot(texts, 5)[:, None], 2, axis=1)
    params = head.init(jax.random.key(0), features)
    optimizer = optax.adam(1e-2)

    def loss(params):
        logits = head.apply(params, features)
        return optax.softmax_cross_entropy_with_integer_labels(logits, texts).mean()

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(150):
        params, state = step(params, state)
    right = head.apply(params, features).argmax(-1) == texts
    assert right.mean() > 0.95

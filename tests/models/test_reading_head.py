"""The reading head, and the labels that it learns from."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipeline.example import encode_text
from lpdiff_jax.methods.lpdiff.losses import reading_loss
from lpdiff_jax.models.reading_head import ReadingHead, collapse
from lpdiff_jax.plate_text import CHARSET, UNKNOWN, SlotReader, slot_labels

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
    (reading,) = SlotReader(CHARSET).read(probabilities)
    assert reading.text == "粤B"
    assert reading.character_confidences == (0.5, 0.8)
    assert reading.confidence == pytest.approx(0.5 * 0.8 * 0.9)


@pytest.mark.parametrize("alignment", ["slots", "ctc"])
def test_it_learns_where_its_characters_are(alignment):
    """Columns of the features hold a character each; the head learns to read them in order."""
    head = ReadingHead(5, slots=4, features=16, layers=1, heads=2, alignment=alignment)
    rng = np.random.default_rng(0)
    texts = np.pad(rng.integers(1, 5, (64, 3)), ((0, 0), (0, 1)))
    texts[::4, 2] = 0  # some are shorter
    columns = jnp.repeat(jax.nn.one_hot(texts, 5), 3, axis=1)
    features = jnp.repeat(columns[:, None], 2, axis=1)
    params = head.init(jax.random.key(0), features)
    optimizer = optax.adam(1e-2)

    def loss(params):
        losses, watched = reading_loss(head, head.apply(params, features), jnp.asarray(texts))
        return losses.mean(), watched["characters"].mean()

    @jax.jit
    def step(params, state):
        grads, right = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, right

    state = optimizer.init(params)
    for _ in range(200):
        params, state, right = step(params, state)
    assert right > 0.95


def test_ctc_collapses_runs_of_columns():
    """Repeats are one character, unless an empty column parts them; each is its surest column."""
    named = [0, 2, 2, 0, 2, 1, 0]
    sure = [0.9, 0.6, 0.8, 0.5, 0.7, 0.95, 0.9]
    columns = np.zeros((1, 7, 3), np.float32)
    columns[0, range(7), named] = sure
    slots = np.asarray(collapse(jnp.asarray(columns), 4))[0]
    assert slots.argmax(-1).tolist() == [2, 2, 1, 0]
    np.testing.assert_allclose(slots.max(-1), [0.8, 0.7, 0.95, 1.0])
    assert np.asarray(collapse(jnp.asarray(columns), 2))[0].argmax(-1).tolist() == [2, 2]


@pytest.mark.parametrize("alignment", ["slots", "ctc"])
def test_a_plate_without_a_label_costs_nothing(alignment):
    head = ReadingHead(5, slots=4, alignment=alignment)
    logits = jax.random.normal(jax.random.key(0), (2, 4 if alignment == "slots" else 12, 5))
    labels = jnp.asarray([[1, 2, 0, 0], [UNKNOWN] * 4])
    losses, _ = reading_loss(head, logits, labels)
    assert losses[0] > 0 and losses[1] == 0

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.models.condition import ConditionNetwork
from lpdiff_jax.models.reading_head import ReadingHead
from lpdiff_jax.models.straightening import (
    Straightener,
    corners_of,
    inverse,
    resample,
)

HEIGHT, WIDTH = 16, 32
PLACE = np.float32([[0.9, 0.05, 0.03], [-0.08, 0.85, 0.1]])
IDENTITY = np.float32([[1, 0, 0], [0, 1, 0]])
NETWORK = ConditionNetwork(features=(8, 8), strides=(1, 2), blocks=1, norm_groups=4, heads=2)


def init(network, *inputs, seed=0):
    """Fresh variables; compiled as a whole, which is quicker than operation by operation."""
    return jax.jit(network.init)(jax.random.key(seed), *inputs)


def apply(network, variables, *inputs, method="__call__"):
    """What a network computes, compiled as a whole."""
    return jax.jit(lambda v, *x: network.apply(v, *x, method=method))(variables, *inputs)


@pytest.fixture(scope="module")
def image():
    noise = np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2)


@pytest.fixture(scope="module")
def frames():
    return jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (2, 3, HEIGHT, WIDTH, 3)), "float32")


def test_resampling_is_opencvs(image):
    """The same map in pixels, whose centres lie half a pixel from the edge."""
    size = np.array([WIDTH, HEIGHT])
    turn = PLACE[:, :2] * size[:, None] / size
    shift = size * (PLACE[:, :2] @ (0.5 / size) + PLACE[:, 2]) - 0.5
    expected = cv2.warpAffine(
        image, np.column_stack([turn, shift]), (WIDTH, HEIGHT),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    found = resample(jnp.asarray(image)[None], jnp.asarray(PLACE)[None])[0]
    # OpenCV's weights are multiples of 1/32.
    np.testing.assert_allclose(found, expected, atol=2e-2 * image.std())
    still = resample(jnp.asarray(image)[None], jnp.asarray(IDENTITY)[None])[0]
    np.testing.assert_allclose(still, image, atol=1e-6)


def test_resampling_has_a_gradient_by_the_place(image):
    images = jnp.asarray(image)[None]

    def loss(place):
        return jnp.square(resample(images, place[None])).mean()

    slope = jax.grad(loss)(jnp.asarray(PLACE))
    step = jnp.zeros((2, 3)).at[0, 2].set(1e-3)
    difference = (loss(PLACE + step) - loss(PLACE - step)) / 2e-3
    np.testing.assert_allclose(slope[0, 2], difference, rtol=0.05)


def test_the_plate_of_a_place_and_the_place_the_other_way():
    corners = np.asarray(corners_of(jnp.asarray(PLACE)))
    # The upper left one is at (0.02, 0.04) of the straightened image, the lower right one opposite.
    seen = np.array([[0.02, 0.04, 1], [0.98, 0.96, 1]])
    np.testing.assert_allclose(corners[[0, 2]], seen @ PLACE.T, atol=1e-6)
    whole = np.vstack([PLACE, [0, 0, 1]])
    back = np.vstack([inverse(jnp.asarray(PLACE)), [0, 0, 1]])
    np.testing.assert_allclose(whole @ back, np.eye(3), atol=1e-6)


def test_a_padded_frame_is_not_looked_at(frames):
    network = Straightener(features=8, norm_groups=4, hidden=16)
    mask = jnp.asarray([[True, True, False]] * 2)
    variables = init(network, frames, mask)
    variables = jax.tree.map(lambda x: x + 0.05, variables)
    places, truth = apply(network, variables, frames, mask)
    assert places.shape == (2, 3, 2, 3) and truth.shape == (2, 2, 3)
    others, other = apply(network, variables, frames.at[:, 2].set(0.3), mask)
    np.testing.assert_array_equal(places[:, :2], others[:, :2])
    np.testing.assert_array_equal(truth, other)
    assert (places[:, 2] != others[:, 2]).any()


def test_a_condition_network_that_has_grown_does_the_same_at_first(frames):
    """So a trained one is trained on with more layers than it had."""
    frames = frames[:1, :2]
    grown = NETWORK.clone(straightener=8, detail=8, blocks=2, frame_blocks=2)
    small = init(NETWORK, frames)["params"]
    small = jax.tree.map(lambda x: x + 0.01, small)
    large = init(grown, frames, seed=1)["params"]
    merged = _over(large, small)
    before = apply(NETWORK, {"params": small}, frames, method="estimate")
    after = apply(grown, {"params": merged}, frames, method="estimate")
    for old, new in zip(before[:2], after[:2], strict=True):
        np.testing.assert_allclose(new, old, atol=1e-4)


def test_a_head_that_has_grown_does_the_same_at_first():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 8, 6)), "float32")
    small, large = (ReadingHead(classes=5, features=8, heads=2, layers=n) for n in (1, 3))
    trained = jax.tree.map(lambda x: x + 0.1, init(small, features)["params"])
    merged = _over(init(large, features, seed=1)["params"], trained)
    np.testing.assert_allclose(
        apply(large, {"params": merged}, features),
        apply(small, {"params": trained}, features),
        atol=1e-5,
    )


def _over(tree, trained):
    """A tree with what has been trained in its place."""
    if not isinstance(tree, dict):
        return trained
    return {k: _over(v, trained[k]) if k in trained else v for k, v in tree.items()}


def test_a_moved_plate_is_straightened_and_psi_goes_back(frames):
    """With the same place in all frames and in the truth, borders apart, all is as without it."""
    frames = frames[:1, :2]
    network = NETWORK.clone(straightener=8)
    variables = init(network, frames)
    bias = 10 * (PLACE - IDENTITY).reshape(-1)
    for name in ("frame_place", "truth_place"):
        variables["params"]["straighten"][name]["bias"] = jnp.asarray(bias)
    psi, features, places = apply(network, variables, frames, method="estimate")
    alone = {k: v for k, v in variables["params"].items() if k != "straighten"}
    flat = jnp.asarray(np.tile(PLACE, (2, 1, 1)))
    straight = resample(frames[0], flat)[None]
    expected, seen, _ = apply(NETWORK, {"params": alone}, straight, method="estimate")
    np.testing.assert_allclose(features, seen, atol=1e-5)
    np.testing.assert_allclose(
        psi, resample(expected, inverse(jnp.asarray(PLACE))[None]), atol=1e-5
    )
    np.testing.assert_allclose(places[0][0, 1], PLACE, atol=1e-6)
    np.testing.assert_allclose(places[1][0], PLACE, atol=1e-6)

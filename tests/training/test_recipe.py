"""The recipe's choices: what each one changes, and that it does not change what it should not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import compact, lpdiff, pretrained, quickstart, released
from data_pipeline.example import encode_text
from lpdiff_jax.diffusion.objective import (
    Objective,
    diffuse,
    draw_levels,
    prediction_target,
    to_noise,
    to_x0,
)
from lpdiff_jax.errors import UserError
from lpdiff_jax.images import to_float
from lpdiff_jax.methods.lpdiff.losses import psi_loss
from lpdiff_jax.methods.lpdiff.model import LPDiff, build_model
from lpdiff_jax.methods.lpdiff.stages import make_stage
from lpdiff_jax.methods.metrics import by_noise_level
from lpdiff_jax.models.dropout import per_sample_dropout
from lpdiff_jax.models.straightening import corners_of
from lpdiff_jax.models.unet import UNet
from lpdiff_jax.training.optimizer import learning_rate, make_optimizer
from lpdiff_jax.training.progress import means_of
from lpdiff_jax.training.state import create_state, init_variables
from lpdiff_jax.training.step import averages, gradients, make_train_step
from tests.training.small_model import small_model
from tests.training.tiny import tiny_config

SMALL_UNET = dict(
    features=4, multipliers=(1,), blocks=1, norm_groups=2, attention_resolutions=(), patch=1
)


def make_batch(model: LPDiff, size: int = 8, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    image = (*model.image_size, 3)
    return {
        "frames": rng.integers(0, 256, (size, 2, *image), np.uint8),
        "frame_mask": np.ones((size, 2), bool),
        "target": rng.integers(0, 256, (size, *image), np.uint8),
        "position": np.arange(size),
    }


def reading_config(alignment: str, **changes):
    """Twice as wide as the tiny one: CTC parts equal neighbours by a column."""
    wide = {"model.reader.alignment": alignment, "model.image_size": (8, 32)}
    return tiny_config(**wide, **changes)


@pytest.mark.parametrize("alignment", ["slots", "ctc"])
def test_the_reading_head_learns_from_labelled_plates_alone(alignment):
    config = reading_config(alignment)
    model = build_model(config.model)
    stage = make_stage("psi", model, config)
    variables = init_variables(model, 0, networks=("condition",))
    batch = make_batch(model, 2) | {"text": np.stack([encode_text("粤B12345"), encode_text("")])}
    loss, metrics, _ = stage.loss(variables, batch, jax.random.key(0), True)
    assert metrics["reading_loss"][0] > 1 and metrics["reading_loss"][1] == 0
    image = psi_loss(
        model.estimate(variables, to_float(batch["frames"])).image, to_float(batch["target"]), 0.5
    )
    expected = image + config.psi.reading_weight * metrics["reading_loss"]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert set(stage.trained) == {"condition", "reader"}


def test_the_straightener_learns_from_plates_whose_corners_are_known():
    config = tiny_config(**{"model.condition.straightener": 8, "psi.place_weight": 5.0})
    model = build_model(config.model)
    stage = make_stage("psi", model, config)
    variables = init_variables(model, 0, networks=("condition",))
    corners = np.full((2, 3, 4, 2), np.nan, np.float32)
    # A plate that has moved by a tenth from where it is at first thought to be, in the truth alone.
    corners[0, :2] = corners_of(jnp.eye(2, 3))
    corners[0, 2] = corners_of(jnp.eye(2, 3)) + 0.1
    batch = make_batch(model, 2) | {"text": np.zeros((2, 32), np.uint8), "corners": corners}
    batch["frame_mask"][0, 1] = False
    loss, metrics, _ = stage.loss(variables, batch, jax.random.key(0), True)
    np.testing.assert_allclose(metrics["place_loss"], [0.1 / 2, 0], atol=1e-6)
    gradient = jax.grad(
        lambda v: stage.loss(v, batch, jax.random.key(0), True)[1]["place_loss"].sum()
    )(variables)
    moved = gradient["condition"]["params"]["straighten"]
    assert np.abs(moved["truth_place"]["bias"]).max() > 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    config.psi.place_weight = 0.0
    without, _, _ = stage.loss(variables, batch, jax.random.key(0), True)
    np.testing.assert_allclose(loss - without, [5 * 0.05, 0], atol=1e-5)


def stage_gradients(config, name="diffusion", model=None, key=0):
    """(gradients, metrics) of a stage on one batch, from fresh variables."""
    model = model or small_model()
    stage = make_stage(name, model, config)
    variables = init_variables(model, 0, networks=stage.networks)
    state = create_state(variables, stage.trained, make_optimizer(config[name], stage.trained))
    grads, metrics, _ = gradients(stage, state, make_batch(model), jax.random.key(key))
    return grads, metrics


@pytest.mark.parametrize(
    "mode, trained, has_psi_loss",
    [
        ("frozen", {"denoiser"}, False),
        ("detached", {"condition", "denoiser"}, True),
        ("joint", {"condition", "denoiser"}, True),
        ("unsupervised", {"condition", "denoiser"}, False),
    ],
)
def test_what_reaches_psi(mode, trained, has_psi_loss):
    config = tiny_config(**{"diffusion.condition": mode})
    grads, metrics = stage_gradients(config)
    assert set(grads) == trained
    assert ("psi_loss" in metrics) == has_psi_loss
    if has_psi_loss:
        np.testing.assert_allclose(
            metrics["loss"].total,
            metrics["psi_loss"].total + metrics["diffusion_loss"].total,
            rtol=1e-6,
        )


@pytest.mark.parametrize("mode", ["frozen", "joint"])
def test_the_diffusion_leaves_the_sketch_as_it_is(mode):
    """Its loss would make it draw what helps the denoiser, and no longer the plate."""
    config = tiny_config(**{"diffusion.condition": mode, "model.sketch.layers": 1})
    stage = make_stage("diffusion", build_model(config.model), config)
    expected = {"condition", "reader"} if mode == "joint" else set()
    assert set(stage.trained) == {"denoiser"} | expected


@pytest.mark.parametrize("alignment", ["slots", "ctc"])
def test_the_sketch_learns_psis_residual_alone(alignment):
    config = reading_config(alignment, **{"model.sketch.layers": 1})
    model = build_model(config.model)
    stage = make_stage("sketch", model, config)
    variables = init_variables(model, 0, networks=stage.networks)
    assert set(variables) == {"condition", "reader", "sketch"}
    batch = make_batch(model)
    state = create_state(variables, stage.trained, make_optimizer(config.sketch, stage.trained))
    grads, metrics, _ = gradients(stage, state, batch, jax.random.key(0))
    assert set(grads) == {"sketch"}
    # A fresh sketch draws nothing, so what it misses is the whole residual.
    psi = model.estimate(variables, to_float(batch["frames"])).image
    residual = np.asarray((to_float(batch["target"]) - psi) / model.residual_scale)
    np.testing.assert_allclose(metrics["loss"].total, np.square(residual).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["drawn_psnr"].total, metrics["psnr"].total, rtol=1e-6)
    # With what is missing as its bias, every column draws its share of it.
    sketch = variables["sketch"]["params"]
    strokes = sketch["strokes"] | {"bias": sketch["strokes"]["bias"] + residual.mean()}
    moved = variables | {"sketch": {"params": sketch | {"strokes": strokes}}}
    value, _, _ = stage.loss(moved, batch, jax.random.key(0), True)
    np.testing.assert_allclose(
        value.mean(), np.square(residual).mean() - residual.mean() ** 2, rtol=1e-4
    )


@pytest.mark.parametrize("alignment", ["slots", "ctc"])
def test_an_estimate_has_a_distribution_a_slot(alignment):
    config = reading_config(alignment)
    model = build_model(config.model)
    variables = init_variables(model, 0, networks=("condition", "reader"))
    slots = model.estimate(variables, to_float(make_batch(model, 2)["frames"])).slots
    assert slots.shape == (2, 8, len(model.slot_reader.charset) + 1)
    np.testing.assert_allclose(slots.sum(-1), 1, rtol=1e-5)


def test_an_unknown_alignment_is_the_users_mistake():
    with pytest.raises(UserError, match=r"reader\.alignment is 'words'; allowed: 'slots', 'ctc'"):
        build_model(tiny_config(**{"model.reader.alignment": "words"}).model)


def test_ctc_needs_columns_enough():
    with pytest.raises(UserError, match="needs 15 columns for 8 slots; image_size gives 8"):
        build_model(tiny_config(**{"model.reader.alignment": "ctc"}).model)


def test_a_stage_sketch_needs_a_sketch():
    with pytest.raises(UserError, match=r"sketch\.layers is 0"):
        make_stage("sketch", small_model(), tiny_config())


def test_detached_psi_learns_from_its_own_loss_alone():
    detached, _ = stage_gradients(tiny_config(**{"diffusion.condition": "detached"}))
    other_noise, _ = stage_gradients(tiny_config(**{"diffusion.condition": "detached"}), key=1)
    joint, _ = stage_gradients(tiny_config(**{"diffusion.condition": "joint"}))
    alone, _ = stage_gradients(tiny_config(), "psi")
    kernel = lambda grads: np.asarray(grads["condition"]["conv"]["kernel"])  # noqa: E731
    np.testing.assert_allclose(kernel(detached), kernel(alone), rtol=1e-5)
    np.testing.assert_allclose(kernel(detached), kernel(other_noise), rtol=1e-5)
    assert np.abs(kernel(joint) - kernel(alone)).max() > 1e-3


def test_shift_tolerance_forgives_a_shift_and_nothing_else():
    rng = np.random.default_rng(0)
    target = jnp.asarray(rng.uniform(-1, 1, (2, 16, 32, 3)), jnp.float32)
    moved = jnp.roll(target, (1, -2), (1, 2))
    assert psi_loss(moved, target, 0.5, shift=2).max() == 0
    assert psi_loss(moved, target, 0.5, shift=1).min() > 0.1
    assert psi_loss(moved, target, 0.5).min() > 0.1
    brighter = psi_loss(target + 0.25, target, 0.5, shift=2)
    np.testing.assert_allclose(brighter, 0.25, atol=1e-5)


def test_psi_loss_weighs_gradients():
    target = jnp.zeros((1, 4, 4, 3))
    stripes = target.at[:, :, ::2].set(1.0)
    np.testing.assert_allclose(psi_loss(stripes, target, 0.0), 0.5)
    np.testing.assert_allclose(psi_loss(stripes, target, 0.5), 0.5 + 0.5)


def test_losses_by_noise_level_average_to_the_loss():
    losses, level = jnp.array([1.0, 2.0, 3.0, 6.0]), jnp.array([0.1, 0.2, 0.8, 1.0])
    means = means_of([averages(by_noise_level(losses, level), jnp.ones(4))])
    assert means == {"loss_level_0": 1.5, "loss_level_3": 4.5}


def test_learning_rate_warms_up_and_decays():
    rate = learning_rate(
        tiny_config(**{"psi.steps": 100, "psi.warmup_steps": 10, "psi.learning_rate": 1.0}).psi
    )
    values = np.array([rate(step) for step in range(101)])
    assert values.argmax() == 10 and values[10] == 1 and values[100] < 1e-6
    assert (np.diff(values[:11]) > 0).all() and (np.diff(values[10:]) < 0).all()


def test_clipping_bounds_the_update_and_decay_spares_biases():
    config = tiny_config(**{"psi.weight_decay": 0.1, "psi.warmup_steps": 0}).psi
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    optimizer = make_optimizer(config, ("net",))
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    assert np.abs(updates["bias"]).max() == 0 and np.abs(updates["kernel"]).min() > 0
    clipped = make_optimizer(tiny_config(**{"psi.clip_norm": 1.0}).psi, ("net",))
    huge = jax.tree.map(lambda x: 1e6 * x, params)
    _, memory = clipped.update(huge, clipped.init(params), params)
    first_moment = optax.tree.get(memory, "mu")
    np.testing.assert_allclose(optax.tree.norm(first_moment), 0.1, rtol=1e-5)


MATRICES = {
    "dense": ((16, 32), (16, 32)),
    "conv": ((3, 3, 4, 16), (36, 16)),
    "query": ((16, 2, 8), (16, 16)),
    "out": ((2, 8, 16), (16, 16)),
}


def test_muon_steps_in_all_directions_alike_and_as_far_as_adamw():
    fields = {"optimizer": "muon", "weight_decay": 0.0, "warmup_steps": 0, "decay": "none"}
    config = tiny_config(**{f"psi.{name}": value for name, value in fields.items()}).psi
    optimizer = make_optimizer(config, ("net",))
    keys = jax.random.split(jax.random.key(0), len(MATRICES))
    grads = {
        name: {"kernel": jax.random.normal(key, shape), "bias": jnp.ones(shape[-1])}
        for key, (name, (shape, _)) in zip(keys, MATRICES.items(), strict=True)
    }
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
    for name, (_, matrix) in MATRICES.items():
        update = updates[name]["kernel"].reshape(matrix) / config.learning_rate
        values = np.linalg.svd(update, compute_uv=False)
        assert values.min() > 0.5 * values.max()
        assert 0.1 < float(jnp.sqrt(jnp.mean(update**2))) < 0.25
        first = -updates[name]["bias"] / config.learning_rate
        assert first.min() > 0.9 and first.max() < 1.6  # Adam's, with Nesterov's momentum


def test_an_optimiser_that_there_is_not():
    with pytest.raises(ValueError, match="'sgd'; allowed: 'adamw', 'muon'"):
        make_optimizer(tiny_config(**{"psi.optimizer": "sgd"}).psi, ("net",))


def test_ema_is_the_weighted_mean_of_the_parameters():
    config, model = tiny_config(), small_model()
    stage = make_stage("psi", model, config)
    optimizer = make_optimizer(config.psi, stage.trained)
    state = create_state(
        init_variables(model, 0, networks=("condition",)), stage.trained, optimizer
    )
    step = make_train_step(stage, optimizer, seed=0, ema_decay=0.75)
    after, _ = step(state, make_batch(model), lambda tree: tree)
    for old, new, mean in zip(
        *map(jax.tree.leaves, (state.params, after.params, after.ema)), strict=True
    ):
        np.testing.assert_allclose(mean, 0.75 * old + 0.25 * new, atol=1e-7)


def test_accumulated_gradients_are_those_of_the_large_batch():
    config, model = tiny_config(**{"diffusion.condition": "joint"}), small_model()
    stage = make_stage("diffusion", model, config)
    state = create_state(
        init_variables(model, 0), stage.trained, make_optimizer(config.diffusion, stage.trained)
    )
    batch, key = make_batch(model, 8), jax.random.key(3)
    whole, metrics, _ = gradients(stage, state, batch, key)
    for parts in (2, 4, 8):
        summed, part_metrics, _ = gradients(stage, state, batch, key, parts)
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(summed), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        np.testing.assert_allclose(metrics["loss"].total, part_metrics["loss"].total, rtol=1e-6)


def test_dropout_belongs_to_the_sample_not_to_its_place_on_a_device():
    model = small_model()
    variables = init_variables(model, 0)
    keys = jax.random.split(jax.random.key(0), 4)
    image, level = jnp.ones((4, 8, 16, 3)), jnp.full(4, 0.5)

    def output(order):
        with per_sample_dropout(keys[order]):
            return model.denoiser.apply(
                variables["denoiser"], image[order], image[order], level[order], train=True
            )

    whole = output(np.arange(4))
    assert np.abs(whole[0] - whole[1]).max() > 0
    np.testing.assert_array_equal(output(np.array([2])), whole[2:3])
    np.testing.assert_array_equal(output(np.array([3, 1])), whole[np.array([3, 1])])


def test_bfloat16_computes_low_and_keeps_float32():
    losses = {}
    for dtype in ("float32", "bfloat16"):
        config = tiny_config()
        denoiser = UNet(**SMALL_UNET, dtype=jnp.dtype(dtype))
        model = dataclasses.replace(small_model(), denoiser=denoiser)
        stage = make_stage("diffusion", model, config)
        optimizer = make_optimizer(config.diffusion, stage.trained)
        state = create_state(init_variables(model, 0), stage.trained, optimizer)
        step = jax.jit(make_train_step(stage, optimizer, seed=0, ema_decay=0.9), static_argnums=2)
        for _ in range(2):  # the first one's output is zero, as its last convolution is
            state, report = step(state, make_batch(model), _itself)
        floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
        assert {x.dtype for x in floats} == {jnp.dtype("float32")}
        losses[dtype] = report.metrics["loss"].total
        assert losses[dtype].dtype == jnp.float32
    assert losses["float32"] != losses["bfloat16"]
    np.testing.assert_allclose(losses["float32"], losses["bfloat16"], rtol=2e-2)


def _itself(tree):
    return tree


@pytest.mark.parametrize("config", [lpdiff, compact, pretrained, quickstart, released])
def test_every_configuration_describes_stages_that_can_be_built(config):
    config = config.get_config()
    model = build_model(config.model)
    for name in config.stages:
        stage = make_stage(name, model, config)
        assert set(stage.trained) <= {"condition", "reader", "sketch", "denoiser"}


def test_an_unknown_choice_names_those_there_are():
    for field in ("condition", "levels", "weighting"):
        with pytest.raises(UserError, match=r"config\.diffusion.*allowed"):
            make_stage("diffusion", small_model(), tiny_config(**{f"diffusion.{field}": "x"}))


@pytest.mark.parametrize("prediction", ["noise", "x0", "v"])
@pytest.mark.parametrize("weighting", ["none", "min_snr"])
def test_a_perfect_prediction_has_no_loss_and_gives_x0_back(prediction, weighting):
    rng = np.random.default_rng(0)
    x_0, noise = (jnp.asarray(rng.normal(size=(4, 2, 3, 3)), jnp.float32) for _ in range(2))
    level = jnp.array([0.05, 0.4, 0.7, 0.99])
    x_t = diffuse(x_0, noise, level)
    perfect = prediction_target(prediction, x_0, noise, level)
    objective = Objective(prediction, "stratified", weighting)
    assert objective.per_sample_loss(perfect, x_0, noise, level).max() == 0
    np.testing.assert_allclose(to_x0(prediction, perfect, x_t, level), x_0, atol=1e-4)
    np.testing.assert_allclose(to_noise(prediction, perfect, x_t, level), noise, atol=1e-4)
    off = objective.per_sample_loss(perfect + 0.1, x_0, noise, level)
    snr = level**2 / (1 - level**2)
    capped = jnp.minimum(snr, 5)
    weight = {"noise": capped / snr, "x0": capped, "v": capped / (snr + 1)}[prediction]
    np.testing.assert_allclose(off, 0.1 * (1 if weighting == "none" else weight), rtol=1e-4)


@pytest.mark.parametrize("levels", ["stratified", "shared"])
def test_noise_levels_of_a_batch(levels):
    schedule = jnp.asarray(small_model().schedule.noise_levels, jnp.float32)
    keys = jax.random.split(jax.random.key(0), 20)
    drawn = draw_levels(levels, keys, jnp.arange(20), 20, jax.random.key(5), schedule)
    step = np.searchsorted(-np.asarray(schedule), -np.asarray(drawn), side="right") - 1
    # 20 samples over 20 steps: one in each, or all in one.
    assert sorted(step) == list(range(20)) if levels == "stratified" else len(set(step)) == 1


def test_recomputing_blocks_changes_memory_not_gradients():
    image, level = jnp.ones((1, 4, 8, 3)), jnp.full(1, 0.5)
    results = {}
    for remat in (False, True):
        net = UNet(**SMALL_UNET, remat=remat)
        params = init_once(net, image, level)

        def loss(params, net=net):
            return jnp.square(net.apply(params, image, image, level, train=True) - 1).mean()

        assert ("remat" in str(jax.make_jaxpr(jax.grad(loss))(params))) == remat
        results[remat] = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
    for a, b in zip(results[False], results[True], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max() + 1e-6)


def init_once(net, image, level):
    shapes = jax.eval_shape(net.init, jax.random.key(0), image, image, level)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes)

"""Distillation: what the student is asked for, and that it learns it."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from lpdiff_jax.diffusion.samplers import Sampler, sample
from lpdiff_jax.errors import Preempted, UserError
from lpdiff_jax.methods.lpdiff.distillation import (
    TEACHER,
    consistency_target,
    ddim_step,
    distillation_stage,
    draw_index,
    implied_x0,
    make_plan,
    progressive_target,
)
from lpdiff_jax.methods.lpdiff.model import NETWORKS, Guide, build_model
from lpdiff_jax.methods.lpdiff.stages import diffusion_stage
from lpdiff_jax.parallel import devices
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.storage.model_directory import save_model
from lpdiff_jax.training.loop import initial_networks, train
from lpdiff_jax.training.state import (
    abstract_state,
    create_state,
    inference_variables,
    init_variables,
    with_helpers,
)
from lpdiff_jax.training.step import make_train_step
from tests.methods import small_lpdiff
from tests.methods.small_lpdiff import READER, SIZE
from tests.training.tiny import tiny_config

BATCH = 16
TOY_SIZE = (4, 8)
SAMPLER = {"name": "ddim", "steps": 1, "eta": 0.0, "spacing": "uniform", "start": 1.0}
CONFIG = small_lpdiff.CONFIG | {
    "schedule": {"name": "cosine", "steps": 64, "zero_terminal_snr": True}
}
MODEL = build_model(CONFIG)


def section(**changes):
    return ConfigDict(
        {
            "method": "progressive", "student_steps": 1, "teacher_steps": 4, "steps": 300,
            "batch_size": BATCH, "learning_rate": 3e-3, "warmup_steps": 0, "decay": "none",
            "weight_decay": 0.0, "clip_norm": 0.0,
        }
        | changes
    )  # fmt: skip


@pytest.fixture(scope="module")
def variables():
    """Random everywhere: a fresh network's last kernel is zero, it would teach nothing."""
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0))
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda x: 0.2 * generator.standard_normal(x.shape, np.float32), shapes)


def test_implied_x0_undoes_the_step():
    x, x_0 = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 3))
    level, after = jnp.array([0.0, 0.5, 0.9]), jnp.array([0.3, 0.8, 1.0])
    x_after = ddim_step(x, x_0, level, after)
    np.testing.assert_allclose(implied_x0(x, x_after, level, after), x_0, atol=1e-5)
    np.testing.assert_allclose(x_after[2], x_0[2], atol=1e-6)  # level 1 is x_0 itself


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
def test_the_students_levels_are_among_the_teachers(spacing):
    plan = make_plan(MODEL, SAMPLER | {"spacing": spacing}, student_steps=4, ratio=2)
    student = Sampler(steps=4, spacing=spacing).visited(MODEL.schedule).noise_levels
    np.testing.assert_allclose(plan.levels[::2], student, atol=1e-6)
    index = jnp.arange(1, 9)
    np.testing.assert_array_equal(plan.segment_end(index), [0, 0, 2, 2, 4, 4, 6, 6])


def test_progressive_target_is_where_the_teacher_leads(variables):
    """From pure noise to the clean end, against the sampler over the teacher."""
    plan = make_plan(MODEL, SAMPLER, 1, 4)
    teacher = variables | {TEACHER: variables["denoiser"]}
    psi, noise = jax.random.normal(jax.random.key(1), (2, 1, *SIZE, 3))
    target = jax.jit(
        lambda x: progressive_target(MODEL, teacher, plan, Guide(psi), x, jnp.array([4]))
    )
    denoise = lambda x, level: MODEL.predict_x0(variables, Guide(psi), x, level)  # noqa: E731
    expected = sample(denoise, noise, None, Sampler(steps=4).steps_of(MODEL.schedule))
    np.testing.assert_allclose(target(noise), expected, atol=1e-4)


def test_consistency_target_at_a_segments_first_level_is_the_teachers_step(variables):
    plan = make_plan(MODEL, SAMPLER, 1, 4)
    teacher = variables | {TEACHER: variables["denoiser"]}
    student = teacher | {"denoiser": jax.tree.map(jnp.zeros_like, variables["denoiser"])}
    psi, x_t = jax.random.normal(jax.random.key(1), (2, 1, *SIZE, 3))
    for index, same in ((1, True), (3, False)):
        ours, other = (
            consistency_target(MODEL, v, plan, Guide(psi), x_t, jnp.array([index]))
            for v in (teacher, student)
        )
        assert np.isfinite(ours).all()
        assert (abs(ours - other).max() < 1e-6) == same


def test_indices_are_spread_over_the_batch():
    keys = jax.random.split(jax.random.key(0), 64)
    index = draw_index(keys, jnp.arange(64), 64, 4)
    np.testing.assert_array_equal(np.bincount(index, minlength=5), [0, 16, 16, 16, 16])


class NoPsi(nn.Module):
    """A condition network that knows nothing."""

    @nn.compact
    def __call__(self, frames, mask=None):
        return jnp.zeros((len(frames), *frames.shape[2:]))

    def estimate(self, frames, mask=None, train=False):
        return self(frames, mask), frames[:, 0]


class Pixelwise(nn.Module):
    """A denoiser that looks at one number at a time."""

    @nn.compact
    def __call__(self, condition, x_t, noise_level, train=False):
        level = jnp.broadcast_to(noise_level[:, None, None, None], x_t.shape)
        h = jnp.stack([x_t, level], -1)
        for _ in range(2):
            h = nn.swish(nn.Dense(32)(h))
        return nn.Dense(1)(h)[..., 0]


@pytest.fixture(scope="module")
def toy():
    """A model of plates whose every number is -0.5 or 0.5, trained: (model, variables, batch)."""
    model = dataclasses.replace(MODEL, image_size=TOY_SIZE, condition=NoPsi(), denoiser=Pixelwise())
    values = np.random.default_rng(0).integers(0, 2, (BATCH, *TOY_SIZE, 3))
    batch = {
        "frames": np.zeros((BATCH, 1, *TOY_SIZE, 3), np.uint8),
        "frame_mask": np.ones((BATCH, 1), bool),
        "target": np.where(values, 191, 64).astype(np.uint8),
        "position": np.arange(BATCH, dtype=np.int32),
    }
    variables = {"condition": {"params": {}}, "denoiser": model.init(jax.random.key(0))["denoiser"]}
    frozen = section(condition="frozen", levels="stratified", weighting="none")
    stage = diffusion_stage("diffusion", model, ConfigDict({"diffusion": frozen}))
    state = train_toy(stage, variables, batch, 500)
    return model, inference_variables(state, NETWORKS), batch


def train_toy(stage, variables, batch, steps):
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    state = create_state(
        with_helpers(stage, variables, jax.random.key(0)), stage.trained, optimizer
    )
    # Hundreds of steps: they gain more by a better program than a better program costs.
    step = jax.jit(
        make_train_step(stage, optimizer, seed=0, ema_decay=0.9),
        static_argnums=2,
        compiler_options={"xla_backend_optimization_level": 1},
    )
    for _ in range(steps):
        state, _ = step(state, batch, _identity)
    return state


@pytest.mark.parametrize("method", ["progressive", "consistency"])
def test_one_step_of_the_student_approaches_the_teachers_eight(toy, method):
    model, variables, batch = toy
    config = section(method=method, teacher_steps=8)
    stage = distillation_stage("distill_1", model, config, SAMPLER)
    student = inference_variables(train_toy(stage, variables, batch, 500), NETWORKS)

    shape = (4, *TOY_SIZE, 3)
    psi, noise = jnp.zeros(shape), jax.random.normal(jax.random.key(9), shape)

    def restore(variables, steps):
        plan = Sampler(steps=steps).steps_of(model.schedule)
        denoise = lambda x, level: model.predict_x0(variables, Guide(psi), x, level)  # noqa: E731
        return np.asarray(model.compose(sample(denoise, noise, None, plan), psi))

    wanted = restore(variables, 8)
    assert abs(wanted).mean() > 0.35  # the teacher decides for one of the two values
    before = abs(restore(variables, 1) - wanted).mean()
    after = abs(restore(student, 1) - wanted).mean()
    assert before > 0.1  # in one step it cannot
    assert after < 0.4 * before


def _identity(tree):
    return tree


def test_the_teacher_is_kept_but_not_given_to_inference(variables):
    stage = distillation_stage("distill_1", MODEL, section(), SAMPLER)
    abstract = abstract_state(MODEL, stage, section())
    assert abstract.frozen.keys() == {"condition", TEACHER}
    state = create_state(
        with_helpers(stage, variables, jax.random.key(0)), stage.trained, optax.sgd(0.1)
    )
    assert inference_variables(state, MODEL.networks).keys() == {"condition", "denoiser"}


@pytest.mark.parametrize("changes", [{"method": "magic"}, {"student_steps": 40}])
def test_impossible_choices_are_the_users_mistake(changes):
    with pytest.raises(UserError, match=r"config.distill_1: .*(magic|160)"):
        distillation_stage("distill_1", MODEL, section(**changes), SAMPLER)


def test_stages_of_distillation_in_the_loop(plates, tmp_path):
    """Begun from a trained model, one stage after the other, and resumed."""
    config = tiny_config(plates, stages=("distill_2", "distill_1"), sheet_plates=0)
    config.init = str(tmp_path / "teacher")
    for name in config.stages:
        config[name].update(steps=2, batch_size=8, warmup_steps=0)
    start = jax.tree.map(np.asarray, init_variables(build_model(config.model.to_dict()), 0))
    stored = {"model": json.loads(json.dumps(config.model.to_dict())), "sampler": SAMPLER}
    save_model(tmp_path / "teacher", stored, start)

    train(config, tmp_path / "run")
    config.distill_1.steps = 3
    train(config, tmp_path / "run")

    restorer = Restorer.load(tmp_path / "run")
    assert restorer.variables.keys() == {"condition", "reader", "denoiser"}
    same = jax.tree.map(lambda a, b: bool((a == b).all()), start, restorer.variables)
    assert all(jax.tree.leaves(same["condition"]))
    assert not all(jax.tree.leaves(same["denoiser"]))
    saved = sorted(path.name for path in (tmp_path / "run/checkpoints/distill_1").iterdir())
    assert "3" in saved


def test_a_model_of_other_shapes_cannot_be_begun_with(variables, tmp_path):
    save_model(tmp_path / "other", {"model": CONFIG, "sampler": SAMPLER}, variables)
    with pytest.raises(UserError, match=r"config\.model describes"):
        initial_networks(
            str(tmp_path / "other"),
            build_model(CONFIG | {"denoiser": CONFIG["denoiser"] | {"features": 16}}),
        )


def test_a_network_that_the_configuration_does_not_have_is_left_out(variables, tmp_path, capsys):
    config = CONFIG | READER
    reads = jax.eval_shape(build_model(config).init, jax.random.key(0))
    reader = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), reads["reader"])
    extra = variables | {"reader": reader}
    save_model(tmp_path / "more", {"model": config, "sampler": SAMPLER}, extra)
    networks = initial_networks(str(tmp_path / "more"), MODEL)
    assert networks.keys() == variables.keys()
    assert "'reader' is not used" in capsys.readouterr().out


def test_a_network_that_has_grown_begins_with_what_was_trained(tmp_path, capsys):
    """A straightener and a layer more: fresh values, beside those of the model it grew from."""
    config = tiny_config(tmp_path).model.to_dict()
    start = jax.tree.map(np.asarray, init_variables(build_model(config), 3))
    save_model(tmp_path / "small", {"model": config, "sampler": SAMPLER}, start)
    config["condition"] |= {"straightener": 8, "frame_blocks": 2}
    grown = initial_networks(str(tmp_path / "small"), build_model(config), seed=4)
    assert "'condition' has" in capsys.readouterr().out
    trained, network = start["condition"]["params"], grown["condition"]["params"]
    assert network.keys() - trained.keys() == {"straighten"}
    assert "block_0_1" in network["encoder"] and "block_0_1" not in trained["encoder"]
    np.testing.assert_array_equal(
        network["encoder"]["conv_0"]["kernel"], trained["encoder"]["conv_0"]["kernel"]
    )
    for name in ("reader", "denoiser"):
        assert jax.tree.all(jax.tree.map(np.array_equal, grown[name], start[name]))


def test_psi_is_trained_on_from_a_whole_model_and_resumed(plates, tmp_path, monkeypatch):
    """The networks that stage psi does not have wait for the stages that do."""
    changes = {"model.sketch.layers": 1, "stages": ("psi", "diffusion"), "sheet_plates": 0}
    config = tiny_config(plates, **changes)
    config.init = str(tmp_path / "whole")
    start = jax.tree.map(np.asarray, init_variables(build_model(config.model.to_dict()), 3))
    stored = {"model": json.loads(json.dumps(config.model.to_dict())), "sampler": SAMPLER}
    save_model(tmp_path / "whole", stored, start)
    config.diffusion.steps = 1
    answers = iter([False] * 4 + [True])
    monkeypatch.setattr(devices.StopRequest, "received", lambda self: next(answers, False))
    with pytest.raises(Preempted, match="psi: stopped at step 4"):
        train(config, tmp_path / "run")
    found = train(config, tmp_path / "run")
    assert jax.tree.all(jax.tree.map(np.array_equal, found["sketch"], start["sketch"]))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), found["denoiser"], start["denoiser"])
    assert max(jax.tree.leaves(moved)) < 0.01


def test_a_sketch_that_nobody_trains_is_the_users_mistake(plates, tmp_path):
    config = tiny_config(plates, **{"model.sketch.layers": 1})
    with pytest.raises(UserError, match="no sketch is trained"):
        train(config, tmp_path / "run")

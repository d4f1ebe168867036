"""The compared systems on the seam: training, resuming, restoring, precision, layouts."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.baselines import common, hat, real_esrgan, resdiff, resshift, srcnn
from lpdiff_jax import benchmark, cli
from lpdiff_jax.errors import Preempted, UserError
from lpdiff_jax.export.files import export_model
from lpdiff_jax.methods import registry
from lpdiff_jax.methods.resdiff.model import ResDiff
from lpdiff_jax.parallel import devices
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.training.loop import train
from tests.methods.baselines import TINY, tiny
from tests.training.processes import finish, free_port, start_command

# Where a run is stopped: in its last stage, after two of four steps.
STOPS = {"srcnn": 2, "hat": 2, "real_esrgan": 7, "resdiff": 7, "resshift": 2, "resshift_latent": 7}
MODES = {"hat": "jit", "resdiff": "jit"}


def some_slow(*quick):
    """All systems, of which those that are not named are tested when slow tests are."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in TINY]


@pytest.fixture(scope="module")
def models():
    """Name -> (method, fresh variables)."""
    known = {}

    def make(name):
        if name not in known:
            method = registry.build(tiny(name))
            known[name] = method, jax.jit(method.init)(jax.random.key(0))
        return known[name]

    return make


def frames_of(count=2, seed=0):
    return jax.random.uniform(jax.random.key(seed), (count, 2, 8, 16, 3), minval=-1)


@functools.partial(jax.jit, static_argnums=0)
def restore(method, variables, frames, keys):
    how = method.choose(tiny_sampler(method))
    return method.draw(variables, method.estimate(variables, frames), keys, how)


def tiny_sampler(method):
    if isinstance(method, ResDiff):
        return {"name": "ddpm", "steps": 2}
    return {"steps": 2}


@pytest.mark.parametrize("name", some_slow("resdiff"))
def test_training_stopped_and_resumed_is_the_same_to_the_bit(name, plates, tmp_path, monkeypatch):
    """Each stage, the average of the parameters, and an evaluation at the end."""
    mode = MODES.get(name, "pmap")
    config = tiny(name, plates, parallel=mode)
    expected = train(config, tmp_path / "alone")
    answers = iter([False] * STOPS[name] + [True])
    monkeypatch.setattr(devices.StopRequest, "received", lambda self: next(answers, False))
    with pytest.raises(Preempted, match=f"{config.stages[-1]}: stopped at step"):
        train(config, tmp_path / "stopped")
    found = train(config, tmp_path / "stopped")
    assert jax.tree.all(jax.tree.map(np.array_equal, found, expected))
    restorer = Restorer.load(tmp_path / "alone")
    assert restorer.variables.keys() == set(restorer.method.networks)
    assert jax.tree.all(jax.tree.map(np.array_equal, restorer.variables, expected))
    assert cli.main(["pack", str(tmp_path / "alone"), str(tmp_path / "packed")]) == 0
    packed = Restorer.load(tmp_path / "packed")
    assert packed.method.networks == restorer.method.networks
    assert packed.defaults == restorer.defaults
    close = lambda a, b: np.allclose(a, b, rtol=1e-3, atol=1e-6)  # noqa: E731
    assert jax.tree.all(jax.tree.map(close, packed.variables, expected))


@pytest.mark.parametrize("name", some_slow("srcnn"))
def test_its_speed_is_measured(name, models):
    method, variables = models(name)
    in_steps = "denoiser" in method.networks
    restorer = Restorer(method, variables, tiny_sampler(method) if in_steps else {})
    machine = benchmark.Machine("some", 1, {"float32": 100.0}, 1.0)
    row = benchmark.measure(restorer, machine, batch=1, repeats=1)
    assert row.steps == (2 if in_steps else 1)
    assert row.p50 > 0 and row.gflop > 0


@pytest.mark.parametrize("name", some_slow("srcnn", "real_esrgan", "resshift"))
def test_every_parameter_of_every_stage_learns(name, models):
    """A gradient reaches all that a stage trains, and the loss is of single samples."""
    method, fresh = models(name)
    config = tiny(name)
    key = jax.random.key(0)
    rng = np.random.default_rng(0)
    batch = {
        "frames": rng.integers(0, 256, (4, 2, 8, 16, 3), np.uint8),
        "frame_mask": np.ones((4, 2), bool),
        "target": rng.integers(0, 256, (4, 8, 16, 3), np.uint8),
        "position": np.arange(4),
    }
    for stage in method.stages(config, ()):
        variables = {network: fresh[network] for network in stage.networks}
        variables |= jax.jit(stage.helpers)(key, variables)
        # What begins at zero keeps gradients from what stands before it.
        nudge = lambda x: x + 0.02 * jnp.cos(jnp.arange(x.size)).reshape(x.shape)  # noqa: E731
        params = {n: jax.tree.map(nudge, variables[n]["params"]) for n in stage.trained}

        def mean_loss(params, stage=stage, variables=variables):
            joined = {n: {**variables[n], "params": params[n]} for n in params}
            loss, metrics, _ = stage.loss(variables | joined, batch, key, True)
            assert loss.shape == (4,)
            assert set(stage.watch) <= {"loss", *metrics}
            return loss.mean()

        gradient = jax.jit(jax.grad(mean_loss))(params)
        still = [
            jax.tree_util.keystr(path)
            for path, leaf in jax.tree.leaves_with_path(gradient)
            if not np.abs(leaf).max() > 0
        ]
        # Keys' biases never matter to a softmax; the gate of the noise has one hidden unit.
        expected = [path for path in still if "'key'" in path or "gate_squeeze" in path]
        assert still == expected, stage.name


@pytest.mark.parametrize("name", TINY)
def test_a_plate_does_not_depend_on_its_batch(name, models):
    """So that processes, devices and batches may share plates in any way."""
    method, variables = models(name)
    frames, keys = frames_of(), jax.random.split(jax.random.key(1), 2)
    both = restore(method, variables, frames, keys)
    assert both.shape == (2, 8, 16, 3)
    beside_another = frames_of(seed=1).at[0].set(frames[1]), keys[::-1]
    np.testing.assert_allclose(restore(method, variables, *beside_another)[0], both[1], atol=1e-5)
    other = restore(method, variables, frames, keys[::-1])
    assert bool(jnp.abs(other - both).max() > 1e-4) == method.draws_vary(variables)


@pytest.mark.parametrize("name", TINY)
def test_half_precision_is_within_the_method(name, models):
    method, variables = models(name)
    half = method.with_dtype("bfloat16")
    assert half.dtype == jnp.bfloat16 and method.dtype == jnp.float32
    keys = jax.random.split(jax.random.key(1), 2)
    lowered = restore.lower(half, variables, frames_of(), keys)
    assert lowered.out_info.dtype == jnp.float32
    assert "bf16" in lowered.as_text()
    assert "bf16" not in restore.lower(method, variables, frames_of(), keys).as_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_half_precision_is_close(name, models):
    method, variables = models(name)
    half = method.with_dtype("bfloat16")
    keys = jax.random.split(jax.random.key(1), 2)
    full, rounded = (restore(m, variables, frames_of(), keys) for m in (method, half))
    assert rounded.dtype == jnp.float32
    error = jnp.abs(full - rounded).mean()
    # The nearest code is another one where the latents are rounded.
    assert 0 < error < (0.5 if name == "resshift_latent" else 0.05)


@pytest.mark.parametrize("name", TINY)
def test_an_exported_restoration_is_the_restoration(name, models):
    method, variables = models(name)
    how = method.choose(tiny_sampler(method))
    functions = {f.name: f for f in method.exports(variables, how, 2)}
    function = functions["restore"]
    frames, mask = frames_of(), jnp.ones((2, 2), bool)
    keys = jax.random.split(jax.random.key(1), 2)
    inputs = {"frames": frames, "mask": mask}
    if "noise" in function.inputs:
        (count, *shape), _ = function.inputs["noise"]

        def noise(key):
            draw = lambda i: jax.random.normal(jax.random.fold_in(key, i), shape)  # noqa: E731
            # The start is drawn with the number of steps, the steps with their own.
            return jnp.stack([draw(i) for i in (*range(count - 1), 2)])

        inputs["noise"] = jax.vmap(noise)(keys)
    expected = restore(method, variables, frames, keys)
    np.testing.assert_allclose(jax.jit(function.call)(*inputs.values()), expected, atol=1e-5)


@pytest.mark.parametrize("name", some_slow("hat"))
def test_files_of_other_programs_agree(name, models, tmp_path):
    """`export_model` compares each ONNX file with JAX before it lets the folder appear."""
    method, variables = models(name)
    functions = method.exports(variables, method.choose(tiny_sampler(method)), 2)
    export_model(tmp_path / "exported", functions)
    assert (tmp_path / "exported" / "restore.onnx").is_file()


def test_resdiff_before_its_diffusion_is_its_prediction(models):
    method, variables = models("resdiff")
    early = {"cnn": variables["cnn"]}
    assert not method.draws_vary(early)
    estimate = method.estimate(early, frames_of())
    np.testing.assert_array_equal(
        method.draw(early, estimate, None, ()), jnp.clip(estimate.image, -1, 1)
    )


def test_resdiff_begins_with_orthogonal_weights_as_published():
    """Every kernel of the denoiser, those too that begin at zero elsewhere."""
    assert resdiff.get_config("compact").model.initial == "usual"
    method = registry.build(tiny("resdiff"))
    fresh = jax.jit(functools.partial(method.init, networks=("denoiser",)))(jax.random.key(0))
    kernels = [x for x in jax.tree.leaves(fresh) if x.ndim > 1]
    assert len(kernels) > 20
    for kernel in kernels:
        matrix = np.asarray(kernel).reshape(-1, kernel.shape[-1])
        matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), atol=1e-5)
    assert len({float(kernel.ravel()[0]) for kernel in kernels}) == len(kernels)


def test_resshift_takes_fewer_steps_but_not_more(models):
    method, _ = models("resshift")
    assert method.choose({}).steps == 4
    assert method.choose({"steps": 4}, steps=3).steps == 3
    with pytest.raises(UserError, match="trained with 4 steps, 5 are asked"):
        method.choose({}, steps=5)
    with pytest.raises(UserError, match="chain of its own"):
        method.choose({}, sampler="ddim")


@pytest.mark.parametrize("name", ["srcnn", "real_esrgan"])
def test_a_regression_has_no_steps(name, models):
    with pytest.raises(UserError, match="no sampler"):
        models(name)[0].choose({}, steps=3)


@pytest.mark.parametrize(
    "name, fields, words",
    [
        ("srcnn", {"stages": ("diffusion",)}, "allowed: regression"),
        ("real_esrgan", {"stages": ("gan",)}, "allowed: regression, adversarial"),
        ("resdiff", {"stages": ("psi",)}, "allowed: cnn, diffusion"),
        ("resdiff", {"stages": ("diffusion",)}, "no CNN is trained"),
        ("resshift", {"stages": ("psi",)}, "allowed: autoencoder, diffusion"),
        ("resshift", {"stages": ("autoencoder",)}, "works on pixels"),
        ("resshift_latent", {"stages": ("diffusion",)}, "not trained"),
    ],
)
def test_stages_that_cannot_be(name, fields, words):
    config = tiny(name, **fields)
    with pytest.raises(UserError, match=words):
        registry.build(config).stages(config, ())


@pytest.mark.parametrize("name, stage", [("real_esrgan", "adversarial"), ("resshift", "diffusion")])
def test_missing_weights_of_perceptual_losses_are_told(name, stage, tmp_path, monkeypatch):
    monkeypatch.setenv("LPDIFF_WEIGHTS_DIR", str(tmp_path))
    config = tiny(name, **{f"{stage}.perceptual_weight": 1.0})
    with pytest.raises(UserError, match=rf"fetch-weights.*config.{stage}.perceptual_weight=0"):
        registry.build(config).stages(config, ())


@pytest.mark.parametrize(
    "name, fields, words",
    [
        ("hat", {"model.network.window": 2}, "must be even"),
        ("resdiff", {"model.clip": "none"}, "'image', 'residual'"),
        ("resdiff", {"model.prediction": "none"}, "'noise', 'x0', 'v'"),
        ("resdiff", {"model.initial": "none"}, "'usual', 'orthogonal'"),
        ("resshift", {"model.denoiser.condition_halvings": 2}, "0 halvings larger"),
        ("resshift", {"model.schedule.steps": 1}, "at least 2 steps"),
    ],
)
def test_models_that_cannot_be(name, fields, words):
    with pytest.raises((UserError, ValueError), match=words):
        method = registry.build(tiny(name, **fields))
        jax.eval_shape(method.init, jax.random.key(0))


def test_options_of_the_configurations():
    assert srcnn.get_config("955").model.network.kernels == (9, 5, 5)
    assert hat.get_config("small").model.network.features == 144
    assert resdiff.get_config("released").model.clip == "residual"
    assert real_esrgan.get_config("compact").model.image_size == common.COMPACT_SIZE
    assert resshift.get_config("latent, 4").stages == ("autoencoder", "diffusion")
    with pytest.raises(ValueError, match=r"big: no such option; allowed: small, compact"):
        hat.get_config("big")


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_devices_and_processes_share_a_run(name, plates, tmp_path):
    """Two devices with pmap and jit, two processes: the same parameters, one evaluation."""
    words = [sys.executable, "-m", "tests.methods.baselines", name]
    layouts = {"pmap": (2, 1), "jit": (2, 1), "processes": (1, 2)}
    found = {}
    for layout, (count, processes) in layouts.items():
        port, mode = str(free_port()), layout if layout != "processes" else "pmap"
        workdir = tmp_path / layout
        running = [
            start_command(
                [*words, str(workdir), str(plates), mode]
                + ([port, str(i), str(processes)] if processes > 1 else []),
                count,
            )
            for i in range(processes)
        ]
        for status, output in map(finish, running):
            assert status == 0, output[-3000:]
        found[layout] = Restorer.load(workdir).variables
        assert (workdir / "eval" / "report.md").is_file()
    for layout in ("jit", "processes"):
        close = jax.tree.map(
            lambda a, b: np.allclose(a, b, atol=2e-5), found["pmap"], found[layout]
        )
        assert jax.tree.all(close), layout

"""Exported files, each run by what runs it elsewhere and held to the model's own numbers."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from lpdiff_jax.cli import main
from lpdiff_jax.diffusion.samplers import Sampler, sample
from lpdiff_jax.errors import UserError
from lpdiff_jax.export.files import TOLERANCE, example, export_model
from lpdiff_jax.export.median import CONVERTERS
from lpdiff_jax.export.onnx_conversion import to_onnx
from lpdiff_jax.methods.lpdiff.exports import exported_functions, number_of_draws
from lpdiff_jax.methods.lpdiff.model import Guide, build_model
from lpdiff_jax.methods.lpdiff.released import released_model
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.storage.model_directory import save_model

SIZE = (8, 16)
CONFIG = {
    "model": {
        "image_size": SIZE,
        "dtype": "float32",
        "prediction": "v",
        "residual_scale": 0.3,
        "clip": "image",
        "condition": {
            "features": (8, 16), "strides": (1, 2), "patch": 2, "blocks": 1, "heads": 4,
        },
        "denoiser": {
            "features": 8, "multipliers": (1, 2), "blocks": 1, "norm_groups": 4, "patch": 2,
            "attention_resolutions": (64,),
        },
        "schedule": {"name": "cosine", "steps": 100, "zero_terminal_snr": True},
    },
    "sampler": {"name": "ddim", "steps": 4, "eta": 0.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def variables():
    return random_variables(build_model(CONFIG["model"]))


def random_variables(model):
    """Weights that make every layer count: fresh ones are zero where a branch ends."""
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    draw = lambda leaf: generator.standard_normal(leaf.shape).astype(np.float32) * 0.2  # noqa: E731
    return jax.tree.map(draw, shapes)


@pytest.fixture(scope="module")
def model_directory(variables, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "tiny"
    save_model(directory, CONFIG, variables)
    return directory


@pytest.fixture(scope="module")
def exported(model_directory, tmp_path_factory):
    """The folder that `lpdiff export` writes."""
    directory = tmp_path_factory.mktemp("exports") / "tiny"
    assert main(["export", str(model_directory), str(directory)]) == 0
    return directory


@pytest.fixture(scope="module")
def functions(model_directory):
    restorer = Restorer.load(model_directory)
    how = restorer.method.choose(restorer.defaults)
    made = restorer.method.exports(restorer.variables, how, 3)
    return {function.name: function for function in made}


def inputs_of(function, batch):
    """Inputs with a frame masked, images over the whole range."""
    inputs = [x * 2 - 1 if x.dtype != bool and x.ndim > 1 else x for x in example(function, batch)]
    if "mask" in function.inputs:
        inputs[1][0, 2] = False
    return inputs


@pytest.fixture(scope="module")
def reference(functions):
    """Inputs of three plates and the model's own outputs, by function."""
    made = {}
    for name, function in functions.items():
        inputs = inputs_of(function, 3)
        made[name] = inputs, np.asarray(jax.jit(function.call)(*inputs))
        assert np.abs(made[name][1]).max() > 0.1
    return made


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["psi", "denoise", "restore"])
def test_onnx_agrees(exported, functions, reference, name, batch):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(
        exported / f"{name}.onnx", providers=["CPUExecutionProvider"]
    )
    inputs, ours = reference[name]
    feed = zip(functions[name].inputs, (x[:batch] for x in inputs), strict=True)
    (theirs,) = session.run(None, dict(feed))
    np.testing.assert_allclose(theirs, ours[:batch], atol=TOLERANCE / 10)


RUN_ELSEWHERE = """
import sys
from pathlib import Path
import jax.export
import numpy as np

function = jax.export.deserialize(Path(sys.argv[1]).read_bytes())
with np.load(sys.argv[2]) as inputs:
    np.save(sys.argv[3], function.call(*inputs.values()))
assert not [name for name in sys.modules if name.startswith(("lpdiff", "flax"))]
"""


@pytest.mark.parametrize(("name", "batch"), [("psi", 1), ("denoise", 3), ("restore", 2)])
def test_stablehlo_runs_without_this_package(exported, reference, tmp_path, name, batch):
    inputs, ours = reference[name]
    np.savez(tmp_path / "in.npz", *(x[:batch] for x in inputs))
    files = [exported / f"{name}.stablehlo", tmp_path / "in.npz", tmp_path / "out.npy"]
    subprocess.run([sys.executable, "-c", RUN_ELSEWHERE, *files], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), ours[:batch], atol=1e-5)


def test_the_description_names_inputs_and_files(exported):
    report = json.loads((exported / "export.json").read_text())
    assert list(report) == ["psi", "denoise", "restore"]
    assert report["restore"]["inputs"] == {
        "frames": {"shape": ["batch", 3, *SIZE, 3], "dtype": "float32"},
        "mask": {"shape": ["batch", 3], "dtype": "bool"},
        "noise": {"shape": ["batch", 1, *SIZE, 3], "dtype": "float32"},
    }
    for function in report.values():
        assert function["onnx_largest_difference"] < TOLERANCE
        assert (exported / function["onnx"]).is_file()
        assert (exported / function["stablehlo"]).is_file()


def test_restore_computes_what_the_sampler_computes(reference, variables):
    """The exported restoration equals sampling with the denoiser's hoisted form."""
    model = build_model(CONFIG["model"])
    steps = Sampler(steps=4).steps_of(model.schedule)

    @jax.jit
    def restore(frames, mask, noise):
        psi = model.estimate(variables, frames, mask).image
        denoise_fn, prepare = model.x0_denoiser(variables, Guide(psi))
        x_0 = sample(denoise_fn, noise[:, -1], lambda _: None, steps, prepare=prepare)
        return jax.numpy.clip(model.compose(x_0, psi), -1, 1)

    inputs, ours = reference["restore"]
    np.testing.assert_allclose(ours, restore(*inputs), atol=1e-5)


def test_a_model_with_a_sketch(tmp_path):
    """psi comes with the sketch behind it, which the denoiser's step takes; all three agree."""
    reader = {"charset": "AB1", "temperature": 1.0, "readable": 0.9, "slots": 3, "features": 8}
    sketch = {"layers": 1, "features": 8, "heads": 2, "text": "likeliest"}
    config = CONFIG["model"] | {"sketch": sketch, "reader": reader | {"layers": 1, "heads": 2}}
    model = build_model(config)
    variables = random_variables(model)
    functions = exported_functions(model, variables, Sampler(steps=2), 3)
    report = export_model(tmp_path / "sketched", functions)
    assert [function.output for function in functions] == ["guide", "noise", "restored"]
    assert functions[1].inputs["guide"][0] == (*SIZE, 6)
    for function in functions:
        assert report[function.name]["onnx_largest_difference"] < TOLERANCE


def test_a_model_that_straightens(tmp_path):
    """Frames are resampled by gathering pixels, psi goes back, the head sees finer stages."""
    condition = CONFIG["model"]["condition"] | {"straightener": 8, "detail": 8, "detail_blocks": 1}
    model = build_model(CONFIG["model"] | {"condition": condition})
    functions = exported_functions(model, random_variables(model), Sampler(steps=1), 2)
    report = export_model(tmp_path / "straight", functions[:1])
    assert report["psi"]["onnx_largest_difference"] < TOLERANCE


@pytest.mark.parametrize("index", [0, 2])
def test_the_released_model_converts(index):
    """psi with BatchNorm and transposed convolutions, and a sampler that draws noise."""
    onnxruntime = pytest.importorskip("onnxruntime")
    config = released_model((16, 32))
    config["denoiser"] |= {"features": 8, "multipliers": (1, 2), "norm_groups": 4}
    model = build_model(config)
    generator = np.random.default_rng(0)

    def draw(leaf):  # so that psi stays within a few units, and clipping leaves something
        weight = generator.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        return np.float32(weight if leaf.ndim > 1 else 0.5 + 0.1 * weight)

    variables = jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0)))
    function = exported_functions(model, variables, Sampler("ddpm", 2), 3)[index]
    proto = to_onnx(function.call, function.inputs, function.output, CONVERTERS)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    inputs = example(function, 2)
    (theirs,) = session.run(None, dict(zip(function.inputs, inputs, strict=True)))
    ours = np.asarray(jax.jit(function.call)(*inputs))
    assert np.abs(ours).min() < 0.9 and np.abs(ours).max() < 10
    np.testing.assert_allclose(theirs, ours, atol=TOLERANCE / 10)


def test_what_onnx_cannot_express_is_named():
    image = {"x": ((8,), np.dtype(np.float32))}
    with pytest.raises(UserError, match="'sort'"):
        to_onnx(lambda x: jax.numpy.sort(x, axis=1), image, "y")
    with pytest.raises(UserError, match="a loop of 101 steps"):
        to_onnx(lambda x: jax.lax.fori_loop(0, 101, lambda _, y: y * 2, x), image, "y")


def test_constants_are_stored_once():
    weight = np.ones((8, 8), np.float32)
    image = {"x": ((8,), np.dtype(np.float32))}
    proto = to_onnx(
        lambda x: jax.lax.fori_loop(0, 3, lambda _, y: jax.numpy.sin(y @ weight), x), image, "y"
    )
    assert [node.op_type for node in proto.graph.node].count("MatMul") == 3
    assert [list(i.dims) for i in proto.graph.initializer].count([8, 8]) == 1


def test_samplers_that_add_noise_take_it_as_input(variables):
    model, ddpm = build_model(CONFIG["model"]), Sampler("ddpm", 3)
    assert number_of_draws(model, ddpm) == 4
    assert number_of_draws(model, Sampler("dpmpp_2m", 3)) == 1
    restore = exported_functions(model, variables, ddpm, 2)[-1]
    frames, mask, noise = example(restore, 1)
    call = jax.jit(restore.call)
    plate = np.asarray(call(frames, mask, noise))
    for step in (1, 2, 3):  # index 0 is the last step's, which adds none
        changed = noise.copy()
        changed[:, step] += 1
        assert np.abs(call(frames, mask, changed) - plate).max() > 1e-4


def test_a_model_without_denoiser_exports_psi(variables):
    functions = exported_functions(
        build_model(CONFIG["model"]), {"condition": variables["condition"]}, Sampler(), 3
    )
    assert [function.name for function in functions] == ["psi"]


def test_mistakes(exported, functions, model_directory, tmp_path, capsys):
    with pytest.raises(UserError, match="exists already"):
        export_model(exported, list(functions.values()))
    for arguments, message in (
        (["--frames", "0"], "--frames: '0': a whole number from 1"),
        (["--sampler", "euler"], "sampler is 'euler'; allowed"),
        (["--steps", "1000"], "100"),
    ):
        status = main(["export", str(model_directory), str(tmp_path / "out"), *arguments])
        assert status == 2
        assert message in capsys.readouterr().err
    assert not list(Path(tmp_path).iterdir())

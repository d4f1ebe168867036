"""The plain regression goes through every command that LP-Diff goes through."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax import cli
from lpdiff_jax.errors import Preempted, UserError
from lpdiff_jax.evaluation.judges import Judges
from lpdiff_jax.evaluation.run import evaluate_run
from lpdiff_jax.methods import registry
from lpdiff_jax.methods.frames import as_input
from lpdiff_jax.parallel import devices
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.training.loop import train
from tests.methods.small_regression import regression_config
from tests.training.tiny import tiny_config


def test_the_nearest_frames_are_stacked_and_the_mean_fills_up():
    frames = jnp.arange(4.0)[None, :, None, None, None] * jnp.ones((1, 4, 2, 2, 3))
    mask = np.array([[True, True, True, False]])
    stacked = as_input(frames, mask, "stacked", 2)
    np.testing.assert_array_equal(stacked[0, 0, 0], [1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(as_input(frames, mask, "stacked", 4)[0, 0, 0, ::3], [1, 0, 1, 2])
    np.testing.assert_array_equal(as_input(frames, mask, "nearest", 9)[0, 0, 0], [2, 2, 2])
    np.testing.assert_array_equal(as_input(frames, mask, "mean", 9)[0, 0, 0], [1, 1, 1])


@pytest.mark.parametrize("frames", ["stacked", "mean", "nearest"])
def test_it_begins_as_what_it_is_given(frames):
    """The U-Net's last convolution is zero at first: the plate is the mean, or the one frame."""
    method = registry.build(regression_config(**{"model.frames": frames}))
    variables = jax.jit(method.init)(jax.random.key(0))
    pictures = jax.random.uniform(jax.random.key(1), (1, 2, 8, 16, 3))
    expected = pictures[:, -1] if frames == "nearest" else pictures.mean(1)
    np.testing.assert_allclose(method.estimate(variables, pictures).guide, expected, atol=1e-6)


@pytest.fixture(scope="module")
def trained(plates, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("regression")
    train(regression_config(plates), workdir)
    return workdir


def test_it_learns_and_resumes_to_the_bit(trained, plates, tmp_path, monkeypatch, capsys):
    answers = iter([False] * 4 + [True])
    monkeypatch.setattr(devices.StopRequest, "received", lambda self: next(answers, False))
    with pytest.raises(Preempted, match="regression: stopped at step 4"):
        train(regression_config(plates), tmp_path)
    found = train(regression_config(plates), tmp_path)
    assert "regression 6/6  loss" in capsys.readouterr().out
    expected = Restorer.load(trained).variables
    assert jax.tree.all(jax.tree.map(np.array_equal, found, expected))
    head = expected["network"]["params"]["unet"]["head"]["kernel"]
    assert np.abs(head).max() > 0  # it was zero


def test_it_evaluates(trained, plates, tmp_path):
    report = evaluate_run(
        regression_config(plates), trained, output=tmp_path / "eval", judges=Judges()
    )
    assert "restored" in report["rows"] and "psi" not in report["rows"]
    assert report["rows"]["restored"]["figures"]["psnr"]["mean"] > 5
    assert len(list((tmp_path / "eval" / "restored").glob("*.png"))) == 2


def test_it_restores_packs_and_exports(trained, plates, tmp_path):
    assert cli.main(["pack", str(trained), str(tmp_path / "packed"), "--dtype", "float32"]) == 0
    assert json.loads((tmp_path / "packed/config.json").read_text())["method"] == "regression"
    given = sorted((plates / "val" / "inputs").iterdir())[0]
    words = ["restore", str(given), "--output", str(tmp_path / "out"), "--samples", "2"]
    assert cli.main([*words, "--model", str(tmp_path / "packed")]) == 0
    assert len(list((tmp_path / "out" / "restored").iterdir())) == 2
    assert not (tmp_path / "out" / "psi").exists()
    assert cli.main(["export", str(tmp_path / "packed"), str(tmp_path / "exported")]) == 0
    assert (tmp_path / "exported" / "restore.onnx").is_file()


def test_what_it_does_not_have_is_told(trained):
    restorer = Restorer.load(trained)
    frames = np.zeros((1, 2, 8, 16, 3), np.float32)
    for call, message in (
        (lambda: restorer.read(frames), "no reading head"),
        (lambda: restorer.condition(frames), "no first estimate"),
        (lambda: restorer.denoise(frames[:, 0], frames[:, 0], np.ones(1)), "no denoiser"),
        (lambda: restorer.restore(frames, steps=3), "no sampler and no steps"),
    ):
        with pytest.raises(UserError, match=message):
            call()


def test_bfloat16_is_near_float32(trained):
    frames = np.random.default_rng(0).uniform(-1, 1, (1, 2, 8, 16, 3)).astype(np.float32)
    restorer = Restorer.load(trained)
    half = restorer.in_precision("bfloat16")
    difference = np.abs(np.asarray(half.restore(frames)) - np.asarray(restorer.restore(frames)))
    assert 0 < difference.max() < 0.05


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model.frames": "all"}, "frames is 'all'; allowed: 'stacked'"),
        ({"model.network.name": "vgg"}, "network.name is 'vgg'; allowed: 'unet'"),
        ({"method": "magic"}, "method is 'magic'; allowed: lpdiff, regression"),
    ],
)
def test_a_method_that_cannot_be_is_named(fields, message):
    with pytest.raises(UserError, match=message):
        registry.build(regression_config(**fields))


def test_stages_and_losses_that_there_are_not():
    method = registry.build(regression_config())
    with pytest.raises(UserError, match=r"config.stages has 'psi'; allowed: regression"):
        method.stages(tiny_config(), ())
    with pytest.raises(UserError, match=r"config.regression.loss is 'l3'; allowed: l1, l2"):
        method.stages(regression_config(**{"regression.loss": "l3"}), ())

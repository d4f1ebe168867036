"""`lpdiff pack` on a run of the tiny configuration."""

import json

import jax
import numpy as np
import pytest

from lpdiff_jax import cli
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.training.loop import train
from tests.training.tiny import tiny_config


@pytest.fixture(scope="module")
def trained(plates, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    train(tiny_config(plates), workdir)
    return workdir


def test_a_packed_model_restores_as_the_run_does(trained, plates, tmp_path, capsys):
    packed = tmp_path / "packed"
    arguments = ["pack", str(trained), str(packed), "--calibrate", str(plates), "--steps", "3"]
    assert cli.main(arguments) == 0
    assert "calibrated: temperature" in capsys.readouterr().out
    config = json.loads((packed / "config.json").read_text())
    assert config["sampler"]["steps"] == 3
    run, model = Restorer.load(trained), Restorer.load(packed)
    for a, b in zip(jax.tree.leaves(run.variables), jax.tree.leaves(model.variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
    assert model.method.slot_reader.temperature == config["model"]["reader"]["temperature"]


def test_without_diffusion(trained, tmp_path):
    packed = tmp_path / "packed"
    arguments = ["pack", str(trained), str(packed), "--dtype", "bfloat16", "--without", "denoiser"]
    assert cli.main(arguments) == 0
    assert not Restorer.load(packed).draws_vary


def test_no_such_model(tmp_path, capsys):
    assert cli.main(["pack", str(tmp_path / "none"), str(tmp_path / "packed")]) == 2
    assert "no such work directory" in capsys.readouterr().err


def test_without_a_reading_head_there_is_nothing_to_calibrate(plates, tmp_path, capsys):
    train(tiny_config(plates, stages=("psi",), **{"model.reader.slots": 0}), tmp_path / "run")
    arguments = ["pack", str(tmp_path / "run"), str(tmp_path / "packed"), "--calibrate"]
    assert cli.main([*arguments, str(plates)]) == 2
    assert "no reading head" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()


def test_a_network_that_is_not_there_cannot_be_left_out(trained, tmp_path, capsys):
    assert cli.main(["pack", str(trained), str(tmp_path / "packed"), "--without", "denoyser"]) == 2
    assert "this model has condition, reader, denoiser" in capsys.readouterr().err

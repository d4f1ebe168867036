"""`lpdiff restore` from files to files, with a small untrained model."""

import json

import cv2
import jax
import numpy as np
import pytest

from lpdiff_jax import cli
from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.storage.model_directory import load_model, save_model

SIZE = (16, 32)


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    config = {
        "image_size": SIZE,
        "dtype": "float32",
        "prediction": "v",
        "residual_scale": 0.3,
        "clip": "image",
        "condition": {"features": [8, 8], "strides": [1, 2], "blocks": 1, "heads": 2},
        "denoiser": {
            "features": 8,
            "multipliers": [1, 2],
            "blocks": 1,
            "norm_groups": 4,
            "attention_resolutions": [],
        },
        "schedule": {"name": "cosine", "steps": 20, "zero_terminal_snr": True},
    }
    variables = jax.jit(build_model(config).init)(jax.random.key(0))
    directory = tmp_path_factory.mktemp("model") / "tiny"
    sampler = {"name": "ddim", "steps": 2, "eta": 0.0}
    save_model(directory, {"model": config, "sampler": sampler}, variables)
    return directory


@pytest.fixture
def plates(tmp_path):
    generator = np.random.default_rng(0)
    for name, count in (("one", 1), ("three", 3)):
        (tmp_path / "plates" / name).mkdir(parents=True)
        for k in range(count):
            image = generator.integers(0, 256, (20, 43, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "plates" / name / f"img_{k}.png"), image)
    return tmp_path / "plates"


def restore(model, plates, output, *options):
    return cli.main(
        ["restore", str(plates), "--output", str(output), "--model", str(model), *options]
    )


def test_every_plate_gets_its_pictures(model_directory, plates, tmp_path):
    output = tmp_path / "out"
    assert restore(model_directory, plates, output, "--samples", "2") == 0
    restored = sorted(path.name for path in (output / "restored").iterdir())
    assert restored == ["one.png", "one_2.png", "three.png", "three_2.png"]
    assert cv2.imread(str(output / "restored" / "one.png")).shape == (*SIZE, 3)
    assert cv2.imread(str(output / "psi" / "three.png")).shape == (*SIZE, 3)
    # Three frames, psi and two samples lie side by side.
    assert cv2.imread(str(output / "sheets" / "three.png")).shape[1] == 6 * (SIZE[1] + 4)
    summary = json.loads((output / "restore.json").read_text())
    assert [plate["name"] for plate in summary["plates"]] == ["one", "three"]
    assert summary["options"]["seed"] == 0


def test_without_diffusion_the_sheet_ends_with_psi(model_directory, plates, tmp_path):
    stored = load_model(model_directory)
    stored.variables.pop("denoiser")
    save_model(tmp_path / "psi-alone", stored.config, stored.variables)
    assert restore(tmp_path / "psi-alone", plates, tmp_path / "out") == 0
    assert cv2.imread(str(tmp_path / "out/sheets/three.png")).shape[1] == 4 * (SIZE[1] + 4)
    assert (tmp_path / "out/restored/three.png").exists()


def test_a_plate_does_not_depend_on_its_company(model_directory, plates, tmp_path):
    restore(model_directory, plates, tmp_path / "together")
    restore(model_directory, plates / "three", tmp_path / "alone")
    together, alone = (
        cv2.imread(str(tmp_path / name / "restored" / "three.png")).astype(int)
        for name in ("together", "alone")
    )
    assert np.abs(together - alone).max() <= 1


def test_a_plate_that_cannot_be_read_does_not_stop_the_others(
    model_directory, plates, tmp_path, capsys
):
    for path in (plates / "one").iterdir():
        path.write_bytes(b"broken")
    assert restore(model_directory, plates, tmp_path / "out") == 2
    assert (tmp_path / "out" / "restored" / "three.png").exists()
    assert "one: no frame of this plate can be read" in capsys.readouterr().err


def test_mistakes_are_told_without_a_traceback(model_directory, plates, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for model, inputs, output, options, message in (
        (tmp_path / "nowhere", plates, tmp_path / "out", (), "no such model"),
        (tmp_path, plates, tmp_path / "out", (), "work directory"),
        (model_directory, tmp_path / "nothing", tmp_path / "out", (), "no such file or folder"),
        (model_directory, plates, tmp_path / "file", (), "cannot be written"),
        (model_directory, plates, tmp_path / "out", ("--samples", "0"), "at least 1"),
        (model_directory, plates, tmp_path / "out", ("--steps", "21"), "steps"),
        (model_directory, plates, tmp_path / "out", ("--sampler", "magic"), "magic"),
    ):
        assert restore(model, inputs, output, *options) == 2
        assert message in capsys.readouterr().err

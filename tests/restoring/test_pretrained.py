"""The model that comes with the package."""

import json

import jax
import numpy as np
import pytest

from data_pipeline.images import resize
from data_pipeline.synthetic.groups import render_group
from lpdiff_jax import cli
from lpdiff_jax.evaluation.reading.edit_distance import normalised_edit_distance
from lpdiff_jax.images import to_float
from lpdiff_jax.restoring.loading import PACKAGED
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.restoring.sheets import write_image


@pytest.fixture(scope="module")
def restorer():
    return Restorer.load()


@pytest.fixture(scope="module")
def groups():
    """Plates that it has not learnt from, by the camera that it has."""
    return [render_group([20_261_122, k], preset="real-like") for k in range(24)]


def test_it_is_small(restorer):
    assert sum(x.size for x in jax.tree.leaves(restorer.variables)) < 12e6
    assert sum(path.stat().st_size for path in PACKAGED.iterdir()) < 20e6
    assert (PACKAGED / "README.md").read_text().startswith("# Model card")


def test_it_reads_and_restores_plates(restorer, groups):
    size = restorer.image_size
    frames = np.stack([[resize(frame, size) for frame in group.frames] for group in groups])
    targets = np.stack([resize(group.target, size) for group in groups])
    readings = restorer.read(to_float(frames))
    texts = [group.text for group in groups]
    distances = [
        normalised_edit_distance(reading.text[1:], text[1:])
        for reading, text in zip(readings, texts, strict=True)
    ]
    assert np.mean(distances) < 0.35
    error = lambda images: np.square(images - to_float(targets)).mean()  # noqa: E731
    psi = np.clip(restorer.condition(to_float(frames)), -1, 1)
    assert error(psi) < 0.75 * min(error(to_float(frames[:, k])) for k in range(3))


def test_restore_takes_it_by_default(groups, tmp_path):
    for k, frame in enumerate(groups[0].frames):
        path = tmp_path / "plates" / "a" / f"img_{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, frame)
    assert cli.main(["restore", str(tmp_path / "plates"), "--output", str(tmp_path / "out")]) == 0
    (plate,) = json.loads((tmp_path / "out/restore.json").read_text())["plates"]
    assert plate["reading"]["text"]
    assert plate["reading"]["readable"] in (True, False)
    assert (tmp_path / "out/restored/a.png").is_file()


def test_its_denoiser_can_be_called_with_psi_alone(restorer):
    size = restorer.image_size
    psi = np.zeros((1, *size, 3), np.float32)
    noise = restorer.denoise(psi, np.ones_like(psi), np.array([0.5], np.float32))
    assert noise.shape == psi.shape and np.isfinite(noise).all()

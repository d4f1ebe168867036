"""The code of the tutorial about adding a method, as it stands there: it trains and restores."""

import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from lpdiff_jax.methods import registry
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.training.loop import train

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "method.md"


@pytest.fixture
def tutorial(monkeypatch):
    """The names that the page's Python defines."""
    monkeypatch.setattr(registry, "METHODS", dict(registry.METHODS))
    names = {"__name__": "tutorial"}
    monkeypatch.setitem(sys.modules, "tutorial", type(jax)("tutorial"))
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        exec(block, names)
    return names


def test_it_trains_and_restores(tutorial, plates, tmp_path):
    config = tutorial["get_config"]()
    config.model.image_size = (8, 16)
    config.data.update(root=str(plates), augmented=False, num_frames=2)
    config.gain.update(steps=4, batch_size=2, warmup_steps=1)
    config.update(sheet_plates=0, validation_batches=1)
    train(config, tmp_path)
    restorer = Restorer.load(tmp_path)
    params = restorer.variables["gain"]["params"]
    assert not np.array_equal(params["offset"], np.zeros(3))
    frames = np.full((1, 2, 8, 16, 3), 0.5, np.float32)
    expected = np.clip(0.5 * params["gain"] + params["offset"], -1, 1)
    restored = restorer.restore(frames)
    np.testing.assert_allclose(restored, np.broadcast_to(expected, restored.shape), atol=1e-6)

"""What the parity tests share: the golden numbers, and the weights and inputs behind them."""

import numpy as np
import pytest

from tests.parity.seeded import BETAS_1000, draw, golden_numbers, relative, seeded_checkpoint


@pytest.fixture(scope="session")
def draw_image():
    """Draws the input of a name, stated as [B, C, H, W]; returns it as [B, H, W, C]."""
    return lambda name, shape: draw(name, shape).transpose(0, 2, 3, 1)


@pytest.fixture(scope="session")
def relative_error():
    """See `seeded.relative`."""
    return relative


@pytest.fixture(scope="session")
def golden():
    """See `seeded.golden_numbers`."""
    return golden_numbers


@pytest.fixture(scope="session")
def full_checkpoint():
    """The 92 M network of the published size."""
    return seeded_checkpoint("state_dict_shapes.json", betas=BETAS_1000)


@pytest.fixture(scope="session")
def small_checkpoint():
    """The small network of the golden numbers, linear schedule 1e-6 .. 0.3 of 20 steps."""
    betas = np.linspace(1e-6, 0.3, 20)
    return seeded_checkpoint("small_state_dict_shapes.json", norm_groups=16, betas=betas)

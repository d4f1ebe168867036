"""The data and the compilation cache of the training tests."""

import os

from tests.training.conftest import plates
from tests.training.tiny import QUICK_COMPILATION

os.environ.update(QUICK_COMPILATION)  # before jax is imported

__all__ = ["plates"]

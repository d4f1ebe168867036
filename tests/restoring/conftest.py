"""Compilation that is quick rather than good, and shared between tests."""

import os

from tests.training.tiny import QUICK_COMPILATION

os.environ.update(QUICK_COMPILATION)  # before jax is imported

"""Data for training tests, and a compilation cache that they share."""

import os
from pathlib import Path

import pytest

from data_pipeline.synthetic.groups import synthesize
from tests.training.tiny import QUICK_COMPILATION

os.environ.update(QUICK_COMPILATION)  # before jax is imported


@pytest.fixture(scope="session")
def plates(tmp_path_factory) -> Path:
    """A synthetic data set of 24 training and 8 validation groups."""
    root = tmp_path_factory.mktemp("plates")
    for split, groups in (("train", 24), ("val", 8)):
        synthesize(root, groups=groups, seed=0, split=split, num_frames=2)
    return root

"""Data for training tests, and a compilation cache that they share."""

import os
import tempfile
from pathlib import Path

import pytest

from data_pipeline.synthetic.groups import synthesize

# Before jax is imported: most of a tiny run is compilation, and most runs compile the same.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "lpdiff-jax-test-compilations")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(500 * 2**20))


@pytest.fixture(scope="session")
def plates(tmp_path_factory) -> Path:
    """A synthetic data set of 24 training and 8 validation groups."""
    root = tmp_path_factory.mktemp("plates")
    for split, groups in (("train", 24), ("val", 8)):
        synthesize(root, groups=groups, seed=0, split=split, num_frames=2)
    return root

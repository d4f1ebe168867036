"""What tests of several rooms share: how they compile, and drawn plates."""

import contextlib
import getpass
import os
import tempfile
from pathlib import Path

import pytest

COMPILATIONS = Path(tempfile.gettempdir()) / f"lpdiff-jax-compilations-of-{getpass.getuser()}"
ROOM = 500 * 2**20  # bytes

# Most of a tiny run is compilation, and most runs compile the same: quickly rather than well, and
# each program once for all tests and the processes that they start. Set before jax is imported.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "JAX_COMPILATION_CACHE_DIR": str(COMPILATIONS),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


def pytest_configure(config: pytest.Config) -> None:
    """Begins anew with a cache that has grown too large, before the workers start.

    JAX's own bound costs 0.1 s of a processor for each of some thousand programs: it looks at all.
    """
    if hasattr(config, "workerinput"):
        return
    files = list(COMPILATIONS.glob("*"))
    with contextlib.suppress(OSError):  # another run of the tests may have done it meanwhile
        if sum(file.stat().st_size for file in files) > ROOM:
            for file in files:
                file.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def plates(tmp_path_factory) -> Path:
    """A synthetic data set of 24 training and 8 validation groups."""
    from data_pipeline.synthetic.groups import synthesize

    root = tmp_path_factory.mktemp("plates")
    for split, groups in (("train", 24), ("val", 8)):
        synthesize(root, groups=groups, seed=0, split=split, num_frames=2)
    return root

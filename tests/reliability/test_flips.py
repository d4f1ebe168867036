"""A hundred flipped bits of the newest checkpoint, and a hundred of shards: each is noticed."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.prepare import check_tree, write_shards
from data_pipeline.shards import verify
from data_pipeline.sources import open_source
from data_pipeline.synthetic.groups import synthesize

FLIPS = 100


def flip(path: Path, rng: np.random.Generator) -> None:
    """Flips one bit of a file."""
    data = bytearray(path.read_bytes())
    place = int(rng.integers(len(data)))
    data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def test_shards(tmp_path):
    synthesize(tmp_path / "raw", groups=6, seed=0)
    out = tmp_path / "out"
    splits = check_tree(tmp_path / "raw").splits
    write_shards(out, splits, groups_per_shard=3, report=lambda _: None)
    # The description of the data set is for other programs; ours do not read it.
    files = sorted(path for path in out.iterdir() if path.name != "croissant.json")
    sound = {path: path.read_bytes() for path in files}
    examples = [open_source(out, "train")[k] for k in range(6)]
    rng = np.random.default_rng(0)
    for number in range(FLIPS):
        path = files[number % len(files)]
        flip(path, rng)
        try:
            found = bool(verify(out))
        except DataError:
            found = True
        assert found, f"flip {number} of {path.name} was not noticed"
        try:
            source = open_source(out, "train")
            read = [source[k] for k in range(6)]
        except DataError:
            read = examples
        assert read == examples, f"flip {number} of {path.name} was read as if it were data"
        path.write_bytes(sound[path])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's readers
def test_checkpoints(plates, tmp_path):
    """What is read is the newest checkpoint as it was saved, or else the one before it."""
    from lpdiff_jax.storage.checkpoint import newest
    from tests.reliability.kills import finish
    from tests.reliability.test_kills import options
    from tests.training.tiny import command

    workdir = tmp_path / "run"
    words = command(workdir, plates, stages="('psi',)")
    done = finish(words, **options())
    assert done.returncode == 0, done.stderr
    directory, kept = workdir / "checkpoints" / "psi", tmp_path / "kept"
    shutil.copytree(directory / "6", kept)
    read = _reader(workdir)
    sound, older = read(directory / "6"), read(directory / "3")
    rng = np.random.default_rng(0)
    files = sorted(path.relative_to(kept) for path in kept.rglob("*") if path.is_file())
    files = [path for path in files if (kept / path).stat().st_size]
    sizes = np.array([(kept / path).stat().st_size for path in files], float)
    skipped = 0
    for number in range(FLIPS):
        # Half of them anywhere, half in the small files that describe the others.
        weights = sizes / sizes.sum() if number % 2 else np.full(len(files), 1 / len(files))
        path = files[rng.choice(len(files), p=weights)]
        flip(directory / "6" / path, rng)
        found, damaged = newest(directory, read)
        assert found is not None, f"flip {number} of {path}: {damaged}"
        assert _same(found, older if damaged else sound), f"flip {number} of {path}"
        skipped += bool(damaged)
        shutil.rmtree(directory / "6")
        shutil.copytree(kept, directory / "6")
    assert skipped > FLIPS / 10  # of the bits, not all belong to what inference reads


def _reader(workdir: Path) -> Callable[[Path], list[np.ndarray]]:
    """Reads the arrays of a checkpoint that inference uses."""
    import jax

    from lpdiff_jax.methods import registry
    from lpdiff_jax.storage.checkpoint import read_networks
    from lpdiff_jax.storage.config import load_config

    method = registry.build(load_config(workdir / "config.json"))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    init = partial(method.init, networks=method.networks)
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
        jax.eval_shape(init, jax.random.key(0)),
    )

    def read(path: Path) -> list[np.ndarray]:
        return [np.asarray(x) for x in jax.tree.leaves(read_networks(path, target)[0])]

    return read


def _same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(map(np.array_equal, a, b))

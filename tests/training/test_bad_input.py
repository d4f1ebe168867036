"""A user's mistakes: each a message that names it, status 2, and no traceback."""

import json

import pytest

from data_pipeline.prepare import check_tree, write_shards
from tests.training.tiny import command, run, tiny_config


@pytest.fixture(scope="module")
def shards(plates, tmp_path_factory):
    """The plates as shards, the training one cut short."""
    root = tmp_path_factory.mktemp("shards") / "cut"
    write_shards(root, check_tree(plates).splits, report=lambda _: None)
    shard = sorted(root.glob("train-*"))[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    return root


def other_run(workdir, plates) -> None:
    """Makes the directory one of a run with another model."""
    config = tiny_config(plates).to_dict()
    config["model"]["denoiser"]["features"] = 24
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps(config))


CASES = {
    "unknown field": (["--config.psi.lr=1"], "config.psi has no field 'lr'; its fields: accum"),
    "unknown section": (["--config.psy.steps=1"], "config has no field 'psy'"),
    "wrong type": (["--config.psi.steps=many"], "--config.psi.steps=many"),
    "unknown stage": (["--config.stages=('sigh',)"], "config.stages has 'sigh'"),
    "unknown mode": (["--config.parallel=threads"], "config.parallel is 'threads'; allowed"),
    "wrong model": (["--config.model.prediction=text"], "prediction is 'text'; allowed"),
    "no such optimiser": (["--config.psi.optimizer=sgd"], "optimizer is 'sgd'; allowed"),
    "empty data": (["--config.data.root=nowhere"], "nowhere"),
    "cut shard": (["--config.data.root={shards}"], "written with"),
    "another run": ([], "model.denoiser.features: 24 -> 8"),
    "process id": (
        ["--coordinator=127.0.0.1:1", "--process-id=4", "--process-count=4"],
        "ids go from 0 to 3",
    ),
    "half of the flags": (["--process-id=0"], "go together: give all"),
    "batch": (
        ["--config.psi.batch_size=9"],
        "config.psi.batch_size = 9 (the global batch) must be a multiple of devices x "
        "accumulation: 1 processes x 2 devices = 2, x 1 parts = 2",
    ),
    "workdir": (["--workdir=/dev/null/run"], "cannot be the work directory"),
}


@pytest.mark.parametrize("case", CASES)
def test_mistakes_exit_2_with_a_message(case, plates, shards, tmp_path):
    flags, expected = CASES[case]
    workdir = tmp_path / "run"
    if case == "another run":
        other_run(workdir, plates)
    flags = [flag.format(shards=shards) for flag in flags]
    done = run(command(workdir, plates, *flags), devices=2)
    assert done.returncode == 2, done.stdout + done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (workdir / "checkpoints").exists()

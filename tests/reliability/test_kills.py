"""Ten kills each while a set is drawn, trained on, saved, evaluated, prepared and restored from."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from data_pipeline.shards import verify
from tests.reliability.kills import (
    LPDIFF,
    finish,
    kill_again_and_again,
    options,
    orphans,
    wait_until,
)
from tests.training.processes import free_port
from tests.training.tiny import command

KILLS = int(os.environ.get("LPDIFF_KILLS", "10"))

pytestmark = pytest.mark.slow


def digest(folder: Path) -> dict[str, str]:
    """The sha256 of every file of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def draw(folder: Path) -> list[str]:
    return [*LPDIFF, "synthesize", str(folder), "--groups", "300", "--seed", "0", "--workers", "2"]


def test_drawing(tmp_path):
    words = draw(tmp_path / "killed")
    assert not kill_again_and_again(words, kills=KILLS, longest=4, **options())
    assert not orphans(str(tmp_path))
    assert finish(words, **options()).returncode == 0
    assert finish(draw(tmp_path / "whole"), **options()).returncode == 0
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")


def test_preparing(tmp_path):
    assert finish(draw(tmp_path / "raw"), **options()).returncode == 0
    out = tmp_path / "out"
    words = [*LPDIFF, "prepare", str(tmp_path / "raw"), str(out), "--groups-per-shard", "7"]
    assert not kill_again_and_again(words, kills=KILLS, longest=4, **options())
    assert finish(words, **options()).returncode == 0
    assert verify(out) == [] and not (tmp_path / "out.part").exists()


@pytest.fixture(scope="module")
def undisturbed(plates, tmp_path_factory) -> Path:
    """The work directory of a run that nobody killed."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    done = finish(command(workdir, plates), **options())
    assert done.returncode == 0, done.stderr
    return workdir


def results(workdir: Path) -> dict:
    """What a run has come to: the report, without the seconds that it took."""
    report = json.loads((workdir / "eval" / "report.json").read_bytes())
    return {name: value for name, value in report.items() if name != "seconds"}


def in_training(workdir: Path) -> bool:
    return (workdir / "checkpoints").exists()


def in_saving(workdir: Path) -> bool:
    return any((workdir / "checkpoints").glob("*/*tmp*"))


def in_evaluation(workdir: Path) -> bool:
    return (workdir / "eval").exists()


@pytest.mark.parametrize(
    ("where", "longest"), [(in_training, 8.0), (in_saving, 0.1), (in_evaluation, 3.0)]
)
def test_training(where, longest, plates, undisturbed, tmp_path):
    workdir = tmp_path / "run"
    words = command(workdir, plates)

    def moment() -> bool:
        return where(workdir)

    assert not kill_again_and_again(words, kills=KILLS, longest=longest, when=moment, **options())
    done = finish(words, **options())
    assert done.returncode == 0, done.stderr
    assert results(workdir) == results(undisturbed)


def test_drawing_for_a_training_run(tmp_path):
    workdir = tmp_path / "run"
    words = command(workdir, "", **{"data.synthetic.groups": 200, "data.synthetic.val_groups": 40})

    def moment() -> bool:
        return any((workdir / "data").glob(".*.partial"))

    faults = kill_again_and_again(words, kills=4, longest=1.5, when=moment, **options())
    assert not faults
    assert finish(words, **options()).returncode == 0
    assert len(os.listdir(workdir / "data" / "train" / "inputs")) == 200


def test_restoring(tmp_path):
    assert finish(draw(tmp_path / "raw"), **options()).returncode == 0
    inputs = tmp_path / "few"
    inputs.mkdir()
    for folder in sorted((tmp_path / "raw/train/inputs").iterdir())[:16]:
        folder.rename(inputs / folder.name)

    def restore(out: str) -> list[str]:
        words = ["restore", str(inputs), "--output", str(tmp_path / out), "--batch-size", "4"]
        return [*LPDIFF, *words]

    assert not kill_again_and_again(restore("killed"), kills=KILLS, longest=20, **options())
    assert finish(restore("killed"), **options()).returncode == 0
    assert finish(restore("whole"), **options()).returncode == 0
    killed, whole = digest(tmp_path / "killed"), digest(tmp_path / "whole")
    assert killed.keys() == whole.keys()
    assert all(killed[name] == whole[name] for name in whole if name.endswith(".png"))


@pytest.mark.parametrize("killed", [0, 1])
def test_one_of_two_processes(killed, plates, tmp_path):
    """The other one ends with a status and a sentence, and both go on with the same commands."""
    workdir, port = tmp_path / "run", free_port()

    def start(index: int) -> subprocess.Popen:
        flags = [f"--coordinator=localhost:{port}", f"--process-id={index}", "--process-count=2"]
        words = command(workdir, plates, *flags, **{"psi.steps": 2000, "checkpoint_every": 20})
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, **options(), **pipes)

    pair = [start(0), start(1)]
    wait_until(lambda: any((workdir / "checkpoints").glob("psi/[0-9]*")), 300)
    pair[killed].kill()
    output, errors = pair[1 - killed].communicate(timeout=300)
    pair[killed].communicate()
    assert pair[1 - killed].returncode == 75, output + errors
    assert "another process of this run died" in errors
    assert "stack trace" not in errors and "Traceback" not in errors

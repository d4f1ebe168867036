"""The work directory: one run at a time, and nothing lost when its disk is full."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.storage.checkpoint import saved_steps, stage_directory
from lpdiff_jax.storage.workdir import check_same_run, claim, write_config
from tests.training.processes import final_state, finish, free_port, start, start_command, words_of
from tests.training.tiny import command, run, tiny_config


def test_a_second_run_is_refused_and_the_first_goes_on(plates, tmp_path):
    first = start(tmp_path / "run", plates, tmp_path / "first")
    for line in first.stdout:
        if "training on" in line:
            break
    os.kill(first.pid, signal.SIGSTOP)
    try:
        status, output = finish(start(tmp_path / "run", plates, tmp_path / "second"))
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert status == 2
    assert f"{tmp_path / 'run'}: another run trains in this directory; wait for it" in output
    assert "Traceback" not in output
    assert not (tmp_path / "second").exists()
    status, output = finish(first)
    assert status == 0, output
    assert "diffusion 14/14" in output


def test_the_command_refuses_a_directory_in_use(plates, tmp_path):
    with claim(tmp_path):
        done = run(command(tmp_path, plates))
    assert done.returncode == 2
    assert "another run trains in this directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_does_not_go_on_with_another_optimiser(tmp_path):
    """Nothing but its name is asked for: the other's memory could not be read."""
    config = tiny_config()
    del config.psi.optimizer  # as runs were before there was a choice
    write_config(config, tmp_path)
    check_same_run(tiny_config(), tmp_path)
    with pytest.raises(UserError, match=r"optimiser.*\n  psi.optimizer: \(absent\) -> muon$"):
        check_same_run(tiny_config(**{"psi.optimizer": "muon"}), tmp_path)


def test_processes_that_train_together_refuse_together(plates, tmp_path):
    """One of them sees the other run; none waits for another that has left."""
    port = free_port()
    with claim(tmp_path / "run"):
        both = [
            start(tmp_path / "run", plates, tmp_path / "x", process=f"{port},{i},2")
            for i in range(2)
        ]
        (status, output), (other_status, other_output) = map(finish, both)
    assert status == other_status == 2
    assert "another run trains in this directory" in output
    assert "another process of this run has failed" in other_output
    assert "Traceback" not in output + other_output


@pytest.mark.slow
def test_a_process_that_fails_later_takes_the_others_along(plates, tmp_path):
    """It leaves at once, with its message; JAX ends the others within two minutes or so."""
    port = free_port()
    waiting, failing = (
        start(tmp_path / "run", plates, tmp_path / "x", process=f"{port},{i},2", fail_at=8 * i)
        for i in range(2)
    )
    status, output = finish(failing)
    assert status == 2 and "this batch cannot be read" in output
    assert finish(waiting)[0] != 0


def small_disk(words: list[str], disk: Path, size: str, copy: Path) -> list[str]:
    """Runs words with a file system of that size at `disk`, then copies what it holds."""
    script = (
        'mount -t tmpfs -o size="$2" tmpfs "$1" || exit 99; d="$1"; c="$3"; shift 3; "$@"; s=$?; '
        'cp -r "$d" "$c"; exit $s'
    )
    return ["unshare", "-rm", "sh", "-c", script, "sh", str(disk), size, str(copy), *words]


@pytest.fixture
def disk(tmp_path) -> Path:
    """A place for a small disk, where such may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        subprocess.run(small_disk(["true"], place, "1m", tmp_path / "trial"), check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    return place


def test_a_disk_that_fills_up_loses_no_checkpoint(plates, tmp_path, disk):
    """The disk holds a few checkpoints of the many to keep; with room again the run goes on."""
    fields = {"stages": ["psi"], "psi.steps": 30, "checkpoint_every": 1, "keep": 30}
    fields |= {"log_every": 99, "validate_every": 99}  # a save is what meets the end of the disk
    words = words_of(disk / "run", plates, tmp_path / "x", **fields)
    status, output = finish(start_command(small_disk(words, disk, "400k", tmp_path / "kept")))
    assert status == 2, output
    (told,) = (line for line in output.splitlines() if line.startswith("run_small.py: "))
    assert re.search(r"could not be written \(.*; 0\.[01] MB are free\)", told)
    workdir = tmp_path / "kept" / "run"
    steps = saved_steps(stage_directory(workdir, "psi"))
    assert 1 < steps[0] < 30 and f"saved whole: {', '.join(map(str, steps))}. Make room" in told
    status, output = finish(start(workdir, plates, tmp_path / "y", **fields))
    assert status == 0, output
    assert f"psi: resumed at step {steps[0]} of 30" in output and "damaged" not in output
    assert finish(start(tmp_path / "alone", plates, tmp_path / "z", **fields))[0] == 0
    assert final_state(workdir, "psi") == final_state(tmp_path / "alone", "psi")

"""A run that is killed, stopped or damaged goes on as if nothing had happened, or says what did."""

import functools
import json
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from lpdiff_jax.errors import Preempted, UserError
from lpdiff_jax.methods import registry
from lpdiff_jax.methods.lpdiff import stages
from lpdiff_jax.methods.lpdiff.model import NETWORKS
from lpdiff_jax.parallel import devices
from lpdiff_jax.restoring.loading import load_run
from lpdiff_jax.storage import checkpoint
from lpdiff_jax.storage.checkpoint import Checkpointer, saved_steps, stage_directory
from lpdiff_jax.training import loop, writer
from lpdiff_jax.training.state import to_items
from tests.training.processes import STEPS, final_state, finish, free_port, start
from tests.training.small_model import small_model
from tests.training.tiny import tiny_config


@pytest.fixture
def small(monkeypatch):
    """Training in this process uses the smallest model."""
    monkeypatch.setitem(registry.METHODS, "lpdiff", small_model)


def arrays_of(variables) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}


def reader_of(config, name):
    """What reads all of a checkpoint of one of the smallest model's stages."""
    stage = stages.make_stage(name, small_model(), config)
    abstract = loop.abstract_state(small_model(), stage, config[name])
    target = devices.Parallel("pmap").restore_target(abstract)
    return functools.partial(checkpoint.read_saved, **to_items(target, NETWORKS))


def sums_of(saved) -> dict[str, str]:
    return checkpoint.checksums((saved.networks, saved.training))


def kill_and_compare(plates, tmp_path, kills: int, **fields) -> None:
    """Kills a run at random moments, saves included, and compares it with one left alone."""
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    whole, parts = tmp_path / "whole.txt", tmp_path / "parts.txt"
    status, output = finish(start(alone, plates, whole, **fields))
    assert status == 0, output
    rng, in_saves = random.Random(kills), 0
    for i in range(kills):
        process = start(killed, plates, parts, **fields)
        goal = lines_of(parts) + rng.randint(1, 6)
        while lines_of(parts) < goal or (i % 2 == 0 and not saves_under_way(killed)):
            assert process.poll() is None, finish(process)
            time.sleep(0.001)
        process.kill()
        assert finish(process)[0] == -signal.SIGKILL
        in_saves += saves_under_way(killed)
    assert in_saves >= kills // 3
    status, output = finish(start(killed, plates, parts, **fields))
    assert status == 0, output
    assert final_state(killed) == final_state(alone)
    # What a step took is the same whenever it was taken; a killed run took some steps twice.
    expected, found = (path.read_text().splitlines() for path in (whole, parts))
    assert list(dict.fromkeys(found)) == list(dict.fromkeys(expected))
    assert found[-1] == expected[-1]


def lines_of(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def saves_under_way(workdir: Path) -> bool:
    """Whether a checkpoint lies there that is not whole yet, or never will be."""
    return any(workdir.glob("checkpoints/*/*.orbax-checkpoint-tmp*"))


def test_killed_once_and_resumed_is_the_same_to_the_bit(plates, tmp_path):
    kill_and_compare(plates, tmp_path, 1)


@pytest.mark.slow
def test_killed_ten_times_and_resumed_is_the_same_to_the_bit(plates, tmp_path):
    fields = {"psi.steps": 10, "diffusion.steps": 110, "checkpoint_every": 3, "validate_every": 40}
    kill_and_compare(plates, tmp_path, 10, **fields)


def test_sigterm_saves_within_a_step_and_exits_with_its_status(plates, tmp_path):
    status, output = finish(start(tmp_path, plates, tmp_path / "x", stop_at=9))
    assert status == 75, output
    assert "diffusion: stopped at step 3, which is saved" in output
    assert saved_steps(stage_directory(tmp_path, "diffusion"))[0] == 3


def test_stopped_in_this_process_and_resumed_is_the_same(small, plates, tmp_path, monkeypatch):
    muon = {"psi.optimizer": "muon", "diffusion.optimizer": "muon"}
    config = tiny_config(plates, **STEPS | muon)
    expected = arrays_of(loop.train(config, tmp_path / "alone"))
    answers = iter([False] * 10 + [True])
    monkeypatch.setattr(devices.StopRequest, "received", lambda self: next(answers, False))
    with pytest.raises(Preempted):
        loop.train(config, tmp_path / "stopped")
    found = arrays_of(loop.train(config, tmp_path / "stopped"))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_what_is_saved_is_the_state_of_that_step(small, plates, tmp_path, monkeypatch):
    """Though the step donates its buffers while the save goes on in the background."""
    seen = {}
    save = Checkpointer.save

    def noting_save(self, step, networks, training, record):
        seen[step] = {name: x.copy() for name, x in arrays_of((networks, training)).items()}
        save(self, step, networks, training, record)

    monkeypatch.setattr(Checkpointer, "save", noting_save)
    config = tiny_config(plates, **STEPS | {"stages": ("psi",), "checkpoint_every": 1, "keep": 9})
    loop.train(config, tmp_path)
    read, directory = reader_of(config, "psi"), stage_directory(tmp_path, "psi")
    for step in saved_steps(directory):
        saved, _ = checkpoint.newest(directory, read, [step])
        found = arrays_of((saved.networks, saved.training))
        assert all(np.array_equal(found[name], seen[step][name]) for name in found)
    assert len(seen) == 6


def test_a_finished_run_does_nothing_when_run_again(small, plates, tmp_path, capsys):
    config = tiny_config(plates, **STEPS)
    first = arrays_of(loop.train(config, tmp_path))
    before = sorted((tmp_path / "checkpoints").rglob("*"))
    second = arrays_of(loop.train(config, tmp_path))
    assert "diffusion: resumed at step 14 of 14" in capsys.readouterr().out
    assert sorted((tmp_path / "checkpoints").rglob("*")) == before
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def trained(plates, tmp_path_factory):
    """A finished run of the smallest model; copy it before changing it."""
    workdir = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.METHODS, "lpdiff", small_model)
        loop.train(tiny_config(plates, **STEPS), workdir)
    return workdir


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copied")


def flip(path, rng, count=64) -> None:
    """Turns bits of so many bytes of a file."""
    content = bytearray(path.read_bytes())
    for _ in range(count):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


# Orbax leaves coroutines behind when a checkpoint that it reads is damaged.
leaves_coroutines = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@leaves_coroutines
def test_any_damage_to_the_newest_checkpoint_is_noticed(small, plates, copied, tmp_path):
    directory = stage_directory(copied, "diffusion")
    newest = directory / "14"
    config = tiny_config(plates, **STEPS)
    read = reader_of(config, "diffusion")
    whole, _ = checkpoint.newest(directory, read)
    files = [p for p in newest.rglob("*") if p.is_file() and p.stat().st_size]
    for i, path in enumerate(files):
        for count in (64, 1):
            original = path.read_bytes()
            flip(path, random.Random(i), count)
            saved, damaged = checkpoint.newest(directory, read)
            path.write_bytes(original)
            if 14 in damaged:
                assert int(saved.training["step"]) == 12
            else:  # Only where the bytes decide nothing.
                assert saved.record == whole.record, path
                assert sums_of(saved) == sums_of(whole), path


@leaves_coroutines
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(small, plates, copied, capsys):
    directory = stage_directory(copied, "diffusion")
    expected = final_state(copied)
    for path in (directory / "14" / "training").rglob("*"):
        if path.is_file() and path.stat().st_size > 2000:
            flip(path, random.Random(0))
    (directory / "99").mkdir()  # as a person might
    loop.train(tiny_config(plates, **STEPS), copied)
    printed = capsys.readouterr().out
    assert f"{directory / '14'}: damaged" in printed and f"{directory / '99'}: damaged" in printed
    assert "diffusion: resumed at step 12 of 14" in printed
    assert (copied / "checkpoints" / "damaged" / "diffusion-14").is_dir()
    assert final_state(copied) == expected


@leaves_coroutines
def test_a_stage_whose_checkpoints_are_all_damaged_is_not_begun_anew(small, plates, copied):
    directory = stage_directory(copied, "diffusion")
    for step in saved_steps(directory):
        (directory / str(step) / "record" / "metadata").write_text("{")
    with pytest.raises(UserError, match="none of its checkpoints can be read"):
        loop.train(tiny_config(plates, **STEPS), copied)


def test_what_differs_from_the_checkpoint_is_shown(small, plates, copied, capsys):
    config = tiny_config(plates, **STEPS, **{"diffusion.clip_norm": 0.0, "log_every": 5})
    loop.train(config, copied)
    printed = capsys.readouterr().out
    assert "changed since this checkpoint: diffusion.clip_norm: 1.0 -> 0.0" in printed
    assert "changed since this checkpoint: log_every: 2 -> 5" in printed


@pytest.mark.slow
def test_resumes_on_fewer_devices(plates, tmp_path):
    """8 -> 4 -> 1 devices; the examples and, to rounding, the parameters are those of one."""
    examples, again = tmp_path / "x", tmp_path / "y"
    status, output = finish(start(tmp_path / "one", plates, again))
    assert status == 0, output
    for count, stop in ((8, 9), (4, 5), (1, -1)):
        process = start(tmp_path / "run", plates, examples, count, stop_at=stop)
        status, output = finish(process)
        assert status == (0 if stop < 0 else 75), output
    lines = list(dict.fromkeys(examples.read_text().splitlines()))
    assert lines == list(dict.fromkeys(again.read_text().splitlines()))
    loaded = [load_arrays(tmp_path / name, plates) for name in ("one", "run")]
    for name in loaded[0]:
        np.testing.assert_allclose(loaded[0][name], loaded[1][name], atol=1e-5, err_msg=name)


def test_two_processes_stop_together_and_one_goes_on(plates, tmp_path):
    """SIGTERM to one of them saves in both; one process alone ends the run, as if it always had."""
    port, noted = free_port(), [tmp_path / "0", tmp_path / "1"]
    both = [
        start(tmp_path / "run", plates, noted[i], process=f"{port},{i},2", stop_at=8 + 99 * i)
        for i in range(2)
    ]
    for i, (status, output) in enumerate(map(finish, both)):
        assert status == 75, output
        assert "diffusion: stopped at step 3, which is saved" in output  # the signal came in step 2
        assert ("psi 2/6" in output) == (i == 0)  # one of them prints
    status, output = finish(start(tmp_path / "run", plates, tmp_path / "2"))
    assert status == 0, output
    assert "2 processes saved it, 1 go on" in output
    assert finish(start(tmp_path / "one", plates, tmp_path / "x"))[0] == 0
    alone, run = (load_arrays(tmp_path / name, plates) for name in ("one", "run"))
    for name in alone:
        np.testing.assert_allclose(alone[name], run[name], atol=1e-5, err_msg=name)
    halves = [map(json.loads, path.read_text().splitlines()) for path in noted]
    together = [a + b for a, b in zip(*halves, strict=True)]
    expected = [json.loads(line) for line in (tmp_path / "x").read_text().splitlines()]
    assert together == expected[: len(together)] and len(together) >= 8


def load_arrays(workdir, plates) -> dict[str, np.ndarray]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.METHODS, "lpdiff", small_model)
        return arrays_of(load_run(workdir).variables)


def test_another_number_of_processes_is_told(small, plates, copied, capsys, monkeypatch):
    save_as_four(copied)
    loop.train(tiny_config(plates, **STEPS), copied)
    assert "4 processes saved it, 1 go on: the order of the examples" in capsys.readouterr().out


def save_as_four(workdir) -> None:
    """Rewrites the newest record as if four processes had saved it."""
    directory = stage_directory(workdir, "diffusion")
    path = directory / str(saved_steps(directory)[0]) / "record" / "metadata"
    content = json.loads(path.read_text())
    content["record"]["process_count"] = 4
    del content["sha256"]
    content["sha256"] = checkpoint._json_digest(content)
    path.write_text(json.dumps(content))


@leaves_coroutines
def test_inference_uses_an_older_checkpoint_and_says_so(copied, plates, caplog, monkeypatch):
    directory = stage_directory(copied, "diffusion")
    (directory / "14" / "record" / "metadata").write_text("{")
    load_arrays(copied, plates)
    assert "14: damaged" in caplog.text and "older checkpoint is used" in caplog.text
    assert load_arrays(directory / "12", plates)  # one checkpoint, chosen by its path
    with pytest.raises(UserError, match="damaged"):
        load_arrays(directory / "14", plates)


def test_a_save_that_fails_is_an_error(small, plates, tmp_path, monkeypatch):
    """From the first save on files may not grow beyond 2 kB, as on a disk that is full."""
    monkeypatch.setattr(loop, "make_writer", lambda *_: writer.SilentWriter())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    save = Checkpointer.save

    def limited_save(*args):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
        save(*args)

    monkeypatch.setattr(Checkpointer, "save", limited_save)
    try:
        with pytest.raises(UserError, match=r"checkpoint could not be written .*File too large"):
            loop.train(tiny_config(plates, **STEPS), tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_too_little_room_is_told_at_the_start(small, plates, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="make room or choose another --workdir"):
        loop.train(tiny_config(plates, **STEPS), tmp_path / "run")


def test_too_little_room_is_told_before_a_save(small, plates, tmp_path, monkeypatch):
    """The disk is full from the second save on; the first is whole, and read by the next run."""
    config, real = tiny_config(plates, **STEPS), shutil.disk_usage
    free = iter([10**9, 10**9])  # at the start and at step 2

    def usage(path):
        return real(path)._replace(free=next(free, 100))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    told = r"\(OSError: it takes 0.0 MB; 0.0 MB are free\).*saved whole: 2. Make room"
    with pytest.raises(UserError, match=told):
        loop.train(config, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", real)
    loop.train(config, tmp_path)
    assert saved_steps(stage_directory(tmp_path, "diffusion"))[0] == 14

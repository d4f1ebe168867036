"""Training end to end, in this process and by the command."""

import jax
import numpy as np
import pytest

from configs import compact, lpdiff, pretrained, quickstart, released
from lpdiff_jax.errors import Preempted
from lpdiff_jax.methods import registry
from lpdiff_jax.parallel import devices
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.storage.checkpoint import saved_steps, stage_directory
from lpdiff_jax.training.loop import train
from tests.training.processes import finish, start_command
from tests.training.small_model import small_model
from tests.training.tiny import command, tiny_config

STAGES = ("psi", "diffusion", "joint")


def test_all_stages_by_the_command_stopped_in_the_last_and_resumed(plates, tmp_path):
    """train.py from psi to joint, a sketch between, stopped in joint and run again to its end.

    On two devices, over which the evaluation at the end spreads its batches too.
    """
    stages = ("psi", "sketch", "diffusion", "joint")
    fields = {"stages": stages, "joint.steps": 12, "joint.batch_size": 8, "log_every": 1}
    fields |= {"model.sketch.layers": 1}
    workdir = tmp_path / "run"
    first = start_command(command(workdir, plates, **fields), devices=2)
    printed = []
    for line in first.stdout:
        printed.append(line)
        if line.startswith("joint 2/12"):
            first.terminate()
            break
    status, output = finish(first)
    output = "".join(printed) + output
    assert status == 75, output
    assert all(f"{stage} 6/6" in output for stage in stages[:-1])
    step = saved_steps(stage_directory(workdir, "joint"))[0]
    assert f"joint: stopped at step {step}, which is saved" in output and step < 12
    status, output = finish(start_command(command(workdir, plates, **fields), devices=2))
    assert status == 0, output
    assert f"joint: resumed at step {step} of 12" in output and "joint 12/12" in output
    assert "psi: " not in output and "diffusion: " not in output
    assert (workdir / "eval" / "report.md").is_file()
    before, after = (
        Restorer.load(stage_directory(workdir, stage) / number).variables
        for stage, number in (("diffusion", "6"), ("joint", "12"))
    )
    for name in ("condition", "denoiser", "reader"):
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before[name], after[name])
        assert 0 < max(jax.tree.leaves(moved)) < 0.1, name
    assert jax.tree.all(jax.tree.map(np.array_equal, before["sketch"], after["sketch"]))
    sketch = Restorer.load(stage_directory(workdir, "sketch") / "6")
    assert not sketch.draws_vary
    assert jax.tree.all(jax.tree.map(np.array_equal, sketch.variables["sketch"], after["sketch"]))
    restorer = Restorer.load(workdir)
    assert restorer.draws_vary and restorer.image_size == (8, 16)
    assert jax.tree.all(jax.tree.map(np.array_equal, restorer.variables, after))


def test_joint_fine_tuning_stopped_and_resumed_is_the_same(plates, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.METHODS, "lpdiff", small_model)
    fields = {"joint.steps": 6, "joint.batch_size": 8}
    config = tiny_config(plates, stages=STAGES, **fields)
    expected = train(config, tmp_path / "alone")
    answers = iter([False] * 17 + [True])  # 7 questions a stage
    monkeypatch.setattr(devices.StopRequest, "received", lambda self: next(answers, False))
    with pytest.raises(Preempted, match="joint: stopped at step 3"):
        train(config, tmp_path / "stopped")
    found = train(config, tmp_path / "stopped")
    assert jax.tree.all(jax.tree.map(np.array_equal, found, expected))


@pytest.mark.slow
@pytest.mark.parametrize("config", [quickstart, compact, pretrained, lpdiff, released])
def test_every_configuration_trains_a_few_steps(config, plates, tmp_path, capsys):
    config = config.get_config()
    config.data.root = str(plates)
    config.sheet_plates = 0
    config.update(log_every=1, validation_batches=1)
    for name in config.stages:
        config[name].update(steps=2, batch_size=2)
    train(config, tmp_path)
    printed = capsys.readouterr().out
    for name in config.stages:
        assert f"{name} 2/2  loss" in printed
        assert (tmp_path / "checkpoints" / name / "2").is_dir()

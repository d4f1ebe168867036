"""What a person sees of a run: numbers, pictures, and what went wrong."""

import dataclasses
import importlib.util
import json
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from clu.metrics import Average
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from lpdiff_jax.errors import UserError
from lpdiff_jax.methods import registry
from lpdiff_jax.methods.base import Stage
from lpdiff_jax.methods.lpdiff import stages
from lpdiff_jax.storage.checkpoint import saved_steps, stage_directory
from lpdiff_jax.training import loop, writer
from lpdiff_jax.training.flops import flops_per_example
from lpdiff_jax.training.progress import NotFinite, Progress, duration
from lpdiff_jax.training.step import Report
from tests.training.small_model import small_model
from tests.training.tiny import tiny_config

STAGE = Stage("plain", ("net",), lambda *_: None, ("net",))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(registry.METHODS, "lpdiff", small_model)


def read_events(directory) -> dict[str, list]:
    """The values of every tag in the event files of a directory."""
    values: dict[str, list] = {}
    for path in directory.glob("events*"):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                values.setdefault(value.tag, []).append((event.step, value))
    return values


def test_everything_is_written(small, plates, tmp_path):
    config = tiny_config(plates, **{"peak_tflops": 1e-3})
    loop.train(config, tmp_path)
    events = read_events(tmp_path / "logs")
    for stage in ("psi", "diffusion"):
        for name in (
            "loss", "gradient_norm", "learning_rate", "steps_per_second", "examples_per_second",
            "data_wait_share", "mfu", "val_loss", "psnr",
        ):  # fmt: skip
            numbers = [value.simple_value for _, value in events[f"{stage}/{name}"]]
            assert np.isfinite(numbers).all(), name
        assert numbers[-1] > 0
        assert [step for step, _ in events[f"{stage}/loss"]] == [2, 4, 6]
        assert f"{stage}/plates" in events
        assert f"{stage}/parameters/text_summary" in events
        with Image.open(tmp_path / "logs" / "sheets" / f"{stage}-0000006.png") as sheet:
            assert sheet.size == (16 * (4 if stage == "psi" else 5), 8 * 2)
    assert any(tag.startswith("diffusion/loss_level_") for tag in events)
    assert not any(tag.startswith("psi/loss_level_") for tag in events)


def test_a_loss_that_is_not_finite_stops_the_run(small, plates, tmp_path, monkeypatch):
    """From step 5 on the loss is not a number; step 4 was saved, and nothing after it."""
    make_stage = stages.make_stage

    def poisoned(name, model, config):
        stage = make_stage(name, model, config)

        def loss(variables, batch, key, train):
            value, metrics, stats = stage.loss(variables, batch, key, train)
            bad = jnp.any(batch["index"] == 7) & train
            return jnp.where(bad, jnp.nan, value), metrics, stats

        return dataclasses.replace(stage, loss=loss)

    monkeypatch.setattr(stages, "make_stage", poisoned)
    config = tiny_config(plates, **{"psi.batch_size": 1, "psi.steps": 30, "checkpoint_every": 1})
    with pytest.raises(UserError, match="the loss or its gradient is not finite"):
        loop.train(config, tmp_path)
    (report,) = tmp_path.glob("not-finite-psi-*.json")
    found = json.loads(report.read_text())
    assert found["index"] == [7] and len(found["names"]) == 1
    directory = stage_directory(tmp_path, "psi")
    assert max(saved_steps(directory), default=0) == found["step"] - 1


def test_progress_finds_the_first_bad_step_and_its_examples():
    progress = Progress(STAGE, 10, 2, writer.SilentWriter(), first_step=4)
    for finite in (True, False, False):
        step = len(progress._pending) + 5
        loss = Average(total=jnp.asarray(step), count=jnp.asarray(1.0))
        progress.add(Report({"loss": loss}, jnp.asarray(finite)), np.array([step]))
    with pytest.raises(NotFinite) as caught:
        progress.settle()
    assert (caught.value.step, caught.value.index) == (6, [6])


def test_a_stage_shows_what_it_watches_and_no_more(capsys):
    """A metric that no sample of these steps counted for is left out."""
    stage = dataclasses.replace(STAGE, watch=("loss", "level", "never"))
    progress = Progress(stage, 10, 2, writer.SilentWriter(), first_step=0)
    for total, count in ((1.0, 0.25), (3.0, 0.75)):
        averages = {
            "loss": Average(total=total, count=1.0),
            "level": Average(total=total, count=count),
            "never": Average(total=0.0, count=0.0),
        }
        progress.add(Report(averages, True), np.array([0]))
    assert progress.report({})["level"] == 4.0
    assert "plain 2/10  loss 2  level 4" in capsys.readouterr().out


def test_training_counts_three_times_the_forward_pass_and_grows_with_the_frames():
    config = tiny_config()
    stage = stages.make_stage("diffusion", small_model(), config)
    flops = flops_per_example(small_model(), stage, config.diffusion, 2)
    # The denoiser's two 1x1 convolutions alone, forward and twice that backward.
    assert flops > 2 * 8 * 16 * (7 * 6 + 6 * 3) * 2.5


def test_durations():
    assert [duration(s) for s in (0, 61, 3661)] == ["0:00", "1:01", "1:01:01"]


def test_a_full_disk_is_told_by_the_writer():
    full = writer.EventWriter.__new__(writer.EventWriter)
    full._directory = "logs"
    with pytest.raises(UserError, match="logs cannot be written"), full._explained():
        raise OSError(28, "No space left on device")


def test_a_profile_is_written_on_request(small, plates, tmp_path):
    config = tiny_config(plates, **{"profile.first": 1, "profile.steps": 2, "stages": ("psi",)})
    loop.train(config, tmp_path)
    assert list((tmp_path / "logs" / "profile-psi").rglob("*.xplane.pb"))


def test_clus_writers_are_used_where_tensorflow_is(tmp_path, monkeypatch):
    hidden, made = [], []
    config = types.SimpleNamespace(set_visible_devices=lambda *args: hidden.append(args))
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(config=config))
    writers = types.ModuleType("clu.metric_writers")
    writers.SummaryWriter = lambda directory: made.append(directory) or "summaries"
    writers.AsyncWriter = lambda inner: (inner, "in the background")
    monkeypatch.setitem(sys.modules, "clu.metric_writers", writers)
    monkeypatch.setattr("clu.metric_writers", writers, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert writer.event_writer(tmp_path) == ("summaries", "in the background")
    assert made == [str(tmp_path)] and hidden == [([], "GPU")]

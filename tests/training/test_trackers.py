"""W&B against a module that records what it is told, and against the real one where installed."""

import importlib.util
import sys
import types

import numpy as np
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.training.trackers import make_tracker, make_writer
from lpdiff_jax.training.writer import EventWriter, Tee, closing

PICTURE = np.zeros((1, 4, 8, 3), np.uint8)


class Recorder:
    """A run that keeps every call: (method, arguments, keywords)."""

    def __init__(self, *args, **keywords):
        self.calls, self.summary = [("init", args, keywords)], {}

    def __getattr__(self, name):
        return lambda *args, **keywords: self.calls.append((name, args, keywords))

    def named(self, name):
        return [(args, keywords) for called, args, keywords in self.calls if called == name]


@pytest.fixture
def runs(monkeypatch):
    """Runs that the false `wandb` began."""
    begun = []

    def begin(*args, **keywords):
        begun.append(Recorder(*args, **keywords))
        return begun[-1]

    wandb = types.SimpleNamespace(init=begin, Image=lambda x: ("image", x.shape))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return begun


def write_two_stages(writer):
    writer.write_texts(0, {"psi/parameters": "a table"})
    writer.write_scalars(10, {"psi/loss": 0.5, "psi/rate": 1e-3})
    writer.write_images(10, {"psi/plates": PICTURE})
    writer.write_scalars(5, {"diffusion/loss": np.float32(0.25)})
    writer.flush()
    writer.close()


def test_wandb_gets_an_axis_for_each_stage(runs, tmp_path):
    directory = tmp_path / "my-run" / "logs"
    write_two_stages(make_tracker("wandb", directory, {"seed": 0}))
    (run,) = runs
    begun = run.named("init")[0][1]
    assert begun["name"] == "my-run" and begun["config"] == {"seed": 0}
    axes = [(args[0], keywords["step_metric"]) for args, keywords in run.named("define_metric")]
    assert axes == [("psi/*", "psi/step"), ("diffusion/*", "diffusion/step")]
    logged = [args[0] for args, _ in run.named("log")]
    assert logged == [
        {"psi/loss": 0.5, "psi/rate": 1e-3, "psi/step": 10},
        {"psi/plates": [("image", (4, 8, 3))], "psi/step": 10},
        {"diffusion/loss": 0.25, "diffusion/step": 5},
    ]
    assert len(run.named("finish")) == 1 and run.summary == {"psi/parameters": "a table"}


def test_a_training_that_goes_on_continues_its_run(runs, tmp_path):
    for _ in range(2):
        make_tracker("wandb", tmp_path / "logs", {}).close()
    first, second = (run.named("init")[0][1] for run in runs)
    assert first["id"] == second["id"] and second["resume"] == "allow"


def test_a_tracker_stands_beside_tensorboard(runs, tmp_path):
    with closing(make_writer(tmp_path / "logs", "wandb", {"seed": 0})) as writer:
        assert isinstance(writer, Tee)
        writer.write_scalars(1, {"psi/loss": 2.0})
    assert runs[0].named("log") == [(({"psi/loss": 2.0, "psi/step": 1},), {})]
    events = [path for path in (tmp_path / "logs").iterdir() if ".tfevents." in path.name]
    assert b"psi/loss" in events[0].read_bytes()


def test_all_are_closed_though_one_fails(runs, tmp_path):
    class Failing(EventWriter):
        def close(self):
            super().close()
            raise UserError("the disk is full")

    tracker = make_tracker("wandb", tmp_path / "logs", {})
    with pytest.raises(UserError, match="the disk is full"):
        Tee((tracker, Failing(tmp_path / "logs"))).close()
    assert len(runs[0].named("finish")) == 1


def test_mistakes_are_told(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"config\.tracker is 'mlflow'; choose of '' \(none\)"):
        make_writer(tmp_path, "mlflow")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"not installed: pip install 'lpdiff-jax\[wandb\]'"):
        make_writer(tmp_path, "wandb")

    def refuse(**_):
        raise OSError("api_key not configured")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=refuse))
    with pytest.raises(UserError, match="wandb does not start: api_key not configured"):
        make_writer(tmp_path, "wandb")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
@pytest.mark.filterwarnings("default")  # its own are not ours to mend
def test_the_real_one_takes_it_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for _ in range(2):
        write_two_stages(make_tracker("wandb", tmp_path / "logs", {"model": {"size": (1, 2)}}))
    assert len(list((tmp_path / "logs/wandb").glob("offline-run-*/*.wandb"))) == 2

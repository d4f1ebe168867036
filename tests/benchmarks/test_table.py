"""The table of all systems, at the smallest size: it trains, judges, and repeats nothing."""

import json
import shutil

import pytest
from ml_collections import ConfigDict

from benchmarks.studies import study, systems, table
from configs import pretrained
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.judges import Judges
from tests.methods.baselines import tiny
from tests.training.tiny import tiny_config

TINY = {"SRCNN": lambda: tiny("srcnn"), systems.LPDIFF: tiny_config}


@pytest.fixture
def asked(plates, tmp_path, monkeypatch):
    """Makes the arguments; systems, their costs, their data and the judges are small ones."""
    monkeypatch.setattr(systems, "SYSTEMS", TINY)
    monkeypatch.setattr(systems, "step_costs", lambda config: dict.fromkeys(config.stages, 0.5))
    monkeypatch.setattr(table, "judges", Judges)
    # Nothing is drawn.
    data = pretrained.get_config().data
    data.sources = {"plates": {"kind": "root", "path": str(plates)}}
    monkeypatch.setattr(pretrained, "get_config", lambda pictures: ConfigDict({"data": data}))
    monkeypatch.setattr(table, "VALIDATION", 2)

    def make(*words, names=("SRCNN",)):
        given = ["--workdir", str(tmp_path), "--budget", "2", "--batch-size", "2"]
        given += ["--synthetic", str(plates), "--real", str(plates), *words]
        args = table.make_parser().parse_args(given)
        args.only = [*names]
        return args

    return make


def first_cells(part):
    return [line.split(" | ")[0].strip("| ") for line in part.splitlines()]


def test_it_trains_judges_and_goes_on(asked, tmp_path, monkeypatch):
    text = table.run(asked())
    top = tmp_path / "2-tflop"
    assert (top / "table.md").read_text() == text
    costs, drawn, real = (part for part in text.split("\n\n") if part.startswith("|"))
    assert "| SRCNN | 0.00 M | " in costs and "| 4 | 2 |" in costs
    assert first_cells(drawn)[-3:] == ["best frame", "mean of frames", "SRCNN"]
    assert drawn == real.strip()  # the same set, given twice
    assert "PSNR" in drawn.splitlines()[0] and " [" in drawn.splitlines()[-1]
    log = (top / "log.txt").read_text()
    assert "training SRCNN; left: 1 of 1 tasks, 2 TFLOP" in log
    assert log.count("judging synthetic; left: ") == 1
    # Everything is there: nothing is done again. What a kill has lost is.
    shutil.rmtree(top / "restored" / "real" / "SRCNN")
    (top / "judged" / "real" / "report.json").unlink()
    monkeypatch.setattr(study, "train", None)
    assert table.run(asked()) == text
    repeated = (top / "log.txt").read_text().removeprefix(log).splitlines()
    again = ["restoring real by SRCNN", "judging real"]
    assert [line.split("; left")[0][20:] for line in repeated] == again
    with pytest.raises(UserError, match=r"rate = 1.0; give the same"):
        table.run(asked("--rate", "3"))


@pytest.mark.slow
def test_lpdiff_has_rows_of_its_own(asked):
    text = table.run(asked(names=("SRCNN", systems.LPDIFF)))
    costs, drawn, _ = (part for part in text.split("\n\n") if part.startswith("|"))
    assert first_cells(costs)[-3:] == [systems.LPDIFF, table.PSI, table.HEAD]
    assert "| 2 + 2 | 2 |" in costs  # two stages, 2 TFLOP
    # Without a recogniser the reading head has the only reading.
    assert first_cells(drawn)[-4:] == ["SRCNN", table.PSI, table.HEAD, systems.LPDIFF]


def test_rows_have_the_names_and_figures_of_the_table():
    figure = {"mean": 0.5, "low": 0.25, "high": 0.75, "count": 4}
    row = {"images": 4, "figures": {"psnr": figure, "acc": figure, "ece": figure}}
    named = ("ground truth", "frame 1", "best frame", "psi", "restored", "reading head", "HAT")
    text = table.figures({"rows": dict.fromkeys(named, row)}, ["HAT", systems.LPDIFF])
    titles = ["ground truth", "best frame", "HAT", table.PSI, table.HEAD, systems.LPDIFF]
    assert first_cells(text)[2:] == titles
    assert text.splitlines()[0] == "| row | PSNR | ACC |"
    assert text.endswith("| 0.50 [0.25, 0.75] | 0.500 [0.250, 0.750] |")
    assert table.PSI not in table.figures({"rows": dict.fromkeys(named, row)}, ["HAT"])


def test_a_divergence_is_a_line_below_the_table(asked, tmp_path, monkeypatch):
    def diverges(config, workdir):
        workdir.mkdir(exist_ok=True)
        (workdir / "not-finite-x-1-process-0.json").write_text("{}")
        raise UserError("the loss is not finite")

    monkeypatch.setattr(study, "train", diverges)
    text = table.run(asked())
    assert "SRCNN: the loss is not finite" in text
    assert "| SRCNN" not in text
    facts = json.loads((tmp_path / "2-tflop/systems/SRCNN/training.json").read_text())
    assert facts["failed"] == "the loss is not finite"


@pytest.mark.parametrize("name", systems.DEFAULT)
def test_the_budget_is_what_all_stages_cost_together(name):
    config = systems.configure(
        name, pictures="", validation="set", seed=3, batch_size=8, rate=2.0, most=4
    )
    assert config.seed == 3 and config.data.root == "set"
    assert config.data.sources == pretrained.get_config("").data.sources
    assert config.get("sampler", {"steps": 1})["steps"] <= 4
    before = {stage: config[stage].steps for stage in config.stages}
    costs = {stage: 0.01 * (1 + i) for i, stage in enumerate(config.stages)}
    systems.fit(config, costs, 30.0)
    assert systems.training_cost(config, costs) == pytest.approx(30.0, rel=0.01)
    shares = {config[stage].steps / before[stage] for stage in config.stages}
    assert max(shares) == pytest.approx(min(shares), rel=0.01)
    for stage in config.stages:
        assert config[stage].warmup_steps <= config[stage].steps / 10
        assert config[stage].ema_decay <= 1 - 10 / config[stage].steps
    assert config.checkpoint_every <= max(config[s].steps for s in config.stages)


def test_three_frames_are_a_choice_of_every_single_image_system():
    for name in systems.SINGLE:
        assert systems.SYSTEMS[name]().model.frames == "nearest"
        assert systems.SYSTEMS[f"{name}, 3 frames"]().model.frames == "stacked"

"""Thousands of hostile and broken inputs: none ends in a traceback, a hang or a full memory.

A few of each kind in every run; `pytest -m slow tests/fuzz` takes minutes. docs/reliability.md has
the figures. An input that fails is shrunk by hypothesis, printed, and the same in every run.
"""

import shutil
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz import data, harness, models, readers, restoring

# Name -> (inputs, what makes a call of one of them in a folder).
TARGETS = {
    "state dicts of .pth files": (models.state_cases, models.pth_state),
    "bytes of .pth files": (models.byte_edits, models.pth_bytes),
    "pickles": (models.pickle_cases, models.pickles),
    "model directories": (models.directory_cases, models.model_directory),
    "work directories": (models.config_cases, models.work_directory),
    "readers in ONNX": (readers.reader_cases, readers.reader),
    **data.TARGETS,
    **restoring.TARGETS,
}
QUICK, MANY = 6, 150


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch):
    """Compiled programs are kept in the user's own folder, which is not the output."""
    monkeypatch.setenv("LPDIFF_COMPILATION_CACHE", "off")


@pytest.mark.parametrize("name", TARGETS)
def test_some_inputs(name, tmp_path):
    fuzz(name, QUICK, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_inputs(name, tmp_path, capsys):
    outcomes = fuzz(name, MANY, tmp_path)
    seconds, megabytes = max(o.seconds for o in outcomes), max(o.megabytes for o in outcomes)
    refused = sum(bool(outcome.message) for outcome in outcomes)
    with capsys.disabled():
        print(
            f"\n{name}: {len(outcomes)} inputs, {refused} refused by an exception with a sentence, "
            f"the slowest {seconds:.1f} s, the largest {megabytes:.0f} MB"
        )


def fuzz(name: str, count: int, folder: Path) -> list[harness.Outcome]:
    """Tries a number of inputs."""
    inputs, prepare = TARGETS[name]
    outcomes: list[harness.Outcome] = []

    @hypothesis.seed(20)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def check(case):
        inside = folder / "in"
        shutil.rmtree(inside, ignore_errors=True)
        inside.mkdir()
        output = folder / "out"
        output.mkdir(exist_ok=True)
        outcome = harness.run(prepare(case, inside), output)
        outcomes.append(outcome)
        assert not outcome.broken, outcome.broken

    check()
    return outcomes

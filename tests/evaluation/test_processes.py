"""Each plate counts exactly once: on one device, on eight, and on two processes of two."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_pipeline.sources import open_source
from lpdiff_jax.evaluation.evaluate import Options, evaluate
from lpdiff_jax.evaluation.judges import Judges
from lpdiff_jax.methods.lpdiff.model import Estimate

GROUPS = 11
PROGRAM = Path(__file__).parent / "evaluate_tree.py"


@pytest.fixture
def groups():
    return GROUPS


def start(root, out, devices, *arguments):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(PROGRAM), str(root), str(out), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-3000:]


def read(out):
    report = json.loads((out / "report.json").read_text())
    del report["seconds"]
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    return report, records


def flat(node, path=""):
    """{path: number or text} of nested data."""
    if isinstance(node, dict | list | tuple):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        return {k: v for key, value in items for k, v in flat(value, f"{path}/{key}").items()}
    return {path: node}


def assert_alike(found, expected):
    """The same, but for the last digits of sums over batches of another size."""
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        close = pytest.approx(value, rel=1e-5, abs=1e-6) if isinstance(value, float) else value
        assert found[place] == close, place


def test_one_device_eight_and_two_processes(tree, tmp_path):
    runs = {name: tmp_path / name for name in ("one", "eight", "several")}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    finish(start(tree, runs["one"], 1), start(tree, runs["eight"], 8))
    finish(*(start(tree, runs["several"], 2, port, 2, i) for i in range(2)))
    report, records = read(runs["one"])
    assert report["plates"] == GROUPS
    assert [record["position"] for record in records] == list(range(GROUPS))
    assert report["rows"]["restored"]["figures"]["fid"]["count"] == GROUPS
    for name in ("eight", "several"):
        assert_alike(flat(read(runs[name])), flat((report, records)))
        assert not (runs[name] / "parts").exists()


class Stops:
    """psi is the last frame; the estimate after the first `most` raises an error."""

    image_size = (24, 48)
    method = SimpleNamespace(first_picture="psi", slot_reader=None)

    def __init__(self, most, error):
        self.calls, self.most, self.error = 0, most, error

    def estimate(self, frames, mask=None):
        self.calls += 1
        if self.calls > self.most:
            raise self.error
        return Estimate(frames[:, 0], None, frames[:, 0])

    def draw(self, estimate, **_):
        return estimate.guide[:, None]


def test_what_was_computed_before_a_crash_is_kept(tree, tmp_path, grey_reader):
    options = Options(image_size=(24, 48), batch_size=4)
    source = open_source(tree, "val")
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(
            Stops(2, RuntimeError("out of memory")),
            source,
            tmp_path,
            judges=Judges(grey_reader),
            options=options,
        )
    kept = (tmp_path / "parts/records-0.jsonl").read_text().splitlines()
    names = [record["name"] for line in kept for record in json.loads(line)]
    assert names == [f"{k:02d}" for k in range(8)]


@pytest.mark.parametrize("same", [True, False])
def test_an_evaluation_that_was_interrupted_goes_on(same, tree, tmp_path):
    """The plates that are recorded are not restored again; those of other weights are."""

    def mean_colours(images):
        return images.mean((1, 2))

    judges = Judges(features=mean_colours)
    options, source = Options(image_size=(24, 48), batch_size=4), open_source(tree, "val")
    how = {"judges": judges, "options": options}
    whole, batches = Stops(99, KeyboardInterrupt()), -(-GROUPS // 4)
    expected = evaluate(whole, source, tmp_path / "whole", **how)
    assert whole.calls == batches
    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        evaluate(Stops(2, KeyboardInterrupt()), source, out, identity="a", **how)
    with (out / "parts/records-0.jsonl").open("a") as file:
        file.write('[{"position": 9')  # a kill in the middle of a line
    rest = Stops(99, KeyboardInterrupt())
    found = evaluate(rest, source, out, identity="a" if same else "b", **how)
    assert rest.calls == (batches - 2 if same else batches)
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}
    assert not (out / "parts").exists()

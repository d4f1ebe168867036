"""The evaluation end to end, with a model and a reader whose results are known beforehand."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from data_pipeline.sources import open_source
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.evaluate import Options, evaluate
from lpdiff_jax.evaluation.judges import Judges, load_judges
from lpdiff_jax.evaluation.report import tables

GROUPS = 5


def small(**options):
    """Options that judge at the size of the model of these tests."""
    return Options(image_size=(24, 48), **{"batch_size": 4} | options)


@pytest.fixture
def source(tree):
    return open_source(tree, "val")


def test_rows_and_figures(source, tmp_path, grey_restorer, grey_reader):
    out = tmp_path / "eval"
    report = evaluate(
        grey_restorer,
        source,
        out,
        judges=Judges(grey_reader),
        options=small(batch_size=2, samples=3),
    )
    assert list(report["rows"]) == [
        "ground truth",
        "frame 1",
        "frame 2",
        "frame 3",
        "best frame",
        "mean of frames",
        "frames, voted",
        "psi",
        "restored",
        "restored, 3 samples voted",
    ]
    assert [report["rows"][f"frame {k}"]["images"] for k in (1, 2, 3)] == [5, 3, 1]
    assert report["plates"] == report["labelled"] == GROUPS
    assert not report["problems"]
    assert figure(report, "ground truth", "acc") == 1
    assert figure(report, "ground truth", "ned") == 0
    # The restored plates are black, which is the ground truth of plate 0 alone.
    assert figure(report, "restored", "acc") == pytest.approx(1 / GROUPS)
    expected = [100, *(20 * np.log10(255 / (10 * k)) for k in range(1, GROUPS))]
    assert figure(report, "restored", "psnr") == pytest.approx(np.mean(expected))
    difference = report["rows"]["restored"]["difference"]["acc"]
    assert difference["mean"] == pytest.approx(1 / GROUPS - 1)
    assert difference["low"] <= difference["mean"] <= difference["high"]


def figure(report, row, name):
    return report["rows"][row]["figures"][name]["mean"]


def test_files(source, tmp_path, grey_restorer, grey_reader):
    out = tmp_path / "eval"
    report = evaluate(grey_restorer, source, out, judges=Judges(grey_reader), options=small())
    assert json.loads((out / "report.json").read_text()) == report
    text = (out / "report.md").read_text()
    assert "| restored | 5 |" in text
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert [record["name"] for record in records] == [f"{k:02d}" for k in range(GROUPS)]
    assert records[3]["rows"]["restored"]["reading"] == "京A0"
    height, width = np.asarray(Image.open(out / "contact_sheet.png")).shape[:2]
    assert (height, width) == (24 + GROUPS * 28, 6 * 52)
    assert "restored" in tables.format_table(report)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_every_plate_counts_once_whatever_the_batch(source, tmp_path, grey_restorer, batch_size):
    report = evaluate(grey_restorer, source, tmp_path, options=small(batch_size=batch_size))
    assert report["rows"]["restored"]["images"] == GROUPS
    expected = [100, *(20 * np.log10(255 / (10 * k)) for k in range(1, GROUPS))]
    assert figure(report, "restored", "psnr") == pytest.approx(np.mean(expected))


def test_without_reader_and_without_model(source, tmp_path):
    judges = load_judges(("reader", "fid"), tmp_path / "empty")
    report = evaluate(None, source, tmp_path, judges=judges, options=small())
    assert "restored" not in report["rows"]
    assert not report["rows"]["ground truth"]["figures"]
    # A cell without its judge stays empty, and the report says how to fill it.
    for name, note in zip(("reader", "fid"), report["notes"], strict=True):
        assert f"lpdiff fetch-weights {name}" in note
    assert not {"fid", "acc"} & set(report["rows"]["frame 1"]["figures"])


def test_limit(source, tmp_path):
    assert evaluate(None, source, tmp_path, options=small(limit=2))["plates"] == 2


def test_a_damaged_image_is_named_and_the_rest_is_judged(tree, tmp_path, grey_reader):
    damaged = tree / "val/gt/02/img_9.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    (tree / "val/inputs/03/img_0.png").write_bytes(b"")
    source = open_source(tree, "val")
    report = evaluate(None, source, tmp_path, judges=Judges(grey_reader), options=small())
    assert report["plates"] == GROUPS - 2
    assert ["'02'" in p or "'03'" in p for p in report["problems"]] == [True, True]
    assert "## Problems" in (tmp_path / "report.md").read_text()


def test_unlabelled_plates_are_counted(tree, tmp_path, grey_reader):
    (tree / "labels.json").write_text(json.dumps({"00": "京A0"}))
    source = open_source(tree, "val")
    report = evaluate(None, source, tmp_path, judges=Judges(grey_reader), options=small())
    assert report["labelled"] == 1
    assert report["rows"]["ground truth"]["figures"]["acc"]["count"] == 1
    assert "4 plates that have no text" in report["notes"][0]


def test_nothing_to_judge(tree, tmp_path):
    shutil.rmtree(tree / "val/gt")
    with pytest.raises(UserError, match="no ground truth"):
        evaluate(None, open_source(tree, "val"), tmp_path, options=small())

"""The page, other methods' folders, what is said about the data, and the sweep over frames."""

import json
import re
import shutil
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from data_pipeline.errors import DataError
from data_pipeline.sources import open_source
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation import data_checks, rows
from lpdiff_jax.evaluation.evaluate import Options, evaluate
from lpdiff_jax.evaluation.judges import Judges, load_judges
from lpdiff_jax.evaluation.other_methods import Folder
from lpdiff_jax.evaluation.report import charts, html
from lpdiff_jax.evaluation.report.plate_pictures import worst_first
from lpdiff_jax.evaluation.run import evaluate_sets, is_named, parse_sets


def test_a_chart_as_a_file_needs_nothing_else():
    lines = {"one & only": [(0.0, 0.2, 5), (1.0, 0.9, 5)]}
    chart = charts.standalone(charts.line_chart("a < b", "x", lines, (0.0, 1.0)))
    root = ElementTree.fromstring(chart)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert charts.STYLE in [element.text for element in root]


def judged(tree, out, reader, restorer=None, **options):
    small = Options(image_size=(24, 48), batch_size=4, **options)
    return evaluate(restorer, open_source(tree, "val"), out, judges=Judges(reader), options=small)


def test_page_is_self_contained_and_lists_the_worst_first(
    tree, tmp_path, grey_reader, grey_restorer
):
    judged(tree, tmp_path, grey_reader, grey_restorer)
    page = (tmp_path / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("<svg") == 2
    assert page.count("data:image/jpeg;base64,") == sum(1 + k % 3 for k in range(5)) + 3 * 5
    # The restored plates are black, so plate 0 alone is read right.
    assert page.index("<td>04</td>") < page.index("<td>00</td>")
    assert "generated" in page


def test_page_escapes_what_a_file_says(tree, tmp_path, grey_reader):
    for place in ("inputs", "gt"):
        (tree / "val" / place / "00").rename(tree / "val" / place / "<script>alert(1)")
    judged(tree, tmp_path, grey_reader)
    assert "&lt;script&gt;alert(1)" in (tmp_path / "report.html").read_text()
    assert "<script>alert" not in (tmp_path / "report.html").read_text()


def test_page_has_a_limit(tree, tmp_path, grey_reader, monkeypatch):
    monkeypatch.setattr(html, "MAX_PLATES", 2)
    judged(tree, tmp_path, grey_reader)
    assert "2 of 5 plates" in (tmp_path / "report.html").read_text()


def test_names_cannot_lead_out_of_the_folder(tmp_path):
    assert rows.image_path(tmp_path, "psi", "../../x").parent == tmp_path / "psi"


def test_worst_first_goes_by_the_image_where_nothing_is_read():
    def record(psnr):
        return {"rows": {"psi": {"psnr": psnr}}}

    assert worst_first([record(20.0), record(10.0)])[0] == record(10.0)


@pytest.mark.parametrize("layout", ["{}.png", "restored/{}.png", "{}/any.png"])
def test_another_method(tree, tmp_path, grey_reader, layout):
    for k in (0, 1, 3):
        path = tmp_path / "other" / layout.format(f"{k:02d}")
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((9, 9, 3), 10 * k, np.uint8))
    (tmp_path / "other" / layout.format("03")).write_bytes(b"damaged")
    folder = Folder.parse(f"other={tmp_path / 'other'}")
    report = judged(tree, tmp_path / "out", grey_reader, compare=(folder,))
    assert list(report["rows"])[-1] == "other"
    row = report["rows"]["other"]
    assert row["images"] == 2
    assert row["figures"]["acc"]["mean"] == 1
    # A plate that the folder lacks does not count against it in the paired difference either.
    assert row["difference"]["acc"]["count"] == 2
    assert len(report["problems"]) == 3
    for name, problem in zip(("'02'", "/03", "'04'"), report["problems"], strict=True):
        assert name in problem


def test_two_images_for_one_plate_are_a_problem(tmp_path):
    for suffix in (".png", ".jpg"):
        (tmp_path / f"00{suffix}").write_bytes(b"x")
    problems = [[]]
    images = Folder("other", tmp_path).read(["00"], (8, 8), problems)
    assert not images.present[0]
    assert "2 images" in problems[0][0]


@pytest.mark.parametrize(
    "argument",
    ["SRCNN", "=x", "SRCNN=/nowhere/at/all", "SRCNN=gs://bucket", "psi=/tmp", "Frame 2=/tmp"],
)
def test_a_wrong_comparison_is_refused(argument):
    message = r"NAME=DIR|no such folder|this machine alone|is a row of every table"
    with pytest.raises((UserError, DataError), match=message):
        Folder.parse(argument)


def test_sweep_over_the_number_of_frames(tree, tmp_path, grey_reader, grey_restorer):
    report = judged(tree, tmp_path, grey_reader, grey_restorer, sweep=(1, 2, 3))
    counts = {k: table["restored"]["images"] for k, table in report["sweep"].items()}
    assert counts == {"1": 5, "2": 3, "3": 1}
    assert list(report["sweep"]["2"])[:3] == ["ground truth", "frame 1", "frame 2"]
    with pytest.raises(UserError, match="sweep"):
        Options(sweep=(6,))


def test_nearest_frames_are_the_last_ones():
    frames = np.arange(6).reshape(2, 3, 1, 1, 1).astype(np.uint8)
    batch = {"frames": frames, "frame_mask": np.array([[1, 1, 1], [1, 0, 0]], bool)}
    fewer = rows.with_nearest_frames(batch, 2)
    assert fewer["frames"][0].ravel().tolist() == [1, 2]
    assert fewer["enough"].tolist() == [True, False]


def test_plates_of_training_are_told(tree):
    shutil.copytree(tree / "val/inputs/01", tree / "train/inputs/a1")
    shutil.copytree(tree / "val/gt/01", tree / "train/gt/a1")
    labels = json.loads((tree / "labels.json").read_text())
    (tree / "labels.json").write_text(json.dumps(labels | {"a1": "京A1"}))
    (warning,) = data_checks.seen_in_training(tree, "val", tree)
    assert "1 of 5" in warning
    assert "京A1" in warning
    assert "trained on" in data_checks.seen_in_training(tree, "train", tree)[0]
    assert data_checks.seen_in_training(tree, "val", tree / "nothing") == []


def test_bad_groups_and_stray_labels_are_listed(tree):
    shutil.rmtree(tree / "val/gt/01")
    labels = json.loads((tree / "labels.json").read_text())
    (tree / "labels.json").write_text(json.dumps(labels | {"99": "京A99"}))
    problems = " ".join(data_checks.group_problems(tree, "val"))
    assert "01" in problems
    assert "99" in problems


def test_an_unknown_judge():
    with pytest.raises(UserError, match="no such judge: musiq"):
        load_judges(("musiq",))


def test_several_sets_have_a_report_each_and_one_table(
    tree, tmp_path, grey_reader, grey_restorer, capsys
):
    config = ConfigDict(
        {
            "data": {"num_frames": 3, "root": ""},
            "eval": {"batch_size": 4, "limit": 0, "image_size": (24, 48)},
        }
    )
    sets = parse_sets([str(tree), f"twice={tree}"])
    out = tmp_path / "eval"
    evaluate_sets(
        config, tmp_path, sets, model=grey_restorer, output=out, judges=Judges(grey_reader)
    )
    for name in ("mdlp", "twice"):
        assert (out / name / "report.html").is_file()
    # Of five plates the restored ones show one.
    line = re.search(r"\| twice \| 5 \|.*", (out / "overview.md").read_text())
    assert line and line[0].split("|")[-2].strip().startswith("0.200 [")
    assert "read right, without the province" in capsys.readouterr().out


def test_one_set_may_have_a_name(tmp_path):
    folder = tmp_path / "a=b"
    folder.mkdir()
    assert is_named([f"val={tmp_path}"])
    assert not is_named([str(folder)]) and not is_named([])


@pytest.mark.parametrize("arguments", [["a/x", "b/x"], ["=x"], ["a/b=x"], [".=x"]])
def test_names_of_sets(arguments):
    with pytest.raises(UserError, match="--data"):
        parse_sets(arguments)

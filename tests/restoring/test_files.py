"""`lpdiff restore` from files to files, with a small untrained model."""

import csv
import json
import multiprocessing
import os
import shutil
import signal

import cv2
import numpy as np
import pytest
from PIL import Image

from lpdiff_jax import cli
from lpdiff_jax.restoring.output import locked
from tests.restoring.scenes import plate, street, write_video
from tests.restoring.tiny_model import SIZE, save_tiny_model, write_plates


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def plates(tmp_path):
    return write_plates(tmp_path / "plates", one=1, three=3)


def restore(model, plates, output, *options):
    return cli.main(
        ["restore", str(plates), "--output", str(output), "--model", str(model), *options]
    )


def results(output):
    return json.loads((output / "restore.json").read_text(encoding="utf-8"))


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_plate_gets_its_pictures(model, plates, tmp_path):
    output = tmp_path / "out"
    assert restore(model, plates, output, "--samples", "2", "--native") == 0
    restored = sorted(path.name for path in (output / "restored").iterdir())
    assert restored == ["one.png", "one~2.png", "three.png", "three~2.png"]
    # Four times the model's pixels, and a strip that says what they are.
    image = cv2.imread(str(output / "restored/one.png"))
    assert image.shape[1] == 4 * SIZE[1] and image.shape[0] > 4 * SIZE[0]
    assert cv2.imread(str(output / "native/one.png")).shape == (*SIZE, 3)
    assert cv2.imread(str(output / "spread/one.png")).shape[1] == 4 * SIZE[1]
    # Three frames, psi and a sample in a row; a sample, the spread and the text in the next.
    sheet = cv2.imread(str(output / "sheets/three.png"))
    assert sheet.shape[1] == 5 * (4 * SIZE[1] + 6) + 6
    summary = results(output)
    assert [entry["name"] for entry in summary["plates"]] == ["one", "three"]
    assert summary["options"]["seed"] == 0 and summary["complete"]


def test_results_say_all_that_is_needed_to_repeat_them(model, plates, tmp_path):
    restore(model, plates, tmp_path / "out", "--seed", "7")
    summary = results(tmp_path / "out")
    assert summary["model"]["name"] == "tiny" and len(summary["model"]["sha256"]) == 64
    assert summary["settings"]["seed"] == 7 and summary["versions"]["jax"]
    assert summary["seconds"]["restoring"] > 0
    entry = summary["plates"][1]
    assert entry["frames"][2]["pixels"] == [43, 20] and entry["frames_seen"] == 3
    assert len(entry["input_sha256"]) == 64
    assert set(entry["reading"]) >= {"text", "confidence", "verdict", "marked", "weak"}
    hypotheses = entry["hypotheses"]
    shares = [text["probability"] for text in hypotheses["texts"]]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True)
    assert hypotheses["sum"] == pytest.approx(sum(shares), abs=1e-5)
    facts = json.loads(Image.open(tmp_path / "out/restored/three.png").text["lpdiff"])
    assert facts["generated"] and facts["seed"] == 7 and facts["model"] == summary["model"]


def test_the_table_and_the_page_name_every_plate(model, plates, tmp_path):
    write_plates(plates, **{"=formula": 1})
    restore(model, plates, tmp_path / "out")
    text = (tmp_path / "out/results.csv").read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(text.splitlines()))
    # A spreadsheet would calculate what begins with =.
    assert sorted(row["name"] for row in rows) == ["'=formula", "one", "three"]
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert page.count("<tr>") == 4 and page.count("data:image/jpeg") == 3
    assert "http" not in page and "generated" in page


def test_without_diffusion_the_sheet_ends_with_psi(plates, tmp_path):
    model = save_tiny_model(tmp_path / "psi-alone", without=("denoiser",))
    assert restore(model, plates, tmp_path / "out") == 0
    # Three frames, psi, and the text.
    sheet = cv2.imread(str(tmp_path / "out/sheets/three.png"))
    assert sheet.shape[:2] == (4 * SIZE[0] + 32, 5 * (4 * SIZE[1] + 6) + 6)
    assert (tmp_path / "out/restored/three.png").exists()


def test_a_plate_does_not_depend_on_its_company(model, plates, tmp_path):
    restore(model, plates, tmp_path / "together")
    restore(model, plates / "three", tmp_path / "alone")
    together, alone = (
        cv2.imread(str(tmp_path / name / "restored/three.png")).astype(int)
        for name in ("together", "alone")
    )
    assert np.abs(together - alone).max() <= 1


def test_a_plate_that_cannot_be_read_does_not_stop_the_others(model, plates, tmp_path, capsys):
    for path in (plates / "one").iterdir():
        path.write_bytes(b"broken")
    assert restore(model, plates, tmp_path / "out") == 2
    assert (tmp_path / "out/restored/three.png").exists()
    assert "one: no frame of this plate can be read" in capsys.readouterr().err


def test_the_reading_is_seen(model, plates, tmp_path, capsys):
    restore(model, plates, tmp_path / "out")
    out = capsys.readouterr().out.splitlines()
    entry = results(tmp_path / "out")["plates"][0]["reading"]
    assert out[0] == f"one  {entry['marked']}  {entry['confidence']:.2f}  {entry['verdict']}"
    restore(model, plates, tmp_path / "quiet", "--quiet")
    assert capsys.readouterr() == ("", "")


def test_the_same_command_gives_the_same_bytes(model, plates, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("one", "two"):
        restore(model, plates, tmp_path / name, "--samples", "2")
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert one == two and len(one) > 10
    assert results(tmp_path / "one")["date"] == "2023-11-14T22:13:20+00:00"


def test_an_interrupted_run_is_gone_on_with(model, plates, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    write_plates(plates, **{"two": 2})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    restore(model, plates, whole, "--batch-size", "1")
    from lpdiff_jax.restoring import files

    wrote = files._Run._write
    calls = []

    def interrupted(run, frames, plate):
        calls.append(frames.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return wrote(run, frames, plate)

    monkeypatch.setattr(files._Run, "_write", interrupted)
    assert restore(model, plates, cut, "--batch-size", "1") == 130
    left = results(cut)
    assert [entry["name"] for entry in left["plates"]] == calls[:2] and not left["complete"]
    assert len((cut / "results.csv").read_text().splitlines()) == 3
    # What is done is not done again.
    assert restore(model, plates, cut, "--batch-size", "1") == 0
    assert len(calls) == 4
    assert content(cut) == content(whole)


def test_a_changed_frame_is_restored_anew(model, plates, tmp_path):
    output = tmp_path / "out"
    restore(model, plates, output)
    before = results(output)["plates"]
    shutil.copy(plates / "three/img_0.png", plates / "one/img_0.png")
    restore(model, plates, output)
    after = {entry["name"]: entry for entry in results(output)["plates"]}
    assert after["three"] == before[1] and after["one"] != before[0]
    assert len((output / "results.csv").read_text().splitlines()) == 3


def test_results_of_other_inputs_stay(model, plates, tmp_path):
    output = tmp_path / "out"
    restore(model, plates / "one", output)
    other = write_plates(tmp_path / "other", one=2)
    restore(model, other, output)
    entries = results(output)["plates"]
    assert [entry["name"] for entry in entries] == ["one", "one-2"]
    assert [len(entry["frames"]) for entry in entries] == [1, 2]


def test_results_of_other_settings_are_not_mixed(model, plates, tmp_path, capsys):
    output = tmp_path / "out"
    restore(model, plates, output, "--samples", "2")
    assert restore(model, plates, output, "--seed", "1") == 2
    assert "samples 2, here 1" in capsys.readouterr().err
    assert restore(model, plates, output, "--seed", "1", "--overwrite") == 0
    assert sorted(path.name for path in (output / "restored").iterdir()) == ["one.png", "three.png"]


def test_two_runs_into_one_folder_refuse_each_other(model, plates, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"):
        assert restore(model, plates, tmp_path / "out") == 2
    assert "another run is writing there" in capsys.readouterr().err


def _killed(model, plates, output):
    from lpdiff_jax.restoring import files

    wrote = files._Run._record

    def record(run, entry):
        wrote(run, entry)
        if run.results._count == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    files._Run._record = record
    restore(model, plates, output, "--batch-size", "1")


def test_a_killed_run_keeps_what_is_done(model, plates, tmp_path):
    write_plates(plates, **{"two": 2})
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_killed, args=(model, plates, tmp_path / "out"))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert [entry["name"] for entry in results(tmp_path / "out")["plates"]] == ["one", "three"]
    assert restore(model, plates, tmp_path / "out") == 0
    assert len(results(tmp_path / "out")["plates"]) == 3


def test_sigterm_stops_between_two_plates(model, plates, tmp_path, monkeypatch, capsys):
    from lpdiff_jax.restoring import files

    wrote = files._Run._record

    def record(run, entry):
        wrote(run, entry)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(files._Run, "_record", record)
    assert restore(model, plates, tmp_path / "out", "--batch-size", "1") == 75
    assert "the same command goes on" in capsys.readouterr().err
    assert [entry["name"] for entry in results(tmp_path / "out")["plates"]] == ["one"]


def test_names_of_all_bytes_are_restored(model, plates, tmp_path):
    folder = os.fsencode(plates) + b"/caf\xe9"
    os.mkdir(folder)
    shutil.copy(os.fsencode(plates / "one/img_0.png"), folder + b"/\xff.png")
    assert restore(model, plates, os.fsdecode(os.fsencode(tmp_path) + b"/out\xff")) == 0
    (entry, *_) = results(tmp_path / os.fsdecode(b"out\xff"))["plates"]
    assert entry["name"] == "caf_" and "\\udce9" in entry["source"]


def test_no_room_is_told_and_what_is_done_stays(model, plates, tmp_path, monkeypatch, capsys):
    from lpdiff_jax.restoring import files

    wrote = files.write_file

    def full(path, data):
        if path.name == "three.png":
            raise OSError(28, "No space left on device", str(path))
        wrote(path, data)

    monkeypatch.setattr(files, "write_file", full)
    assert restore(model, plates, tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "three.png: No space left on device; make room" in err and "Traceback" not in err
    assert [entry["name"] for entry in results(tmp_path / "out")["plates"]] == ["one"]


def test_results_inside_the_inputs_are_no_inputs(model, plates):
    for _ in range(2):
        assert restore(model, plates, plates / "out") == 0
        assert [entry["name"] for entry in results(plates / "out")["plates"]] == ["one", "three"]


def test_links_in_the_output_are_not_written_through(model, plates, tmp_path, capsys):
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (output / "restored").mkdir(parents=True)
    (elsewhere / "mine").write_text("mine")
    (output / "restored/one.png").symlink_to(elsewhere / "mine")
    (output / "restore.json").symlink_to(elsewhere / "mine")
    assert restore(model, plates, output) == 0
    assert (elsewhere / "mine").read_text() == "mine"
    shutil.rmtree(output)
    output.mkdir()
    (output / "sheets").symlink_to(elsewhere)
    assert restore(model, plates, output) == 2
    assert "is a link" in capsys.readouterr().err


def test_boxes_in_a_video_make_a_plate_each(model, tmp_path):
    scene, crop = street(), plate()
    scene[100 : 100 + len(crop), 200:290] = crop
    clip = write_video(tmp_path / "clip.avi", [scene] * 6)
    boxes = tmp_path / "boxes.csv"
    rows = [f"{k},A,200,100,90,{len(crop)}\n{k},B,20,20,90,30" for k in range(6)]
    boxes.write_text("\n".join(["frame,track,x,y,w,h", *rows]))
    options = ("--boxes", str(boxes), "--from", "0.15", "--max-frames", "2")
    assert restore(model, clip, tmp_path / "out", *options) == 0
    entries = results(tmp_path / "out")["plates"]
    assert [entry["name"] for entry in entries] == ["clip_A", "clip_B"]
    assert [frame["time"] for frame in entries[0]["frames"]] == [0.4, 0.5]
    assert entries[0]["frames_seen"] == 4
    assert "0.4" in (tmp_path / "out/results.csv").read_text()


def test_a_scene_alone_is_refused(model, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "street.png"), street())
    assert restore(model, tmp_path / "street.png", tmp_path / "out") == 2
    assert "looks like a scene" in capsys.readouterr().err.replace("look ", "looks ")
    assert restore(model, tmp_path / "street.png", tmp_path / "forced", "--force") == 0


def test_mistakes_are_told_without_a_traceback(model, plates, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for chosen, inputs, output, options, message in (
        (tmp_path / "nowhere", plates, tmp_path / "out", (), "no such model"),
        (tmp_path, plates, tmp_path / "out", (), "work directory"),
        (model, tmp_path / "nothing", tmp_path / "out", (), "no such file or folder"),
        (model, plates, tmp_path / "file", (), "cannot be written"),
        (model, plates, tmp_path / "out", ("--samples", "0"), "from 1 to 256"),
        (model, plates, tmp_path / "out", ("--samples", "100000"), "from 1 to 256"),
        (model, plates, tmp_path / "out", ("--scale", "0"), "scale"),
        (model, plates, tmp_path / "out", ("--seed", "-1"), "seed"),
        (model, plates, tmp_path / "out", ("--seed", "4294967296"), "seed"),
        (model, plates, tmp_path / "out", ("--steps", "21"), "steps"),
        (model, plates, tmp_path / "out", ("--sampler", "magic"), "magic"),
        (model, plates, tmp_path / "out", ("--box", "1,2"), "--box"),
        (model, plates, tmp_path / "out", ("--from", "x"), "no time"),
        (model, "gs://plates", tmp_path / "out", (), "copy it"),
    ):
        assert restore(chosen, inputs, output, *options) == 2
        assert message in capsys.readouterr().err


def test_a_terminal_without_chinese_gets_escapes(model, plates, tmp_path):
    import subprocess
    import sys

    write_plates(plates, **{"车": 1})
    command = [sys.executable, "-c", "from lpdiff_jax.cli import main; raise SystemExit(main())"]
    command += ["restore", str(plates), "--output", str(tmp_path / "out"), "--model", str(model)]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0 and b"\\u8f66" in done.stdout


def test_what_was_left_out_is_told_again(model, plates, tmp_path, capsys):
    """A plate that is done is not read again, and its broken frame stays left out."""
    (plates / "three" / "broken.png").write_bytes(b"no picture")
    for _ in range(2):
        assert restore(model, plates, tmp_path / "out") == 2
        assert "broken.png" in capsys.readouterr().err
        assert len(results(tmp_path / "out")["problems"]) == 1

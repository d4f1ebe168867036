"""Groups in memory and on disk: determinism, layout, half-written output."""

import errno
import fcntl
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.synthetic import groups
from data_pipeline.synthetic.degradation import Photographs
from data_pipeline.synthetic.groups import render_group, synthesize
from data_pipeline.synthetic.lettering import LATIN
from data_pipeline.synthetic.styles import STYLE_DIRECTORY, load_style, style_names
from data_pipeline.synthetic.texts import matches
from lpdiff_jax.cli import main


def digest(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_same_seed_same_group() -> None:
    first, second, other = (render_group([7, seed]) for seed in (1, 1, 2))
    assert first[2] == second[2] != other[2]
    for a, b in zip([*first[0], first[1]], [*second[0], second[1]], strict=True):
        np.testing.assert_array_equal(a, b)


def test_shapes_and_sizes() -> None:
    for seed in range(10):
        frames, target, text, _ = render_group(seed, num_frames=4)
        assert len(frames) == 4 and text
        for image in [*frames, target]:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert all(30 <= frame.shape[1] <= 64 for frame in frames)
        assert 2.0 < target.shape[1] / frames[0].shape[1] < 4.5
        assert target.std() > 10


@pytest.mark.parametrize("name", style_names())
def test_every_style_is_photographed(name: str) -> None:
    frames, target, text, _ = render_group(5, styles=[name], num_frames=1)
    assert matches(load_style(name), text)
    assert frames[0].std() > 3 and target.std() > 15


def test_frames_differ_as_moments_do() -> None:
    frames = render_group(3).frames
    small = [cv2.resize(frame, (40, 16)).astype(float) for frame in frames]
    assert all(np.abs(a - b).mean() > 0.5 for a, b in itertools.pairwise(small))


def test_text_and_style_are_choices() -> None:
    assert render_group(0, text="沪A12345")[2] == "沪A12345"
    text = render_group(0, styles=["cn-police"])[2]
    assert matches(load_style("cn-police"), text)
    with pytest.raises(DataError, match="cn-"):
        render_group(0, text="??")
    with pytest.raises(DataError, match="real-like"):
        render_group(0, preset="dreamlike")


def test_letters_are_a_choice() -> None:
    kinds = {name: render_group(3, letters=name, num_frames=1)[1] for name in LATIN}
    assert (kinds["strokes"] == render_group(3, num_frames=1)[1]).all()
    assert not np.array_equal(kinds["strokes"], kinds["noto"])
    with pytest.raises(DataError, match="no such letters; choose of noto"):
        render_group(3, letters="gothic")


def test_the_camera_model_s_fade_pales_the_characters(monkeypatch) -> None:
    seen = []
    blank = np.zeros((1, 1, 4), np.uint8)
    monkeypatch.setattr(
        groups, "draw_plate", lambda *a, lettering: seen.append(lettering.fade) or blank
    )
    monkeypatch.setattr(groups, "take", lambda *a: Photographs([], blank, ()))
    for preset in ("real-like", "real-like-1"):
        render_group(1, preset=preset)
    assert 0.15 <= seen[0] <= 0.4 and seen[1] == 0.0


def test_written_tree_is_mdlp_s_and_repeats_to_the_byte(tmp_path: Path) -> None:
    synthesize(tmp_path / "a", groups=5, seed=3)
    synthesize(tmp_path / "a", groups=2, seed=3, split="val")
    synthesize(tmp_path / "b", groups=2, seed=3, split="val")
    synthesize(tmp_path / "b", groups=5, seed=3)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    synthesize(tmp_path / "c", groups=5, seed=4)
    assert digest(tmp_path / "c" / "train") != digest(tmp_path / "a" / "train")
    labels = json.loads((tmp_path / "a" / "labels.json").read_text(encoding="utf-8"))
    names = {
        path.name
        for split in ("train", "val")
        for path in (tmp_path / "a" / split / "gt").iterdir()
    }
    assert labels.keys() == names and len(names) == 7
    group = tmp_path / "a" / "train" / "inputs" / "train-000000"
    assert sorted(path.name for path in group.iterdir()) == ["img_0.jpg", "img_1.jpg", "img_2.jpg"]
    assert not list((tmp_path / "a").glob(".*"))


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    synthesize(tmp_path / "one", groups=40, seed=0)
    synthesize(tmp_path / "two", groups=40, seed=0, workers=2)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_a_failure_leaves_nothing_that_looks_finished(tmp_path: Path, monkeypatch) -> None:
    def fail(path: Path, image: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(groups, "_write_image", fail)
    with pytest.raises(DataError, match=r"train.partial: cannot be written: No space.*make room"):
        synthesize(tmp_path, groups=2, seed=0)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_of_several_workers_stops_and_is_taken_up(tmp_path: Path) -> None:
    seen = []

    def interrupt(done: int) -> None:
        seen.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "a", groups=70, seed=0, workers=2, progress=interrupt)
    assert seen == [32]
    assert [path.name for path in (tmp_path / "a").iterdir()] == [".train.partial"]
    (tmp_path / "a/.train.partial/inputs/half").mkdir()  # a group that was being written
    counts: list[int] = []
    synthesize(tmp_path / "a", groups=70, seed=0, progress=counts.append)
    assert len(counts) < 3 and counts[-1:] in ([], [70])  # what was finished is not drawn again
    synthesize(tmp_path / "b", groups=70, seed=0)
    (tmp_path / "a/train/inputs/half").rmdir()
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


KILLED = """
import os, signal, sys
from data_pipeline.synthetic.groups import synthesize

if __name__ == "__main__":
    kill = lambda done: os.kill(os.getpid(), signal.SIGKILL)
    synthesize(sys.argv[1], groups=200, seed=0, workers=2, progress=kill)
"""


def test_a_killed_run_is_taken_up_and_its_workers_end(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    # Ends only when all that hold its end of the pipe have ended: the workers, too.
    killed = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "a")], capture_output=True, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    synthesize(tmp_path / "a", groups=2, seed=0)  # other arguments: begun anew
    synthesize(tmp_path / "b", groups=2, seed=0)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_refuses_to_write_over_a_split(tmp_path: Path) -> None:
    synthesize(tmp_path, groups=1, seed=0)
    before = digest(tmp_path)
    with pytest.raises(DataError, match="exists"):
        synthesize(tmp_path, groups=1, seed=1)
    synthesize(tmp_path, groups=1, seed=0)  # the same: there is nothing to do
    (tmp_path / ".val.partial").mkdir()
    lock = os.open(tmp_path / ".val.partial", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="another run is drawing"):
        synthesize(tmp_path, groups=1, seed=1, split="val")
    os.close(lock)
    assert (tmp_path / ".val.partial").is_dir()  # the other run's, which may have just begun
    assert digest(tmp_path) == before


def test_command(tmp_path: Path, capsys) -> None:
    arguments = ["synthesize", str(tmp_path / "s"), "--groups", "3", "--seed", "1"]
    assert main([*arguments, "--val-groups", "2", "--uniform", "--style", "cn-blue"]) == 0
    assert len(list((tmp_path / "s" / "train" / "inputs").iterdir())) == 3
    assert len(list((tmp_path / "s" / "val" / "inputs").iterdir())) == 2
    labels = json.loads((tmp_path / "s" / "labels.json").read_text(encoding="utf-8"))
    assert all(matches(load_style("cn-blue"), text) for text in labels.values())
    assert main(arguments) == 2
    assert "exists" in capsys.readouterr().err


def test_command_takes_a_style_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_bytes((STYLE_DIRECTORY / "br-mercosur.json").read_bytes())
    output = tmp_path / "s"
    assert (
        main(["synthesize", str(output), "--groups", "2", "--seed", "0", "--style", str(mine)]) == 0
    )
    labels = json.loads((output / "labels.json").read_text(encoding="utf-8"))
    assert all(len(text) == 7 and text[:3].isalpha() for text in labels.values())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--groups", "0"],
        ["--groups", "2", "--preset", "dreamlike"],
        ["--groups", "2", "--style", "atlantis"],
        ["--groups", "2", "--letters", "gothic"],
        ["--groups", "2", "--workers", "0"],
        ["--groups", "2", "--val-groups", "-1"],
    ],
)
def test_command_s_errors(tmp_path: Path, capsys, arguments: list[str]) -> None:
    assert main(["synthesize", str(tmp_path / "s"), "--seed", "1", *arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("lpdiff synthesize:") and "Traceback" not in message
    assert not (tmp_path / "s" / "train").exists()

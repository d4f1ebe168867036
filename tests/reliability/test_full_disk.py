"""A disk that really fills up, at each command that writes: one sentence, status 2, nothing torn.

Each gets a file system of its own in memory (tmpfs), which takes the right to mount one.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_pipeline.synthetic.groups import synthesize
from tests.reliability.kills import LPDIFF, finish, options
from tests.restoring.tiny_model import save_tiny_model
from tests.training.tiny import ROOT, command

pytestmark = pytest.mark.slow
GOLDEN = ROOT / "tests" / "golden" / "small_gen.pth"
OF_GOLDEN = ["--norm-groups", "8", "--image-size", "32", "64"]


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A folder on a disk of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Plates, a model and an imported checkpoint, on a disk with room."""
    folder = tmp_path_factory.mktemp("made")
    synthesize(folder / "plates", groups=16, seed=0, num_frames=2)
    synthesize(folder / "plates", groups=8, seed=0, split="val", num_frames=2)
    save_tiny_model(folder / "model")
    words = [*LPDIFF, "import-torch", str(GOLDEN), str(folder / "imported"), *OF_GOLDEN]
    assert finish(words, **options()).returncode == 0
    return folder


WRITERS = {
    "restore": ["restore", "{made}/plates/train/inputs", "--model", "{made}/model",
                "--output", "{disk}/out", "--force"],
    "synthesize": ["synthesize", "{disk}/out", "--groups", "40", "--seed", "0"],
    "prepare": ["prepare", "{made}/plates", "{disk}/out"],
    "import-torch": ["import-torch", str(GOLDEN), "{disk}/out", *OF_GOLDEN],
    "export-torch": ["export-torch", "{made}/imported", "{disk}/x_gen.pth"],
    "export": ["export", "{made}/imported", "{disk}/out", "--format", "stablehlo"],
    "eval": ["eval", "--config=quickstart", "--workdir={disk}", "--model={made}/model",
             "--data={made}/plates", "--judges=", "--output={disk}/out"],
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk(name, made, disk):
    words = [*LPDIFF, *(word.format(made=made, disk=disk) for word in WRITERS[name])]
    done = finish(words, **options())
    check(done, disk)
    if name in ("restore", "synthesize", "prepare"):  # with more room the same command goes on
        more = ["mount", "-o", "remount,size=64m", str(disk)]
        subprocess.run(more, check=True)
        done = finish(words, **options())
        assert done.returncode == 0, done.stderr


def test_training(made, disk):
    workdir = disk / "run"
    check(finish(command(workdir, made / "plates", stages="('psi',)"), **options()), disk)


def check(done: subprocess.CompletedProcess[str], disk: Path) -> None:
    """One sentence that names a file or folder of the disk, and no half of a file."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "make room" in done.stderr, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith(("lpdiff", "train.py"))]
    assert len(said) == 1 and str(disk) in said[0], done.stderr
    assert not [*disk.rglob(".part-*")]

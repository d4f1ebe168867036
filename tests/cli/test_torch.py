"""`lpdiff import-torch` and `lpdiff export-torch`, as a user calls them."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from lpdiff_jax.cli import main
from lpdiff_jax.storage.torch_archive import read_torch_file, write_state_dict

SMALL = Path(__file__).parents[1] / "golden" / "small_gen.pth"


def run(capsys, *arguments):
    """Runs the command; returns its exit status, standard output and standard error."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def imported(tmp_path, capsys):
    directory = tmp_path / "model"
    status, out, _ = run(capsys, "import-torch", SMALL, directory, "--norm-groups", 16)
    assert status == 0
    assert "width 32, multipliers (1, 2), 1 blocks per level, 16 norm groups, 20 steps" in out
    return directory


def test_there_and_back(imported, tmp_path, capsys):
    status, out, _ = run(capsys, "export-torch", imported, tmp_path / "back_gen.pth")
    assert (status, out) == (0, f"{tmp_path / 'back_gen.pth'}\n")
    ours, theirs = read_torch_file(tmp_path / "back_gen.pth"), read_torch_file(SMALL)
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape)
        assert ours[name].tobytes() == array.tobytes()


def test_an_imported_model_restores_like_its_file(tmp_path, capsys):
    from lpdiff_jax import Restorer

    run(capsys, "import-torch", SMALL, tmp_path / "m", "--norm-groups", 16, "--image-size", 32, 64)
    frames = np.random.default_rng(0).uniform(-1, 1, (1, 3, 32, 64, 3))
    from_directory = Restorer.load(tmp_path / "m").restore(frames)
    from_file = Restorer.load(SMALL, norm_groups=16, image_size=(32, 64)).restore(frames)
    np.testing.assert_array_equal(from_directory, from_file)


def test_a_schedule_for_a_file_without(tmp_path, capsys):
    weights = {name: a for name, a in read_torch_file(SMALL).items() if "." in name}
    write_state_dict(tmp_path / "bare_gen.pth", weights)
    command = ["import-torch", tmp_path / "bare_gen.pth", tmp_path / "model"]
    status, _, err = run(capsys, *command)
    assert status == 2 and "betas" in err
    status, _, err = run(capsys, *command, "--betas", "1e-6", "two", "20")
    assert status == 2 and "--betas 1e-6 two 20" in err
    status, out, _ = run(capsys, *command, "--betas", "1e-6", "1e-2", "1000")
    assert status == 0 and "1000 steps" in out


def test_mistakes_end_with_status_2_and_one_message(imported, tmp_path, capsys):
    hostile = tmp_path / "hostile_gen.pth"
    with zipfile.ZipFile(hostile, "w") as archive:
        archive.writestr("x/data.pkl", b"cposix\nmkdir\n(V" + str(tmp_path / "made").encode())
    cases = [
        (["import-torch", hostile, tmp_path / "a"], "posix.mkdir"),
        (["import-torch", tmp_path / "absent.pth", tmp_path / "a"], "No such file"),
        (["import-torch", SMALL, imported], "exists already"),
        (["import-torch", SMALL, tmp_path / "a", "--image-size", 30, 60], "image size (30, 60)"),
        (["export-torch", tmp_path / "absent", tmp_path / "x.pth"], "absent"),
        (["export-torch", imported, tmp_path / "absent" / "x.pth"], "cannot be written"),
    ]
    for command, message in cases:
        status, out, err = run(capsys, *command)
        assert status == 2 and out == ""
        assert err.startswith(f"lpdiff {command[0]}: ") and message in err
        assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile_gen.pth", "model"]


def test_a_compared_systems_file(tmp_path, capsys):
    """HAT's file, as its users have it, becomes a model that restores like the file itself."""
    from lpdiff_jax import Restorer

    hat = SMALL.parent / "baselines" / "hat_x1.pth"
    status, out, _ = run(capsys, "import-torch", hat, tmp_path / "hat", "--image-size", 8, 16)
    assert status == 0
    assert "regression: network (name hat, features 24, depths (2,)" in out
    frames = np.random.default_rng(0).uniform(-1, 1, (1, 2, 8, 16, 3))
    from_directory = Restorer.load(tmp_path / "hat").restore(frames)
    from_file = Restorer.load(hat, image_size=(8, 16)).restore(frames)
    np.testing.assert_array_equal(from_directory, from_file)
    alone = Restorer.load(hat, image_size=(8, 16)).restore(frames[:, 1:])
    np.testing.assert_array_equal(alone, from_file)  # the nearest frame is what it sees
    given = SMALL.parent / "baselines" / "discriminator.pth"
    status, _, err = run(capsys, "import-torch", given, tmp_path / "none")
    assert status == 2 and "which restores nothing" in err

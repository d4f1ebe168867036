"""Training of the smallest model in processes of their own."""

import json
import socket
import subprocess
import sys
from pathlib import Path

from lpdiff_jax.storage.checkpoint import saved_steps, stage_directory
from tests.training.tiny import ROOT, environment

STEPS = {
    "psi.steps": 6,
    "diffusion.steps": 14,
    "checkpoint_every": 2,
    "validate_every": 4,
    "sheet_plates": 0,
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def words_of(workdir: Path, plates: Path, examples: Path, **fields) -> list[str]:
    """The command; examples: the file that gets those of each step; fields: see `run_small`."""
    process = fields.pop("process", None)
    words = [f"{name}={json.dumps(value)}" for name, value in (STEPS | fields).items()]
    words += [f"process={process}"] if process else []
    files = map(str, (workdir, plates, examples))
    return [sys.executable, "-m", "tests.training.run_small", *files, *words]


def start(workdir: Path, plates: Path, examples: Path, devices=1, **fields) -> subprocess.Popen:
    """Starts a run; see `words_of`."""
    return start_command(words_of(workdir, plates, examples, **fields), devices)


def start_command(words: list[str], devices: int = 1) -> subprocess.Popen:
    return subprocess.Popen(
        words, cwd=ROOT, env=environment(devices), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Waits for a run: its status, and all that it printed."""
    output, errors = process.communicate(timeout=600)
    return process.returncode, output + errors


def final_state(workdir, stage="diffusion") -> dict[str, bytes]:
    """The newest checkpoint's checksums and record."""
    directory = stage_directory(workdir, stage)
    path = directory / str(saved_steps(directory)[0]) / "record" / "metadata"
    return json.loads(path.read_text())

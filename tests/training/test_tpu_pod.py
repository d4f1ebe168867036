"""run_tpu_pod.sh: what it asks gcloud for, and how each host joins; the programs are stand-ins."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "run_tpu_pod.sh"
SAYS = '#!/bin/sh\nfor word; do printf \'%s\\n\' "$word"; done > "$SAID"\n'
CURL = """#!/bin/sh
case "$*" in
*Metadata-Flavor:*/agent-worker-number) printf 2 ;;
*Metadata-Flavor:*/worker-network-endpoints) printf '%s' "$ENDPOINTS" ;;
*) exit 1 ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Runs the script; returns what its last program was given, word by word."""
    for name, text in {"gcloud": SAYS, "lpdiff": SAYS, "curl": CURL}.items():
        program = tmp_path / name
        program.write_text(text)
        program.chmod(0o755)

    def call(*words, **environment):
        own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SAID": str(tmp_path / "said")}
        subprocess.run(["bash", SCRIPT, *words], env=own | environment, check=True, timeout=60)
        return (tmp_path / "said").read_text().splitlines()

    return call


@pytest.mark.parametrize(
    "endpoints", ["t-0,t-1,t-2", "a:b:t-0,c:d:t-1,e:f:t-2"], ids=["names", "triples"]
)
def test_a_host_joins_the_first_one(run, endpoints):
    said = run("worker", "--config", "a b", ENDPOINTS=endpoints)
    assert said == [
        "train",
        "--coordinator=t-0:8476",
        "--process-id=2",
        "--process-count=3",
        "--config",
        "a b",
    ]


def test_every_host_is_given_the_words_as_they_are(run):
    said = run("train", "--config.stages=('psi',)", "a b", TPU="plates", ZONE="z")
    assert said[:6] == ["compute", "tpus", "tpu-vm", "ssh", "plates", "--zone=z"]
    assert said[6] == "--worker=all"
    words = shlex.split(said[7].removeprefix("--command="))
    assert words[1:] == ["./run_tpu_pod.sh", "worker", "--config.stages=('psi',)", "a b"]


def test_a_slice_is_made_with_its_image(run):
    names = {"TPU": "plates", "ZONE": "z", "SPOT": "1"}
    said = run("create", TYPE="v5litepod-16", **names)
    assert said[3:] == [
        "create",
        "plates",
        "--zone=z",
        "--accelerator-type=v5litepod-16",
        "--version=v2-alpha-tpuv5-lite",
        "--spot",
    ]

"""The programs of a configuration, for devices that are not here."""

import importlib.util
import json
import subprocess
import sys

import jax
import pytest

from benchmarks.gpu import lowering
from lpdiff_jax.ahead import programs, report
from lpdiff_jax.errors import UserError
from lpdiff_jax.parallel import topology
from lpdiff_jax.parallel.devices import Parallel
from tests.training.tiny import tiny_config

WORDS = [
    "--config=quickstart",
    "--config.model.condition.features=(8,8,16)",
    "--config.model.condition.norm_groups=4",
    "--config.model.denoiser.features=8",
    "--config.model.denoiser.norm_groups=4",
    "--config.model.denoiser.multipliers=(1,1,2)",
    "--config.model.reader.features=16",
]
needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu"
)


@pytest.fixture(scope="module")
def config():
    return tiny_config()


def test_every_stage_and_the_inference_are_programs(config):
    assert programs.names_of(config) == (*config.stages, "estimate", "denoiser", "sampler")
    assert programs.names_of(config, ["sampler", "psi"]) == ("sampler", "psi")
    with pytest.raises(UserError, match="there is no 'psy'"):
        programs.names_of(config, ["psy"])


@pytest.mark.parametrize(
    ("mode", "name"),
    [("pmap", "diffusion"), ("jit", "diffusion"), ("jit", "denoiser"), ("pmap", "sampler")],
)
def test_a_program_takes_the_parts_of_all_devices(config, mode, name):
    parallel = Parallel(mode, jax.devices())
    lowered = programs.program(name, config, parallel, 2).lower()
    shapes = {info.shape for info in jax.tree.leaves(lowered.args_info)}
    count, image = jax.device_count(), (*config.model.image_size, 3)
    whole = (2 * count, *image)
    assert ((count, 2, *image) if (mode, name) == ("pmap", "diffusion") else whole) in shapes


def test_arithmetic_is_that_of_one_example(config):
    """The estimate alone costs less than the step that trains it, and both cost something."""
    parallel = Parallel("jit", jax.devices())
    step, estimate = (programs.program(n, config, parallel, 2).flops() for n in ("psi", "estimate"))
    assert 2 * estimate < step < 10 * estimate


def test_programs_lower_for_a_gpu_that_is_not_here(config):
    program = programs.program("denoiser", config, Parallel("jit", jax.devices()[:1]), 2)
    text = program.lower(("cuda",)).as_text()
    counts, other, _ = lowering.study(text, "f32")
    assert counts["convolution"] > 5
    assert other == 0


def test_the_largest_batch_is_the_last_that_fits():
    asked = []

    def attempt(size):
        asked.append(size)
        return size if size <= 48 else None

    assert report.largest(attempt, 4) == 32
    assert asked == [4, 8, 16, 32, 64]
    assert report.largest(lambda size: None, 4) is None


def test_a_ring_sends_an_all_reduce_nearly_twice():
    chip = topology.CHIPS["v5e"]
    seconds = report.exchange_seconds({"all-reduce": (1, 200e9)}, 8, chip)
    assert seconds == pytest.approx(2 * 7 / 8)
    assert report.exchange_seconds({"all-gather": (2, 200e9)}, 4, chip) == pytest.approx(3 / 4)
    assert report.exchange_seconds({"all-reduce": (1, 1e9)}, 1, chip) == 0


@pytest.mark.parametrize("name", ["v5e", "v9x:2x4", "v5e:2", "v5e:2x4x2x2", "v5e:axb"])
def test_a_slice_that_there_is_not_is_told(name):
    with pytest.raises(UserError, match="--topology"):
        topology.describe(name)


def compiled(*words):
    return subprocess.run(
        [sys.executable, "-m", "lpdiff_jax", "compile", *WORDS, *words],
        capture_output=True,
        text=True,
    )


def test_a_compiler_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'lpdiff-jax\[tpu\]'"):
        topology.describe("v5e:2x4")


@needs_compiler
@pytest.mark.slow
def test_the_command_compiles_for_a_slice():
    words = ["--topology=v5e:2x2,v6e:2x2", "--per-device=2", "--effort=quick", "--json"]
    done = compiled(*words, "--programs=diffusion,estimate")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    names = [(row["topology"], row["program"]) for row in rows]
    assert names == [(t, p) for t in ("v5e:2x2", "v6e:2x2") for p in ("diffusion", "estimate")]
    step, estimate = rows[:2]
    assert step["chips"] == 4
    assert step["flops"] == pytest.approx(step["xla_flops"], rel=0.2)
    assert step["padded_flops"] > step["flops"]
    assert step["exchanges"]["all-reduce"][1] > 4e4  # bytes of gradients
    assert estimate["exchanges"] == {}
    assert estimate["hbm"] > 0

"""Programs that are kept on disk: which one is taken, and what is never taken."""

import dataclasses
import hashlib
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.diffusion.samplers import Sampler
from lpdiff_jax.diffusion.schedule import NoiseSchedule
from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.restoring import programs
from lpdiff_jax.restoring.programs import kept
from lpdiff_jax.restoring.restorer import Restorer, _compiled
from tests.methods.small_lpdiff import CONFIG, SAMPLER, SIZE, draw_variables


@dataclasses.dataclass(frozen=True, eq=False)
class Scale:
    factors: np.ndarray
    extra: Any = None


Scale.__module__ = "lpdiff_jax.scale"  # as if it were part of the package


class Start:
    """What a process does: traces the function unless its program is there."""

    def __init__(self, folder):
        self.folder, self.traced = folder, 0

    def __call__(self, x, scale, **choices):
        def scaled(x, *, power=1):
            self.traced += 1
            return x**power * scale.factors.sum()

        return jax.jit(lambda x: kept("scaled", scaled, scale, self.folder)(x, **choices))(x)


@pytest.fixture
def start(tmp_path):
    return Start(tmp_path)


@pytest.fixture
def scale():
    return Scale(np.linspace(0, 1, 2000, dtype=np.float32))


def test_a_second_start_traces_nothing(start, scale):
    x = jnp.arange(3.0)
    first = start(x, scale)
    np.testing.assert_array_equal(first, start(x, scale))
    assert start.traced == 1
    np.testing.assert_allclose(first, x * scale.factors.sum(), rtol=1e-6)


def test_another_method_choice_shape_or_setting_is_another_program(start, scale):
    x = jnp.arange(3.0)
    start(x, scale)
    changed = scale.factors.copy()
    changed[1000] = 7  # which the array's own text leaves out
    np.testing.assert_allclose(start(x, Scale(changed)), x * changed.sum(), rtol=1e-6)
    np.testing.assert_allclose(start(x, scale, power=2), x**2 * scale.factors.sum(), rtol=1e-6)
    assert start(jnp.arange(4.0), scale).shape == (4,)
    start(jnp.arange(3), scale)
    with jax.default_matmul_precision("bfloat16"):
        start(x, scale)
    assert start.traced == 6
    start(x, scale, power=2)
    assert start.traced == 6


def test_other_source_is_another_program(start, scale, monkeypatch):
    start(jnp.arange(3.0), scale)
    monkeypatch.setattr(programs, "_world", lambda: "another")
    start(jnp.arange(3.0), scale)
    assert start.traced == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "writable", "link", "pipe"])
def test_what_cannot_be_trusted_is_written_anew(start, scale, tmp_path, damage):
    x = jnp.arange(3.0)
    first = start(x, scale)
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[:-100])
    elif damage == "changed":
        file.write_bytes(data[:200] + b"?" + data[201:])
    elif damage == "foreign":  # whole, but no program
        file.write_bytes(hashlib.sha256(b"x" * 99).digest() + b"x" * 99)
    elif damage == "writable":
        file.chmod(0o666)
    elif damage == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.unlink()
        os.mkfifo(file)
    np.testing.assert_array_equal(first, start(x, scale))
    assert start.traced == 2
    start(x, scale)
    assert start.traced == 2
    assert file.read_bytes() == data


def test_a_program_is_for_its_user_alone(start, scale, tmp_path):
    before = os.umask(0o002)
    try:
        start(jnp.arange(3.0), scale)
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_values_do_not_tell_is_not_kept(start, scale, tmp_path):
    method = dataclasses.replace(scale, extra=lambda x: x)
    for _ in range(2):
        start(jnp.arange(3.0), method)
    assert start.traced == 2
    assert not list(tmp_path.iterdir())


def test_a_method_whose_source_may_change_unseen_is_not_kept(start, scale, tmp_path, monkeypatch):
    monkeypatch.setattr(Scale, "__module__", "somebody.scale")
    start(jnp.arange(3.0), scale)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_no_reason_to_fail(scale, tmp_path):
    start = Start(tmp_path / "missing")
    assert start(jnp.arange(3.0), scale).shape == (3,)


def test_a_mistake_of_the_caller_stays_its_own(tmp_path):
    def wrong(x):
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        jax.jit(kept("wrong", wrong, (), tmp_path))(1.0)


def test_a_sampler_and_a_schedule_are_told_apart():
    told = lambda value: list(programs._parts(value))  # noqa: E731
    one, other = NoiseSchedule(np.full(2000, 0.1)), NoiseSchedule(np.full(2000, 0.2))
    assert told(one) != told(other)
    assert told(Sampler(**SAMPLER)) != told(Sampler(**SAMPLER | {"steps": 4}))


def test_a_restorer_restores_the_same_from_programs_that_are_kept(tmp_path):
    model = build_model(CONFIG)
    variables = draw_variables(model)
    frames = np.random.default_rng(1).uniform(-1, 1, (1, 2, *SIZE, 3)).astype(np.float32)
    plain = Restorer(model, variables, SAMPLER).restore(frames)
    for _ in range(2):
        _compiled.cache_clear()
        restorer = Restorer(model, variables, SAMPLER, programs=tmp_path)
        np.testing.assert_array_equal(plain, restorer.restore(frames))
    assert sorted(file.name.partition("-")[0] for file in tmp_path.iterdir()) == [
        "draw",
        "estimate",
    ]

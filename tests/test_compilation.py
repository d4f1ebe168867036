"""Where compiled functions are kept."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from lpdiff_jax.compilation import VARIABLE, default_folder, enable_compilation_cache, jit

PROGRAM = """
import jax
from lpdiff_jax.compilation import enable_compilation_cache
print(enable_compilation_cache())
jax.jit(lambda x: x * 2 + 1)(1.0)
"""


def run(**environment):
    kept = {k: v for k, v in os.environ.items() if k not in (VARIABLE, "JAX_COMPILATION_CACHE_DIR")}
    words = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(words, env=kept | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_variable_says_where(tmp_path):
    folder = tmp_path / "a" / "b"
    assert run(**{VARIABLE: str(folder)}) == str(folder)
    assert list(folder.iterdir())


def test_jax_own_variable_is_respected(tmp_path):
    assert run(JAX_COMPILATION_CACHE_DIR=str(tmp_path)) == str(tmp_path)
    assert list(tmp_path.iterdir())


def test_the_users_cache_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "lpdiff" / "compiled"


@pytest.mark.parametrize("word", ["off", "OFF"])
def test_it_can_be_turned_off(word, monkeypatch):
    monkeypatch.setenv(VARIABLE, word)
    assert enable_compilation_cache() is None


def test_a_folder_that_cannot_be_made_is_no_reason_to_fail(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "folder"))
    assert enable_compilation_cache() is None


def test_convolutions_stay_with_all_cores():
    """None is left to the library that computes those of few channels in one thread."""
    x, kernel = jnp.ones((48, 24, 48, 32)), jnp.ones((3, 3, 32, 32))

    def convolve(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    program = jit(convolve).lower(x, kernel).compile().as_text()
    assert "convolution(" in program
    assert "ynn" not in program

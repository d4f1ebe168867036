"""A training on a CPU takes a better allocator by itself, where that is safe."""

import ctypes.util
import subprocess
import sys

import pytest

from lpdiff_jax import allocator

PROGRAM = """
import os, sys
from lpdiff_jax import allocator
allocator.setting = lambda environment: {} if "MARK" in environment else {"MARK": "set"}
allocator.settle(ARGUMENTS)
print(os.environ.get("MARK"), os.getpid(), sys.argv[1:])
"""


@pytest.fixture
def glibc(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator.os, "confstr", lambda name: "glibc 2.36")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)


def test_tcmalloc_is_taken_where_it_is_installed(glibc, monkeypatch, tmp_path):
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so.4")
    found = allocator.setting({"LD_PRELOAD": "libother.so"}, tmp_path)
    assert found == {
        "LD_PRELOAD": "libtcmalloc_minimal.so.4 libother.so",
        "TCMALLOC_RELEASE_RATE": "0",
    }
    pages = allocator.setting({allocator.VARIABLE: "large-pages"}, tmp_path)
    assert pages == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def test_large_pages_are_taken_else(glibc, monkeypatch, tmp_path):
    found = allocator.setting({"GLIBC_TUNABLES": "glibc.malloc.check=1"}, tmp_path)
    assert found == {"GLIBC_TUNABLES": "glibc.malloc.check=1:glibc.malloc.hugetlb=1"}
    assert allocator.setting({allocator.VARIABLE: "tcmalloc"}, tmp_path) == {}
    monkeypatch.setattr(allocator.os, "confstr", lambda name: "glibc 2.34")
    assert allocator.setting({}, tmp_path) == {}


@pytest.mark.parametrize(
    "environment",
    [
        {allocator.VARIABLE: "off"},
        {"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"},
        {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
        {"JAX_PLATFORMS": "cuda"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_nothing_changes_where_it_would_not_help(glibc, tmp_path, environment):
    assert allocator.setting(environment, tmp_path) == {}


def test_an_accelerator_keeps_the_environment_unless_the_cpu_is_asked_for(glibc, tmp_path):
    (tmp_path / "nvidia0").touch()
    assert allocator.setting({}, tmp_path) == {}
    assert allocator.setting({"JAX_PLATFORMS": "cpu"}, tmp_path) != {}


@pytest.mark.parametrize(("arguments", "mark"), [("sys.argv[1:]", "set"), ("['x']", "None")])
def test_a_program_starts_anew_only_with_its_own_arguments(tmp_path, arguments, mark):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.replace("ARGUMENTS", arguments))
    words = [sys.executable, str(script), "--a", "b c"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    printed, _ = process.communicate()
    assert process.returncode == 0
    assert printed.split(maxsplit=2) == [mark, str(process.pid), "['--a', 'b c']\n"]


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="allocators are chosen on Linux alone"
)
def test_what_is_chosen_can_be_started():
    change = allocator.setting({"JAX_PLATFORMS": "cpu"})
    words = [sys.executable, "-c", "print(1)"]
    done = subprocess.run(words, env=change, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")

"""Arguments that no command can mean end with status 2 and a sentence, before anything is made."""

import os
from pathlib import Path

import pytest

from lpdiff_jax.cli import COMMANDS, main
from lpdiff_jax.cli.arguments import path, seed, whole


def test_a_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path("~/x") == tmp_path / "x"
    assert path("a/~b").name == "~b"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["synthesize", "gs://bucket/x", "--groups", "1", "--seed", "0"],
            "from this machine alone",
        ),
        (["prepare", "s3://bucket", "out"], "from this machine alone"),
        (["prepare", "~nobody-of-that-name/x", "out"], "no such user's home"),
        (["prepare", "", "out"], "no name of a file"),
        (["synthesize", "x", "--groups", "1", "--seed", "-1"], "from 0 to"),
        (["synthesize", "x", "--groups", "1", "--seed", "²"], "from 0 to"),
        (["prepare", "x", "out", "--groups-per-shard", "0"], "from 1 to"),
        (["restore", "x", "--output", "out", "--samples", "100000"], "from 1 to 256"),
        (["restore", "x", "--output", "out", "--seed", "4294967296"], "from 0 to"),
        (["serve", "--port", "65536"], "from 0 to"),
        (["benchmark", "--batch", "0"], "from 1 to"),
        (["export", "x", "out", "--frames", "nan"], "from 1 to"),
    ],
)
def test_what_no_command_can_mean(words, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"lpdiff {words[0]}: ") and said.count("\n") == 1 and message in said
    assert not os.listdir(tmp_path)


# What each command needs beside the place that is tried.
WORDS = {
    "restore": ["x", "--output", "out"],
    "synthesize": ["x", "--groups", "1", "--seed", "0"],
    "prepare": ["x", "out"],
    "import-torch": ["x", "out"],
    "export-torch": ["x", "out"],
    "export": ["x", "out"],
    "pack": ["x", "out"],
    "label": ["x"],
    "locate": ["x"],
}
PLACES = {
    "restore": ["--output", "--model", "--boxes"],
    "synthesize": ["--pictures", "--corners"],
    "import-torch": ["--with"],
    "pack": ["--calibrate"],
    "label": ["--weights-dir"],
    "locate": ["--output"],
    "serve": ["--model", "--keep"],
    "benchmark": ["--model"],
    "fetch-weights": ["--weights-dir"],
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_no_command_makes_a_folder_of_an_address(command, monkeypatch, tmp_path, capsys):
    """Each place that a command takes is one of this machine: positional ones, and options."""
    monkeypatch.chdir(tmp_path)
    words = WORDS.get(command, [])
    positional = [k for k, word in enumerate(words) if word in ("x", "out")]
    tried = [[*words[:k], "gs://bucket/x", *words[k + 1 :]] for k in positional]
    tried += [[*words, flag, "gs://bucket/x"] for flag in PLACES.get(command, [])]
    assert tried
    for line in tried:
        assert main([command, *line]) == 2, line
        assert "this machine alone" in capsys.readouterr().err, line
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ["restore", "{root}", "--output", "out"],
        ["import-torch", "{root}/tests/golden/small_gen.pth", "out"],
        ["export-torch", "{root}/lpdiff_jax/pretrained", "out_gen.pth"],
        ["pack", "{root}", "out"],
    ],
)
def test_a_device_that_is_not_there(words, monkeypatch, tmp_path, capsys):
    """As with JAX_PLATFORMS=cuda on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr("jax.devices", _no_devices)
    root = Path(__file__).parents[2]
    assert main([word.format(root=root) for word in words]) == 2
    said = capsys.readouterr().err
    assert "JAX finds no device" in said and "'cuda'" in said and "Traceback" not in said
    assert not os.listdir(tmp_path)


def _no_devices(*_: object) -> None:
    raise AssertionError


def test_seeds_are_those_of_32_bits():
    assert seed("4294967295") == 2**32 - 1
    with pytest.raises(Exception, match="4294967296"):
        seed("4294967296")
    assert whole(1, 3)("2") == 2

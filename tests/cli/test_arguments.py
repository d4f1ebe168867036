"""Arguments that no command can mean end with status 2 and a sentence, before anything is made."""

import os

import pytest

from lpdiff_jax.cli import main
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
    ],
)
def test_what_no_command_can_mean(words, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as leaving:
        main(words)
    assert leaving.value.code == 2 and message in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_seeds_are_those_of_32_bits():
    assert seed("4294967295") == 2**32 - 1
    with pytest.raises(Exception, match="4294967296"):
        seed("4294967296")
    assert whole(1, 3)("2") == 2

"""Models as folders: every bit comes back, and damage does not go unnoticed."""

import json

import ml_dtypes
import numpy as np
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.storage.model_directory import is_model_directory, load_model, save_model

CONFIG = {"model": {"betas": [1e-6, 0.1 + 0.2], "name": "紧凑"}}
VARIABLES = {
    "condition": {
        "params": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3).T},
        "batch_stats": {"half": np.ones(2, np.float16), "brain": np.ones(2, ml_dtypes.bfloat16)},
    },
    "denoiser": {"params": {"empty": np.zeros((0, 2), np.float32)}},
}
EXTRA = {"betas": np.linspace(0, 1, 3), "a.num_batches_tracked": np.array(2**40)}


@pytest.fixture
def directory(tmp_path):
    save_model(tmp_path / "deep" / "model", CONFIG, VARIABLES, EXTRA)
    return tmp_path / "deep" / "model"


def leaves(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def test_every_bit_comes_back(directory):
    model = load_model(directory)
    assert model.config == CONFIG
    for ours, theirs in ((model.variables, VARIABLES), (model.extra, EXTRA)):
        ours, theirs = dict(leaves(ours)), dict(leaves(theirs))
        assert ours.keys() == theirs.keys()
        for name, array in theirs.items():
            assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape)
            assert ours[name].tobytes() == array.tobytes()


def test_what_counts_as_a_model(directory, tmp_path):
    assert is_model_directory(directory)
    assert not is_model_directory(tmp_path)
    assert not is_model_directory(tmp_path / "absent")


def test_nothing_else_is_left_behind(directory):
    assert [path.name for path in directory.parent.iterdir()] == ["model"]
    assert sorted(path.name for path in directory.iterdir()) == [
        "config.json", "manifest.json", "weights.safetensors",
    ]  # fmt: skip


def test_a_folder_in_use_is_not_overwritten(directory):
    with pytest.raises(UserError, match="exists already"):
        save_model(directory, CONFIG, {})
    assert load_model(directory).config == CONFIG


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_model(tmp_path / "model", {"set": {1}}, VARIABLES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_damage_is_noticed(directory, name):
    path = directory / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"{name}: differs from what was saved"):
        load_model(directory)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "manifest.json"])
def test_a_missing_file_is_named(directory, name):
    (directory / name).unlink()
    with pytest.raises(UserError, match=f"{name}: cannot be read"):
        load_model(directory)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "not a JSON object"),
        (json.dumps({"format": 2, "sha256": {}}), "upgrade lpdiff-jax"),
        (json.dumps({"format": 1}), "differs from what was saved"),
    ],
)
def test_a_wrong_manifest(directory, manifest, message):
    (directory / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=message):
        load_model(directory)

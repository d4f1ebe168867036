"""Checkpoints of the published program: what is read from them, and that nothing is lost."""

import json
import shutil
import zipfile
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax import Restorer
from lpdiff_jax.errors import UserError
from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.methods.lpdiff.released import released_model
from lpdiff_jax.pytorch.checkpoint import (
    _state_dict,
    from_state_dict,
    read_checkpoint,
    to_state_dict,
    write_checkpoint,
)
from lpdiff_jax.storage.torch_archive import read_torch_file, write_state_dict

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = GOLDEN / "small_gen.pth"


@pytest.fixture(scope="module")
def state():
    return read_torch_file(SMALL)


@pytest.fixture(scope="module")
def checkpoint():
    return read_checkpoint(SMALL, norm_groups=16, image_size=(32, 64))


@pytest.fixture(scope="module")
def model(checkpoint):
    return build_model(checkpoint.config["model"])


def assert_equal_bits(ours, theirs):
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape), name
        assert ours[name].tobytes() == array.tobytes(), name


def test_the_small_network_is_recognised(checkpoint):
    denoiser = checkpoint.config["model"]["denoiser"]
    assert denoiser["features"] == 32
    assert denoiser["multipliers"] == (1, 2)
    assert denoiser["blocks"] == 1
    assert denoiser["norm_groups"] == 16
    assert denoiser["attention_resolutions"] == (denoiser["nominal_resolution"] // 2,)
    assert checkpoint.config["model"]["condition"]["features"] == (16, 32, 64, 64)
    assert checkpoint.config["sampler"] == {"name": "ddpm", "steps": 20, "eta": 0.0}
    np.testing.assert_allclose(
        checkpoint.config["model"]["schedule"]["betas"], np.linspace(1e-6, 0.3, 20), rtol=1e-7
    )


def test_the_published_network_is_recognised():
    shapes = json.loads((GOLDEN / "state_dict_shapes.json").read_text())
    assert len(shapes) == 443
    state = {name: np.full(shape, 0.01, np.float32) for name, shape in shapes.items()}
    checkpoint = from_state_dict(state)
    released = build_model(checkpoint.config["model"])
    assert released.denoiser.multipliers == (1, 2, 4, 8, 8)
    assert released.denoiser.attention_resolutions == (16,)
    assert (released.denoiser.features, released.denoiser.blocks) == (64, 2)
    assert checkpoint.config["sampler"]["steps"] == 1000
    assert_equal_bits(to_state_dict(released, checkpoint.variables, checkpoint.extra), state)


def test_round_trip_is_bit_exact(tmp_path, checkpoint, model, state):
    path = tmp_path / "back_gen.pth"
    write_checkpoint(path, model, checkpoint.variables, checkpoint.extra)
    assert_equal_bits(read_torch_file(path), state)
    assert len(state) == 205 and len(checkpoint.extra) == 28


def test_torch_reads_the_round_trip(tmp_path, checkpoint, model):
    torch = pytest.importorskip("torch")
    path = tmp_path / "back_gen.pth"
    write_checkpoint(path, model, checkpoint.variables, checkpoint.extra)
    ours, theirs = torch.load(path), torch.load(SMALL)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[n], theirs[n]) and ours[n].dtype == theirs[n].dtype for n in ours)


def test_an_export_without_extra_entries_has_all_that_the_program_demands(checkpoint, model, state):
    ours = to_state_dict(model, checkpoint.variables)
    assert {n: (a.shape, a.dtype) for n, a in ours.items()} == {
        n: (a.shape, a.dtype) for n, a in state.items()
    }
    for name, array in model.schedule.buffers().items():
        np.testing.assert_allclose(array, state[name], rtol=1e-6)


def test_kernels_land_where_torch_has_them(checkpoint, state):
    psi = checkpoint.variables["condition"]["params"]
    denoiser = checkpoint.variables["denoiser"]["params"]
    stem = state["denoise_fn.downs.0.weight"]  # [out, in, height, width]
    assert denoiser["stem"]["kernel"][0, 2, 5, 7] == stem[7, 5, 0, 2]
    qkv = state["denoise_fn.downs.3.attn.qkv.weight"]  # [out, in, 1, 1]
    assert denoiser["down_1_0"]["attention"]["qkv"]["kernel"][5, 7] == qkv[7, 5, 0, 0]
    shortcut = state["denoise_fn.ups.0.res_block.res_conv.weight"]
    assert denoiser["up_1_0"]["residual"]["shortcut"]["kernel"][0, 0, 5, 7] == shortcut[7, 5, 0, 0]
    up = state["MTA.decoder.decoder.3.weight"]  # transposed: [in, out, height, width]
    assert psi["decoder"]["conv_1"]["kernel"][0, 2, 5, 7] == up[5, 7, 2, 0]
    channel = state["MTA.IntraframeAtt.channel_attention.channel_conv2.weight"]
    assert psi["dfm"]["channel_convs_1"]["kernel"][0, 3, 0] == channel[0, 3, 0]
    assert psi["icam"]["fc1"]["kernel"][5, 7] == state["MTA.crossatt.fc1.weight"][7, 5]


def test_restorer_loads_the_file_and_computes_the_published_numbers():
    restorer = Restorer.load(SMALL, norm_groups=16, image_size=(32, 64))
    frames = jnp.stack([draw_image(f"in.f{i}") for i in (1, 2, 3)], axis=1)
    psi = restorer.condition(frames)
    with np.load(GOLDEN / "condition.npz") as golden:
        expected = golden["condition_eval"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(psi, expected, atol=1e-5)
    plates = restorer.restore(frames, seed=3)
    assert plates.shape == (2, 1, 32, 64, 3)
    assert bool(jnp.isfinite(plates).all())


def draw_image(name):
    generator = np.random.default_rng([0, zlib.crc32(name.encode())])
    return generator.standard_normal((2, 3, 32, 64), np.float32).transpose(0, 2, 3, 1)


def refusal(state, **arguments):
    """The message with which a state dict is refused."""
    with pytest.raises(UserError, match=r"^x_gen\.pth: ") as error:
        from_state_dict(state, source="x_gen.pth", **({"norm_groups": 16} | arguments))
    return str(error.value)


def test_a_missing_entry_is_named(checkpoint, state):
    needed = [name for name in state if name not in checkpoint.extra]
    for name in needed[::30]:
        assert name in refusal({n: a for n, a in state.items() if n != name})


def test_entries_that_nothing_uses_may_be_missing(checkpoint, state):
    del_me = set(checkpoint.extra) - {"betas"}
    less = from_state_dict({n: a for n, a in state.items() if n not in del_me}, norm_groups=16)
    for ours, theirs in zip(
        jax.tree.leaves(less.variables), jax.tree.leaves(checkpoint.variables), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s},
        lambda s: {"params": {"MTA.x": np.zeros(1)}, "params_ema": s},
        lambda s: {"params": s, "epoch": 7},
        lambda s: {f"module.{name}": array for name, array in s.items()},
        lambda s: {f"_orig_mod.{name}": array for name, array in s.items()},
        lambda s: {f"module._orig_mod.{name}": array for name, array in s.items()},
        lambda s: {"model": {name.replace("fn.", "fn._orig_mod."): a for name, a in s.items()}},
    ],
)
def test_what_other_programs_wrap_a_state_dict_in_is_understood(state, checkpoint, wrap):
    unwrapped = _state_dict(wrap(dict(state)), "x_gen.pth")
    assert_equal_bits(unwrapped, state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"denoise_fn.downs.0.weight": np.zeros((0, 6, 3, 3))}, r"downs.0.weight: 0; allowed: 1"),
        ({"denoise_fn.downs.0.weight": np.zeros(())}, "lacks denoise_fn.downs.0.weight"),
        (
            {"MTA.IntraframeAtt.channel_attention.channel_conv1.weight": np.zeros(())},
            r"channel_conv1.weight \(\(\), expected",
        ),
        ({"denoise_fn.downs.100001.res_block.x": np.zeros(1)}, "extra: denoise_fn.downs.100001"),
        ({"denoise_fn.downs.100001.conv.x": np.zeros(1)}, "lacks denoise_fn.downs.5"),
        ({f"denoise_fn.downs.{'9' * 200}.conv.x": np.zeros(1)}, "extra"),
        ({"denoise_fn.\udcff": np.zeros(1)}, r"names that no program writes: denoise_fn.\\udcff"),
        ({"betas": np.full(10**6, 0.1)}, "noise schedule: 100001; allowed: 1 to 100000"),
        ({"module.betas": np.ones(3)}, "holds betas twice"),
        ({"MTA.crossatt.fc1.bias": np.full(256, np.nan, np.float32)}, r"NaN.*fc1.bias"),
    ],
)
def test_hostile_entries_are_refused_in_a_sentence(state, change, message):
    with pytest.raises(UserError, match=message):
        from_state_dict(_state_dict(dict(state) | change, "x_gen.pth"), norm_groups=16)


def test_extra_and_misshapen_entries_are_named(state):
    wrong = state | {
        "denoise_fn.mid.1.res_block.block1.block.0.weight": np.ones(64, np.float32),
        "MTA.crossatt.fc1.weight": state["MTA.crossatt.fc1.weight"][:5],
        "MTA.crossatt.fc1.bias": state["MTA.crossatt.fc1.bias"].astype(int),
        "posterior_variance": np.ones(19, np.float32),
    }
    message = refusal(wrong)
    assert "extra: denoise_fn.mid.1.res_block.block1.block.0.weight\n" in message
    assert "MTA.crossatt.fc1.weight ((5, 64), expected (256, 64))" in message
    assert "posterior_variance ((19,), expected (20,))" in message
    assert "not of floating point: MTA.crossatt.fc1.bias" in message
    assert "missing" not in message


def test_half_a_file(state):
    assert "lacks all entries of MTA.encoder" in refusal(
        {n: a for n, a in state.items() if not n.startswith("MTA.")}
    )
    assert "lacks all residual blocks of denoise_fn.downs" in refusal(
        {n: a for n, a in state.items() if not n.startswith("denoise_fn.")}
    )
    message = refusal(dict(list(state.items())[:-40]))
    assert "missing: MTA." in message and "more" in message


def test_the_noise_schedule_is_an_argument_where_the_file_has_none(checkpoint, state):
    bare = {name: a for name, a in state.items() if "." in name}
    assert "has no schedule buffer `betas`" in refusal(bare)
    betas = np.linspace(1e-6, 1e-2, 50).tolist()
    for source in (bare, state):
        given = from_state_dict(source, norm_groups=16, betas=betas)
        exported = to_state_dict(build_model(given.config["model"]), given.variables, given.extra)
        np.testing.assert_array_equal(exported["betas"], np.float32(betas))
    for wrong in ([], [0.0, 0.1], [0.5, 1.5], [float("nan")]):
        assert "not all in (0, 1]" in refusal(state, betas=wrong)


def test_arguments_that_do_not_fit(state):
    assert "7 norm groups (32 channels do not divide into 7 groups)" in refusal(
        state, norm_groups=7
    )
    assert "image size (33, 64)" in refusal(state, image_size=(33, 64))


def test_wrong_files(tmp_path):
    other = tmp_path / "other.pth"
    shutil.copy(GOLDEN / "metrics.npz", tmp_path / "metrics.pth")
    write_state_dict(other, {"conv.weight": np.ones(3, np.float32)})
    with pytest.raises(UserError, match=r"not a checkpoint of LP-Diff.*conv\.weight"):
        read_checkpoint(other)
    with pytest.raises(UserError, match=r"a zip archive, but not"):
        read_checkpoint(tmp_path / "metrics.pth")
    with pytest.raises(UserError, match="No such file"):
        read_checkpoint(tmp_path / "absent.pth")


def test_the_optimizer_file_is_told_apart(tmp_path):
    path = tmp_path / "x_opt.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_opt/data.pkl", b"\x80\x02}(Vepoch\nK\x01Voptimizer\n}u.")
    with pytest.raises(UserError, match=r"optimizer's half.*ends in _gen\.pth"):
        read_checkpoint(path)


def test_a_mended_model_has_no_place_in_the_published_program():
    config = released_model((32, 64))
    config["condition"] |= {"norm": "group", "residual": "input"}
    config |= {"prediction": "v"}
    with pytest.raises(UserError) as error:
        to_state_dict(build_model(config), {})
    message = str(error.value)
    assert "prediction='v' (there 'noise')" in message
    assert "condition.norm='group' (there 'batch')" in message
    assert "denoiser" not in message


def test_a_model_without_its_denoiser(checkpoint, model):
    psi_only = {"condition": checkpoint.variables["condition"]}
    with pytest.raises(UserError, match=r"no weights for denoise_fn\..*train every stage"):
        to_state_dict(model, psi_only)

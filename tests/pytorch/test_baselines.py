"""Public files of the compared systems: what is read from them, and what is said of wrong ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.pytorch.baselines import reading
from lpdiff_jax.pytorch.baselines.reading import Asked, Part
from lpdiff_jax.pytorch.checkpoint import read_checkpoint
from lpdiff_jax.storage.torch_archive import read_torch_file, write_state_dict

GOLDEN = Path(__file__).parents[1] / "golden" / "baselines"


def state_of(stem, configuration, ones=False):
    """A state dict of small random numbers; `ones` keeps full sizes from taking memory."""
    shapes = json.loads((GOLDEN / f"{stem}_shapes.json").read_text())[configuration]
    rng = np.random.default_rng(0)

    def array(shape):
        if ones:
            return np.broadcast_to(np.float32(0), shape)
        return rng.standard_normal(shape, dtype=np.float32)

    return {name: array(tuple(shape)) for name, shape in shapes.items()}


def convert(state, *others, **asked):
    parts = [Part(state, "file.pth"), *(Part(other, "other.pth") for other in others)]
    return reading.from_state_dicts(parts, Asked(**asked))


def test_files_as_their_users_have_them():
    stored = read_checkpoint(GOLDEN / "hat_x1.pth")
    assert stored.config["method"] == "regression"
    network = stored.config["model"]["network"]
    assert (network["name"], network["depths"], network["window"]) == ("hat", (2,), 4)
    there = read_torch_file(GOLDEN / "hat_x1.pth")["params_ema"]
    kernel = stored.variables["network"]["params"]["network"]["conv_first"]["kernel"]
    np.testing.assert_array_equal(kernel, there["conv_first.weight"].transpose(2, 3, 1, 0))

    stored = read_checkpoint(GOLDEN / "generator_x4.pth")
    assert stored.config["method"] == "real_esrgan"
    generator = stored.config["model"]["network"]
    assert (generator["features"], generator["blocks"], generator["growth"]) == (16, 1, 8)
    assert generator["scale"] == 4
    json.dumps(stored.config)


def test_a_discriminator_restores_nothing():
    with pytest.raises(UserError, match="discriminator, which restores nothing"):
        read_checkpoint(GOLDEN / "discriminator.pth")


def test_averaged_weights_come_first():
    state = state_of("srcnn", "955")
    averaged = {name: array + 1 for name, array in state.items()}
    content = {"params": state, "params_ema": averaged}
    stored = reading.from_contents([(content, "file.pth")])
    params = stored.variables["network"]["params"]["network"]
    np.testing.assert_array_equal(params["conv1"]["bias"], averaged["conv1.bias"])
    assert reading.recognise(content)
    assert not reading.recognise({"a": 1})
    assert not reading.recognise({"denoise_fn.downs.0.weight": state["conv1.bias"]})


@pytest.mark.parametrize("kernels", [(9, 1, 5), (9, 5, 5)])
def test_srcnn(kernels):
    stored = convert(state_of("srcnn", "".join(map(str, kernels))), image_size=(48, 96))
    model = stored.config["model"]
    assert model["network"]["kernels"] == kernels
    assert (model["frames"], model["count"], model["image_size"]) == ("nearest", 1, [48, 96])


def test_resdiff_from_one_file_or_two():
    cnn, denoiser = state_of("resdiff", "cnn_x1"), state_of("resdiff", "unet_rect")
    betas = np.linspace(1e-6, 0.3, 20)
    one = convert(cnn | denoiser | {"betas": betas}, image_size=(32, 64))
    bare = {name.removeprefix("cnn."): array for name, array in cnn.items()}
    two = convert(denoiser | {"betas": betas}, bare, image_size=(32, 64))
    assert one.config == two.config
    assert one.config["model"]["image_size"] == [32, 64]
    assert one.config["model"]["denoiser"]["splitter"] == "released"
    assert one.config["sampler"] == {"name": "ddpm", "steps": 20, "eta": 0.0}
    assert list(one.extra) == ["betas"]
    np.testing.assert_array_equal(
        two.variables["cnn"]["params"]["conv1"]["bias"], cnn["cnn.conv1.bias"]
    )
    with pytest.raises(UserError, match="without the CNN"):
        convert(denoiser)
    with pytest.raises(UserError, match="CNN alone"):
        convert(bare)


def test_resdiff_works_at_its_own_width():
    state = state_of("resdiff", "cnn_x1") | state_of("resdiff", "unet")
    assert convert(state, image_size=(112, 224)).config["model"]["image_size"] == [32, 32]


def test_resshift_in_latents_needs_its_autoencoder():
    network, autoencoder = state_of("resshift", "unet_latent"), state_of("resshift", "autoencoder")
    stored = convert(network, autoencoder, steps=4)
    model = stored.config["model"]
    assert model["schedule"] == {"steps": 4, "start": 0.2}
    assert model["denoiser"]["mask"] == "released"
    assert (model["autoencoder"]["codes"], set(stored.variables)) == (
        64,
        {"autoencoder", "denoiser"},
    )
    with pytest.raises(UserError, match="give the autoencoder's file"):
        convert(network)
    with pytest.raises(UserError, match="autoencoder alone"):
        convert(autoencoder)


@pytest.mark.parametrize(
    "stem, configuration, expected",
    [
        ("hat_full", "hat_x4", {"features": 180, "depths": (6,) * 6, "window": 16, "scale": 4}),
        ("hat_full", "hat_s_x1", {"features": 144, "compress": 24, "squeeze": 24, "scale": 1}),
        (
            "realesrgan_full",
            "generator_x2",
            {"features": 64, "blocks": 23, "growth": 32, "scale": 2},
        ),
        (
            "resshift_full",
            "unet_plate_pixel",
            {"features": 160, "multipliers": (1, 2, 2, 4), "window": 7, "nominal_size": 112},
        ),
        (
            "resshift_full",
            "unet_plate_latent",
            {
                "window": 7,
                "nominal_size": 28,
                "condition_halvings": 2,
                "attention_levels": (0, 1, 2),
            },
        ),
    ],
)
def test_published_sizes_are_told_by_names_and_shapes(stem, configuration, expected):
    from lpdiff_jax.pytorch.baselines import hat, real_esrgan, resshift

    infer = {"hat_full": hat, "realesrgan_full": real_esrgan, "resshift_full": resshift}[stem].infer
    inferred = infer(state_of(stem, configuration, ones=True), "file.pth")
    assert inferred | expected == inferred


@pytest.mark.parametrize(
    "stem, configuration, name",
    [
        ("srcnn", "915", "conv2.weight"),
        ("hat", "x1", "layers.1.residual_group.overlap_attn.norm2.bias"),
        ("realesrgan", "generator_x1", "body.1.rdb3.conv5.weight"),
        ("resshift", "unet_pixel", "middle_block.2.out_layers.3.bias"),
    ],
)
def test_wrong_and_partial_files_say_which_entries(stem, configuration, name):
    state = state_of(stem, configuration)
    with pytest.raises(UserError, match=rf"(?s)file.pth.*{name}"):
        convert({n: a for n, a in state.items() if n != name})
    if stem != "srcnn":
        with pytest.raises(UserError, match=rf"(?s)extra: surplus.*wrong shape: {name} \(2,\)"):
            convert(state | {"surplus": np.ones(1), name: np.ones(2)})
    with pytest.raises(UserError, match=rf"not of floating point: {name}"):
        convert(state | {name: state[name].astype(np.int32)})


@pytest.mark.parametrize(
    "state, words",
    [
        ({"body.0.rdb1.conv1.weight": np.ones((8, 16, 3, 3), "f4")}, "lacks conv_first.weight"),
        ({"layers.0.residual_group.x": np.ones(3, "f4")}, "lacks layers.0.residual_group.blocks.0"),
        ({"something": np.ones(3, "f4")}, "none of the systems.*something"),
        ({}, "none of the systems.*no tensors"),
    ],
)
def test_hardly_a_file(state, words):
    with pytest.raises(UserError, match=words):
        convert(state)


def test_shapes_that_no_network_has():
    table = "layers.0.residual_group.blocks.0.attn.relative_position_bias_table"
    with pytest.raises(UserError, match="1000000 rows: no window's"):
        convert(state_of("hat", "x1") | {table: np.broadcast_to(np.float32(0), (1_000_000, 2))})
    squeeze = "layers.0.residual_group.blocks.0.conv_block.cab.3.attention.1.weight"
    with pytest.raises(UserError, match="no network has the shapes"):
        convert(state_of("hat", "x1") | {squeeze: np.ones((25, 24, 1, 1), "f4")})


def test_a_second_file_without_need_is_questioned():
    with pytest.raises(UserError, match=r"other.pth.*what is this one for"):
        convert(state_of("srcnn", "915"), state_of("srcnn", "955"))


def test_a_file_of_state_dicts_alone(tmp_path):
    write_state_dict(tmp_path / "srcnn.pth", state_of("srcnn", "915"))
    assert read_checkpoint(tmp_path / "srcnn.pth").config["model"]["network"]["kernels"] == (
        9,
        1,
        5,
    )

"""Checkpoints of the compared systems, as model directories hold them.

Which system a file is of follows from its entries' names; widths, depths, scale and windows from
their shapes. Two systems keep a second network in a file of its own, which is given beside the
first: ResShift its autoencoder, ResDiff its CNN.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lpdiff_jax.errors import UserError
from lpdiff_jax.pytorch.baselines import hat, mapping, real_esrgan, resdiff, resshift, srcnn
from lpdiff_jax.pytorch.checkpoint import plain_state_dict
from lpdiff_jax.storage.model_directory import StoredModel

_LINEAR_BETAS = (1e-6, 1e-2, 1000)
# Least noise of a published chain by its steps.
_CHAIN_STARTS = {15: 0.04, 4: 0.2}


class Asked(NamedTuple):
    """What a file cannot tell.

    Attributes:
      image_size: (height, width) that the model works at.
      steps: of ResShift's chain, 15 or 4 in what is published.
      norm_groups: of ResDiff's group norms.
    """

    image_size: tuple[int, int] = (112, 224)
    steps: int = 15
    norm_groups: int = 32


class Part(NamedTuple):
    """One file's state dict."""

    state: mapping.StateDict
    source: str


def recognise(content: Any) -> bool:
    """Whether a file's content is of one of the compared systems."""
    try:
        state = plain_state_dict(content, "")
    except UserError:
        return False
    return any(known(state) for known, _ in (*_SYSTEMS, *_PARTS))


def from_contents(contents: Sequence[tuple[Any, str]], asked: Asked | None = None) -> StoredModel:
    """A model from what one file holds, or two; each with its name for messages.

    Raises:
      UserError: a file is of none of the systems, or lacks entries: it lists which.
    """
    parts = [Part(plain_state_dict(content, source), source) for content, source in contents]
    return from_state_dicts(parts, asked)


def from_state_dicts(parts: Sequence[Part], asked: Asked | None = None) -> StoredModel:
    """As `from_contents`, from state dicts."""
    asked = asked or Asked()
    for part in parts:
        for known, convert in _SYSTEMS:
            if known(part.state):
                others = [other for other in parts if other is not part]
                return convert(part, others, asked)
    for part in parts:
        for known, sentence in _PARTS:
            if known(part.state):
                raise UserError(f"{part.source}: {sentence}")
    raise UserError(
        f"{parts[0].source}: of none of the systems SRCNN, HAT, Real-ESRGAN, ResDiff, ResShift; it "
        f"has {mapping.listing(parts[0].state) or 'no tensors by name'}"
    )


def _alone(others: Sequence[Part], system: str) -> None:
    if others:
        raise UserError(f"{others[0].source}: {system} has one file; what is this one for?")


def _regression(
    part: Part, network: dict[str, Any], variables: mapping.Variables, channels: int, asked: Asked
) -> StoredModel:
    model = _section(asked, channels) | {"network": network}
    return StoredModel({"method": "regression", "model": model}, {"network": variables}, {})


def _section(asked: Asked, channels: int) -> dict[str, Any]:
    """What the `model` sections of all systems have."""
    return {
        "image_size": list(asked.image_size),
        "dtype": "float32",
        "frames": "nearest" if channels == 3 else "stacked",
        "count": channels // 3,
    }


def _wrapped(variables: mapping.Variables) -> mapping.Variables:
    """Variables of a module that is a part of another."""
    return {kind: {"network": tree} for kind, tree in variables.items()}


def _srcnn(part: Part, others: Sequence[Part], asked: Asked) -> StoredModel:
    _alone(others, "SRCNN")
    _, variables = srcnn.load(*part)
    fields = {"name": "srcnn"} | srcnn.infer(*part)
    channels = part.state["conv1.weight"].shape[1]
    return _regression(part, fields, _wrapped(variables), channels, asked)


def _hat(part: Part, others: Sequence[Part], asked: Asked) -> StoredModel:
    _alone(others, "HAT")
    _, variables = hat.load(*part)
    fields = {"name": "hat"} | hat.infer(*part)
    channels = part.state["conv_first.weight"].shape[1]
    return _regression(part, fields, _wrapped(variables), channels, asked)


def _real_esrgan(part: Part, others: Sequence[Part], asked: Asked) -> StoredModel:
    others = [other for other in others if not real_esrgan.recognise_discriminator(other.state)]
    _alone(others, "Real-ESRGAN's generator")
    _, variables = real_esrgan.load(*part)
    fields = {"name": "rrdb"} | real_esrgan.infer(*part)
    stored = _regression(part, fields, _wrapped(variables), 3, asked)
    return dataclasses.replace(stored, config=stored.config | {"method": "real_esrgan"})


def _resdiff(part: Part, others: Sequence[Part], asked: Asked) -> StoredModel:
    whole = Part(_with_cnn(part, others), part.source)
    cnn, cnn_variables = resdiff.load_cnn(*whole)
    _, variables = resdiff.load_denoiser(*whole, norm_groups=asked.norm_groups)
    width = whole.state["denoise_fn.fd_spliter.noise_func.weight"].shape[0]
    # The published program works on squares; the width is fixed by the gate of the noise.
    size = asked.image_size if asked.image_size[1] == width else (width, width)
    channels = whole.state["cnn.conv1.weight"].shape[1]
    betas = part.state.get("betas")
    model = _section(asked._replace(image_size=size), channels) | {
        "cnn": resdiff.infer_cnn(*whole),
        "denoiser": resdiff.infer(*whole) | {"norm_groups": asked.norm_groups},
        "schedule": {"betas": (np.linspace(*_LINEAR_BETAS) if betas is None else betas).tolist()},
        "prediction": "noise",
        "residual_scale": 1.0,
        "clip": "residual",
    }
    if cnn.scale != 1:
        raise UserError(f"{part.source}: its CNN enlarges by {cnn.scale}; plates keep their size")
    steps = len(model["schedule"]["betas"])
    config = {
        "method": "resdiff",
        "model": model,
        "sampler": {"name": "ddpm", "steps": steps, "eta": 0.0},
    }
    extra = {n: a for n, a in part.state.items() if not n.startswith(("cnn.", "denoise_fn."))}
    return StoredModel(config, {"cnn": cnn_variables, "denoiser": variables}, extra)


def _with_cnn(part: Part, others: Sequence[Part]) -> mapping.StateDict:
    """ResDiff's entries, those of the CNN from a file of its own where there is one."""
    state = {n: a for n, a in part.state.items() if n.startswith(("cnn.", "denoise_fn."))}
    for other in others:
        if not _is_cnn(other.state):
            raise UserError(f"{other.source}: not ResDiff's CNN (conv1, conv2, conv3 of 3 x 3)")
        state |= {f"cnn.{name.removeprefix('cnn.')}": array for name, array in other.state.items()}
    if not any(name.startswith("cnn.") for name in state):
        raise UserError(
            f"{part.source}: ResDiff's denoiser without the CNN whose prediction it corrects; give "
            "the CNN's file beside it (import-torch --with CNN.pth)"
        )
    return state


def _resshift(part: Part, others: Sequence[Part], asked: Asked) -> StoredModel:
    network, variables = resshift.load(*part)
    channels = part.state["input_blocks.0.0.weight"].shape[1] - network.out_channels
    if network.condition_halvings:
        channels = part.state["feature_extractor.0.weight"].shape[1]
    model = _section(asked, channels) | {
        "denoiser": resshift.infer(*part),
        "schedule": {"steps": asked.steps, "start": _CHAIN_STARTS.get(asked.steps, 0.04)},
    }
    stored = {"denoiser": variables}
    if network.condition_halvings:
        model["autoencoder"], stored["autoencoder"] = _autoencoder(part, others)
    else:
        _alone(others, "ResShift in pixels")
        model["autoencoder"] = None
    return StoredModel({"method": "resshift", "model": model}, stored, {})


def _autoencoder(part: Part, others: Sequence[Part]) -> tuple[dict[str, Any], mapping.Variables]:
    for other in others:
        if resshift.recognise_autoencoder(other.state):
            _, variables = resshift.load_autoencoder(*other)
            return resshift.infer_autoencoder(*other), variables
    raise UserError(
        f"{part.source}: ResShift in the latents of an autoencoder; give the autoencoder's file "
        "beside it (import-torch --with autoencoder_vq_f4.pth)"
    )


def _is_cnn(state: mapping.StateDict) -> bool:
    """Whether the state dict is of ResDiff's CNN: SRCNN has larger kernels."""
    names = {f"conv{i}.weight" for i in (1, 2, 3)}
    own = {name.removeprefix("cnn."): array for name, array in state.items()}
    return names <= own.keys() and all(own[name].shape[2:] == (3, 3) for name in names)


def _is_srcnn(state: mapping.StateDict) -> bool:
    return srcnn.recognise(state) and not _is_cnn(state)


def _is_resdiff(state: mapping.StateDict) -> bool:
    return any(name.startswith("denoise_fn.fd_spliter.") for name in state)


_Recognise = Callable[[mapping.StateDict], bool]
_SYSTEMS: tuple[tuple[_Recognise, Callable[[Part, Sequence[Part], Asked], StoredModel]], ...] = (
    (_is_srcnn, _srcnn),
    (hat.recognise, _hat),
    (real_esrgan.recognise, _real_esrgan),
    (_is_resdiff, _resdiff),
    (resshift.recognise, _resshift),
)
_PARTS: tuple[tuple[_Recognise, str], ...] = (
    (
        real_esrgan.recognise_discriminator,
        "Real-ESRGAN's discriminator, which restores nothing; give the generator's file "
        "(body.0.rdb1...)",
    ),
    (
        resshift.recognise_autoencoder,
        "an autoencoder alone; give the file of ResShift's network, and this one with --with",
    ),
    (_is_cnn, "ResDiff's CNN alone; give the denoiser's file, and this one with --with"),
)

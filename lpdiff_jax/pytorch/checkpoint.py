"""Checkpoints of the published PyTorch program (`..._gen.pth`) in and out, every bit of them kept.

The network's shape is read from the names and shapes of the state dict. What they cannot tell
(GroupNorm's groups, the image size) is an argument; the noise schedule comes from the file's own
buffers. Entries that our modules have no use for travel along as `extra`.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.tree import printable
from lpdiff_jax.diffusion.schedule import MAX_STEPS
from lpdiff_jax.errors import UserError
from lpdiff_jax.methods.lpdiff.model import LPDiff, build_model
from lpdiff_jax.methods.lpdiff.released import released_model
from lpdiff_jax.models import condition, unet
from lpdiff_jax.pytorch.names import Layout, layout_of, torch_name
from lpdiff_jax.storage.model_directory import StoredModel
from lpdiff_jax.storage.torch_archive import read_torch_file, write_state_dict

StateDict = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]
# Bounds of what a file may ask for: far beyond the published sizes, and built in seconds.
_MAX_ENTRIES = 20_000
_MAX_NAME = 300
_MAX_WIDTH = 16_384
_MAX_LEVELS = 10
_MAX_BLOCKS = 16
_MAX_KERNEL = 64
_MAX_SIDE = 4096
_MAX_GROUPS = 4096
# What programs wrap a state dict in, the wanted ones first (BasicSR's params_ema is the average).
_WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict", "model")
# What wrappers of modules put into names: DataParallel, torch.compile.
_PREFIXES = ("module", "_orig_mod")
_LISTED = 12  # entries named in a message before it says how many more there are

# Fields that any model of the published architecture may choose.
_CONDITION_SIZES = {"features", "strides", "channel_kernel"}
_DENOISER_SIZES = {"features", "multipliers", "blocks", "norm_groups", "dropout"} | {
    "nominal_resolution", "attention_resolutions",
}  # fmt: skip
_UNUSED = "MTA.IntraframeAtt.feature_fusion."  # in every checkpoint, in no computation
_UNUSED_SHAPES = {
    "conv1.weight": (3, 6, 3, 3),
    "conv1.bias": (3,),
    "conv2.weight": (3, 3, 3, 3),
    "conv2.bias": (3,),
    "batchnorm.weight": (3,),
    "batchnorm.bias": (3,),
    "batchnorm.running_mean": (3,),
    "batchnorm.running_var": (3,),
}


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Where a state-dict entry lives in our variables, and how it is laid out."""

    path: tuple[str, ...]
    layout: Layout
    shape: tuple[int, ...]  # there


def read_checkpoint(
    path: str | Path,
    *,
    norm_groups: int = 32,
    betas: Sequence[float] | None = None,
    image_size: tuple[int, int] = (112, 224),
    companion: str | Path | None = None,
    chain_steps: int = 15,
) -> StoredModel:
    """Reads a `..._gen.pth` of the published program. Nothing in the file is executed.

    A file of one of the systems that LP-Diff is compared with is read too, see
    `pytorch.baselines.reading`.

    The result's `config` has the sections `model` and `sampler` that compute what the published
    program computes; its `extra` holds what they do not use (schedule buffers, counters, unused
    layers), by the names there.

    Args:
      path: the path of the file.
      norm_groups: groups of the denoiser's GroupNorm (the published default is 32). A wrong number
        gives wrong restorations, and nothing in the file can tell.
      betas: the noise schedule, [T] in (0, 1], for files without their own (or instead of it).
      image_size: (height, width) that the model works at.
      companion: a second file, where a compared system has two.
      chain_steps: the steps of ResShift's chain.

    Raises:
      UserError: not such a file; or entries are missing, extra or of the wrong shape: it lists
        which.
    """
    from lpdiff_jax.pytorch.baselines import reading  # whose state dicts are unwrapped here

    content = read_torch_file(path)
    others = [] if companion is None else [(read_torch_file(companion), str(companion))]
    if others or reading.recognise(content):
        _check_choices(norm_groups, image_size, str(path))
        asked = reading.Asked(image_size, chain_steps, norm_groups)
        return reading.from_contents([(content, str(path)), *others], asked)
    state = _state_dict(content, str(path))
    return from_state_dict(
        state, norm_groups=norm_groups, betas=betas, image_size=image_size, source=str(path)
    )


def from_state_dict(
    state: StateDict,
    *,
    norm_groups: int = 32,
    betas: Sequence[float] | None = None,
    image_size: tuple[int, int] = (112, 224),
    source: str = "state dict",
) -> StoredModel:
    """As `read_checkpoint`, from the state dict itself (numpy arrays by name)."""
    _check_choices(norm_groups, image_size, source)
    shapes = {name: array.shape for name, array in state.items()}
    config = released_model(image_size) | {
        "condition": _infer_condition(shapes, source),
        "denoiser": _infer_denoiser(shapes, norm_groups, source),
        "schedule": {"betas": _betas(state, betas, source)},
    }
    try:
        model = build_model(config)
        entries = _entries(model)
    except (ValueError, TypeError, LookupError, ArithmeticError, UserError) as error:
        raise UserError(
            f"{source}: cannot be built with image size {image_size} and {norm_groups} norm "
            f"groups ({error}); give others"
        ) from error
    companions = _companions(model, entries)
    if betas is not None:  # the file's own buffers describe another schedule
        state = {name: a for name, a in state.items() if name not in model.schedule.buffers()}
    _check(state, entries, companions, source)
    flat = {e.path: e.layout.from_torch(state[name]) for name, e in entries.items()}
    sampler = {"name": "ddpm", "steps": len(config["schedule"]["betas"]), "eta": 0.0}
    return StoredModel(
        config={"model": config, "sampler": sampler},
        variables=flax.traverse_util.unflatten_dict(flat),
        extra={name: array for name, array in state.items() if name not in entries},
    )


def to_state_dict(
    model: LPDiff, variables: Mapping[str, Any], extra: StateDict | None = None
) -> dict[str, np.ndarray]:
    """Returns the state dict that the published program loads, `strict=True` included.

    Args:
      model: a model of the published architecture.
      variables: the variables of the model.
      extra: entries to write as they are. Those that the program demands and that are missing
        here are made: buffers from the schedule, zero counters, unused layers at zero.

    Raises:
      UserError: the published program has no place for this model.
    """
    _check_released(model)
    flat = flax.traverse_util.flatten_dict(dict(variables))
    entries = _entries(model)
    missing = [name for name, entry in entries.items() if entry.path not in flat]
    if missing:
        raise UserError(
            f"the model has no weights for {_listing(missing)}; train every stage first"
        )
    weights = {name: e.layout.to_torch(np.asarray(flat[e.path])) for name, e in entries.items()}
    return _companions(model, weights) | weights | dict(extra or {})


def write_checkpoint(
    path: str | Path, model: LPDiff, variables: Mapping[str, Any], extra: StateDict | None = None
) -> None:
    """Writes a `..._gen.pth` that `torch.load` reads; arguments as of `to_state_dict`."""
    write_state_dict(path, to_state_dict(model, variables, extra))


# --- what a file holds -----------------------------------------------------------------------


def _state_dict(content: Any, source: str) -> StateDict:
    """Returns LP-Diff's state dict in a file's content, or says what it is instead."""
    content = plain_state_dict(content, source)
    if not any(name.startswith(("denoise_fn.", "MTA.")) for name in content):
        raise UserError(
            f"{source}: not a checkpoint of LP-Diff (whose entries begin with denoise_fn. and "
            f"MTA.); it has {_listing(content)}"
        )
    return content


def plain_state_dict(content: Any, source: str) -> dict[str, np.ndarray]:
    """Returns the arrays by name in a file's content, out of what programs wrap them in.

    Raises:
      UserError: there are none, or names or objects that no program writes.
    """
    if isinstance(content, dict) and "optimizer" in content:
        raise UserError(
            f"{source}: this is the optimizer's half of a checkpoint; the weights are in the file "
            "whose name ends in _gen.pth"
        )
    content = _unwrapped(content)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{source}: holds no state dict (tensors by name)")
    if len(content) > _MAX_ENTRIES:
        raise UserError(f"{source}: {len(content)} entries are more than any checkpoint has")
    wrong = [
        name if isinstance(name, str) else "a number"
        for name, value in content.items()
        if not (isinstance(name, str) and isinstance(value, np.ndarray))
    ]
    if wrong:
        raise UserError(f"{source}: not a plain state dict; not tensors by name: {_listing(wrong)}")
    odd = [name for name in content if len(name) > _MAX_NAME or not name.isprintable()]
    if odd:
        raise UserError(f"{source}: damaged: names that no program writes: {_listing(odd)}")
    return _without_prefixes(content, source)


def _unwrapped(content: Any) -> Any:
    """The state dict inside of what programs wrap it in; the content itself where there is none."""
    for _ in _WRAPPERS:
        if not isinstance(content, dict):
            break
        inner = [content[w] for w in _WRAPPERS if isinstance(content.get(w), dict) and content[w]]
        if not inner:
            break
        content = inner[0]
    return content


def _without_prefixes(state: StateDict, source: str) -> dict[str, np.ndarray]:
    """The entries without what DataParallel and torch.compile put into their names."""
    found = {}
    for name, array in state.items():
        plain = ".".join(part for part in name.split(".") if part not in _PREFIXES)
        if plain in found:
            raise UserError(f"{source}: holds {plain} twice, once as {name}")
        found[plain] = array
    return found


def _check_choices(norm_groups: int, image_size: tuple[int, int], source: str) -> None:
    """Raises UserError for what no network can have."""
    if not 1 <= norm_groups <= _MAX_GROUPS:
        raise UserError(f"{source}: norm groups are 1 to {_MAX_GROUPS}, not {norm_groups}")
    if len(image_size) != 2 or not all(1 <= side <= _MAX_SIDE for side in image_size):
        raise UserError(f"{source}: image sizes are 1 to {_MAX_SIDE} each way, not {image_size}")


def _infer_condition(shapes: Shapes, source: str) -> dict[str, Any]:
    """Reads the condition network's widths from names and shapes."""
    # Convolutions and norms alternate; both have weights.
    convolutions = _numbers(shapes, r"MTA\.encoder\.encoder\.(\d+)\.weight")[::2]
    if not convolutions:
        raise UserError(f"{source}: lacks all entries of MTA.encoder")
    _check_count("stages of MTA.encoder", len(convolutions), _MAX_LEVELS, source)
    name = "MTA.IntraframeAtt.channel_attention.channel_conv1.weight"
    kernel = _last(shapes, name, 1)
    _check_count(f"the kernel of {name}", kernel, _MAX_KERNEL, source)
    return condition.RELEASED | {
        "features": tuple(
            _width(shapes, f"MTA.encoder.encoder.{i}.weight", source) for i in convolutions
        ),
        "strides": _strides(len(convolutions)),
        "channel_kernel": kernel,
    }


def _strides(stages: int) -> tuple[int, ...]:
    """The published encoder halves at every stage but the last."""
    return (2,) * (stages - 1) + (1,)


def _infer_denoiser(shapes: Shapes, norm_groups: int, source: str) -> dict[str, Any]:
    """Reads widths, multipliers, blocks and where attention is from names and shapes."""
    shrinks = _numbers(shapes, r"denoise_fn\.downs\.(\d+)\.conv\..*")
    residual = _numbers(shapes, r"denoise_fn\.downs\.(\d+)\.res_block\..*")
    if not residual:
        raise UserError(f"{source}: lacks all residual blocks of denoise_fn.downs")
    levels = len(shrinks) + 1
    blocks = (shrinks[0] if shrinks else residual[-1] + 1) - 1
    _check_count("levels of denoise_fn.downs", levels, _MAX_LEVELS, source)
    _check_count("blocks per level of denoise_fn.downs", blocks, _MAX_BLOCKS, source)
    features = _width(shapes, "denoise_fn.downs.0.weight", source)
    widths = [
        _width(shapes, f"denoise_fn.downs.{first}.res_block.block1.block.3.weight", source)
        for first in range(1, 1 + levels * (blocks + 1), blocks + 1)
    ]
    if any(width % features for width in widths):
        raise UserError(f"{source}: widths {widths} are not multiples of the first, {features}")
    attending = _numbers(shapes, r"denoise_fn\.downs\.(\d+)\.attn\..*")
    nominal = max(unet.RELEASED["nominal_resolution"], 2 ** (levels - 1))
    return unet.RELEASED | {
        "features": features,
        "multipliers": tuple(width // features for width in widths),
        "blocks": blocks,
        "norm_groups": norm_groups,
        "nominal_resolution": nominal,
        "attention_resolutions": tuple(
            nominal // 2**level for level in sorted({(i - 1) // (blocks + 1) for i in attending})
        ),
    }


def _width(shapes: Shapes, name: str, source: str) -> int:
    if not shapes.get(name):
        raise UserError(f"{source}: lacks {name}, without which the network's shape is unknown")
    _check_count(f"the width of {name}", shapes[name][0], _MAX_WIDTH, source)
    return shapes[name][0]


def _last(shapes: Shapes, name: str, default: int) -> int:
    """The length of an entry's last axis."""
    return shapes[name][-1] if shapes.get(name) else default


def _check_count(what: str, count: int, most: int, source: str) -> None:
    if not 1 <= count <= most:
        raise UserError(f"{source}: {what}: {count}; allowed: 1 to {most}")


def _numbers(names: Iterable[str], pattern: str) -> list[int]:
    """The numbers that the pattern's group takes among the names, ascending."""
    # As many digits as a number may have that stands for a place in a network.
    pattern = pattern.replace(r"\d+", "[0-9]{1,6}")
    return sorted({int(match[1]) for name in names if (match := re.fullmatch(pattern, name))})


def _betas(state: StateDict, betas: Sequence[float] | None, source: str) -> list[float]:
    if betas is None:
        if "betas" not in state:
            raise UserError(f"{source}: has no schedule buffer `betas`; give betas")
        betas = state["betas"].ravel()[: MAX_STEPS + 1].astype(np.float64).tolist()
    values = np.asarray(betas, np.float64)
    _check_count("steps of the noise schedule", max(values.size, 1), MAX_STEPS, source)
    if not (values.ndim == 1 and values.size and (values > 0).all() and (values <= 1).all()):
        raise UserError(f"{source}: the noise schedule's betas are not all in (0, 1]")
    return values.tolist()


# --- names against variables -----------------------------------------------------------------


def _entries(model: LPDiff) -> dict[str, _Entry]:
    """Every variable of the model by its name there, in the published order of modules."""
    variables = jax.eval_shape(model.init, jax.random.key(0))
    levels, blocks = len(model.denoiser.multipliers), model.denoiser.blocks
    entries = {}
    for path, value in flax.traverse_util.flatten_dict(variables).items():
        layout = layout_of(path, len(value.shape))
        shape = layout.to_torch(np.broadcast_to(np.float32(0), value.shape)).shape
        entries[torch_name(path, levels, blocks)] = _Entry(path, layout, shape)
    return entries


def _check(
    state: StateDict, entries: Mapping[str, _Entry], companions: StateDict, source: str
) -> None:
    """Raises unless every entry is there, all are of the right kind, and none is unknown."""
    shapes = {name: entry.shape for name, entry in entries.items()}
    shapes |= {name: array.shape for name, array in companions.items()}
    problems = {
        "missing": [name for name in entries if name not in state],
        "extra": [name for name in state if name not in shapes],
        "of the wrong shape": [
            f"{name} ({state[name].shape}, expected {shape})"
            for name, shape in shapes.items()
            if name in state and state[name].shape != shape
        ],
        "not of floating point": [
            name
            for name in entries
            if name in state and not jnp.issubdtype(state[name].dtype, jnp.floating)
        ],
        "with values that are no numbers (NaN or infinite)": [
            name for name in entries if name in state and not _is_finite(state[name])
        ],
    }
    found = [f"  {kind}: {_listing(names)}" for kind, names in problems.items() if names]
    if found:
        raise UserError("\n".join([f"{source}: does not fit the published network:", *found]))


def _is_finite(array: np.ndarray) -> bool:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return True
    return bool(np.isfinite(array.astype(np.float32, copy=False)).all())


def _listing(names: Iterable[str]) -> str:
    names = [printable(name[:200]) for name in names]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _check_released(model: LPDiff) -> None:
    """Raises unless the published program computes what this model does."""
    published = build_model(released_model())
    psi_fields = ({"heads"} | condition.RELEASED.keys()) - _CONDITION_SIZES
    denoiser_fields = ({"out_channels"} | unet.RELEASED.keys()) - _DENOISER_SIZES
    compared = [
        ("", model, published, {"prediction", "residual_scale", "clip", "guide_frame"}),
        ("condition.", model.condition, published.condition, psi_fields),
        ("denoiser.", model.denoiser, published.denoiser, denoiser_fields),
    ]
    wrong = [
        f"{prefix}{name}={getattr(ours, name)!r} (there {getattr(theirs, name)!r})"
        for prefix, ours, theirs, names in compared
        for name in sorted(names)
        if getattr(ours, name) != getattr(theirs, name)
    ]
    if model.condition.strides != _strides(len(model.condition.features)):
        wrong.append(f"condition.strides={model.condition.strides}")
    if wrong:
        raise UserError(
            "the published program cannot hold this model, only models with its own architecture; "
            f"here differ: {_listing(wrong)}"
        )


def _companions(model: LPDiff, entries: Iterable[str]) -> dict[str, np.ndarray]:
    """What a published checkpoint holds beside the weights, as it starts out there."""
    unused = {
        _UNUSED + name: np.full(shape, float(name.endswith("running_var")), np.float32)
        for name, shape in _UNUSED_SHAPES.items()
    }
    counters = {
        name.replace("running_mean", "num_batches_tracked"): np.zeros((), np.int64)
        for name in [*entries, *unused]
        if name.endswith("running_mean")
    }
    return model.schedule.buffers() | unused | counters

"""The published program's names and layouts of parameters, against ours.

One table leads from the path of a flax variable to the name of a state-dict entry; a layout says
how the array's axes are ordered there, and has an exact inverse.
"""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

Path = tuple[str, ...]  # e.g. ('condition', 'params', 'icam', 'query', 'kernel')


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an array is stored there: `to_torch` undoes `from_torch`, bit for bit."""

    from_torch: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]


def _permutation(*axes: int) -> Layout:
    inverse = tuple(np.argsort(axes))
    return Layout(lambda array: array.transpose(axes), lambda array: array.transpose(inverse))


SAME = Layout(lambda array: array, lambda array: array)
DENSE = _permutation(1, 0)  # [out, in] -> [in, out]
CONV1D = _permutation(2, 1, 0)  # [out, in, k] -> [k, in, out]
CONV2D = _permutation(2, 3, 1, 0)  # [out, in, kh, kw] -> [kh, kw, in, out]
# [in, out, kh, kw] -> [kh, kw, in, out], turned by 180 degrees: PyTorch states the kernel of the
# convolution that is transposed.
TRANSPOSED = Layout(
    lambda array: array.transpose(2, 3, 0, 1)[::-1, ::-1],
    lambda array: array[::-1, ::-1].transpose(2, 3, 0, 1),
)
# A 1x1 convolution there, a dense layer over positions here: [out, in, 1, 1] -> [in, out].
POINTWISE = Layout(
    lambda array: array[:, :, 0, 0].transpose(1, 0),
    lambda array: array.transpose(1, 0)[:, :, None, None],
)

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_ATTENTION_LINEAR = {"query": "q_linear", "key": "k_linear", "value": "v_linear"}
BLOCK_PARTS = {
    "residual/norm1": "res_block.block1.block.0",
    "residual/conv1": "res_block.block1.block.3",
    "residual/embedding": "res_block.noise_func.noise_func.0",
    "residual/norm2": "res_block.block2.block.0",
    "residual/conv2": "res_block.block2.block.3",
    "residual/shortcut": "res_block.res_conv",
    "attention/norm": "attn.norm",
    "attention/qkv": "attn.qkv",
    "attention/out": "attn.out",
}
_SINGLE = {
    "embed/fc1": "noise_level_mlp.1",
    "embed/fc2": "noise_level_mlp.3",
    "stem": "downs.0",
    "head_norm": "final_conv.block.0",
    "head": "final_conv.block.3",
}


def torch_name(path: Path, levels: int, blocks: int) -> str:
    """Returns the state-dict name of a variable of the published architecture.

    Args:
      path: where the variable is in `{'condition': ..., 'denoiser': ...}`.
      levels: the denoiser's levels.
      blocks: its residual blocks a level.

    Raises:
      KeyError: the published architecture has no such variable.
    """
    part, _, *modules, leaf = path
    module = "/".join(modules)
    if part == "condition":
        name = f"MTA.{_condition_module(module)}"
    else:
        name = f"denoise_fn.{_denoiser_module(module, levels, blocks)}"
    return f"{name}.{_LEAVES[leaf]}"


def layout_of(path: Path, ndim: int) -> Layout:
    """Returns the layout of a variable with `ndim` axes."""
    if path[-1] != "kernel":
        return SAME
    if "attention" in path:
        return POINTWISE
    if path[2] == "decoder":
        return TRANSPOSED
    return {2: DENSE, 3: CONV1D, 4: CONV2D}[ndim]


def _condition_module(module: str) -> str:
    if match := re.fullmatch(r"(encoder|decoder)/(conv|norm)_(\d+)(/batch)?", module):
        coder, kind, index = match[1], match[2], int(match[3])
        return f"{coder}.{coder}.{3 * index + (kind == 'norm')}"
    if match := re.fullmatch(r"icam/(\w+)", module):
        name = match[1]
        return f"crossatt.{_ATTENTION_LINEAR.get(name, name if name != 'out' else 'out_linear')}"
    if match := re.fullmatch(r"dfm/(channel|spatial)_convs_(\d)", module):
        pathway, index = match[1], int(match[2])
        return f"IntraframeAtt.{pathway}_attention.{pathway}_conv{index + 1}"
    raise KeyError(module)


def _denoiser_module(module: str, levels: int, blocks: int) -> str:
    if module in _SINGLE:
        return _SINGLE[module]
    if match := re.fullmatch(r"(shrink|grow)_(\d+)", module):
        stage, last = ("downs", blocks) if match[1] == "shrink" else ("ups", blocks + 1)
        return f"{_position(stage, int(match[2]), last, levels, blocks)}.conv"
    if match := re.fullmatch(r"mid/(\w+/\w+)", module):
        return f"mid.0.{BLOCK_PARTS[match[1]]}"
    if match := re.fullmatch(r"(down|up)_(\d+)_(\d+)/(\w+/\w+)", module):
        index = _position(f"{match[1]}s", int(match[2]), int(match[3]), levels, blocks)
        return f"{index}.{BLOCK_PARTS[match[4]]}"
    raise KeyError(module)


def _position(stage: str, level: int, index: int, levels: int, blocks: int) -> str:
    """The published program numbers the modules of all levels through, in their order of use."""
    if stage == "downs":  # the stem is number 0; each level ends with its strided convolution
        return f"downs.{1 + level * (blocks + 1) + index}"
    return f"ups.{(levels - 1 - level) * (blocks + 2) + index}"

"""ResDiff's checkpoints: `cnn.` and `denoise_fn.`; several modules are as LP-Diff has them."""

import re
from typing import Any

from lpdiff_jax.errors import UserError
from lpdiff_jax.models.baselines.resdiff import GuidedUNet, SimpleCNN
from lpdiff_jax.pytorch.baselines import mapping
from lpdiff_jax.pytorch.names import BLOCK_PARTS

CNN_NAMES = mapping.Names(mapping.simple_names([(r"(conv\d)", r"\1")], prefix="cnn."))

_MODULES = {
    "embed/fc1": "noise_level_mlp.1",
    "embed/fc2": "noise_level_mlp.3",
    "splitter/gate": "fd_spliter.noise_func",
    "splitter/low": "fd_spliter.channel_transform",
    "stem": "downs.0",
    "head_norm": "final_conv.block.0",
    "head": "final_conv.block.3",
}
_SQUEEZES = {"gate": "noise_resSE", "sigma": "sigma_resSE", "low": "HF_guided_resSE"}
_SQUEEZE_PARTS = {"squeeze": "fc.0", "excite": "fc.2"}
_GUIDED_PARTS = {"norm": "norm", "key_value": "kv", "query": "q", "out": "out"}


def names_of(network: GuidedUNet) -> mapping.Names:
    """The names of a denoiser's variables, which number the blocks of all levels through."""
    levels, blocks = len(network.multipliers), network.blocks

    def torch_name(path: mapping.Path) -> str:
        *parts, leaf = path[1:]
        return f"denoise_fn.{_module('/'.join(parts), levels, blocks)}.{mapping.LEAVES[leaf]}"

    # There are four guided attentions whatever the levels; those beyond them are never used.
    unused = "|".join(map(str, range(levels - 1, 4))) or r"(?!)"
    return mapping.Names(torch_name, ignored=rf"denoise_fn\.hf_ca_list\.({unused})\..*")


def _module(module: str, levels: int, blocks: int) -> str:
    if module in _MODULES:
        return _MODULES[module]
    if match := re.fullmatch(r"splitter/(\w+)_squeeze/(\w+)", module):
        return f"fd_spliter.{_SQUEEZES[match[1]]}.{_SQUEEZE_PARTS[match[2]]}"
    if match := re.fullmatch(r"guided_(\d+)/(\w+)", module):
        return f"hf_ca_list.{match[1]}.{_GUIDED_PARTS[match[2]]}"
    if match := re.fullmatch(r"mid_(\d)/(.+)", module):
        return f"mid.{match[1]}.{BLOCK_PARTS[match[2]]}"
    if match := re.fullmatch(r"shrink_(\d+)", module):
        return f"downs.{(int(match[1]) + 1) * (blocks + 1)}.conv"
    if match := re.fullmatch(r"grow_(\d+)", module):
        return f"ups.{(levels - int(match[1])) * (blocks + 2) - 1}.conv"
    if match := re.fullmatch(r"(down|up)_(\d+)_(\d+)/(.+)", module):
        level, index, part = int(match[2]), int(match[3]), BLOCK_PARTS[match[4]]
        if match[1] == "down":
            return f"downs.{1 + level * (blocks + 1) + index}.{part}"
        return f"ups.{(levels - 1 - level) * (blocks + 2) + index}.{part}"
    raise KeyError(module)


def infer_cnn(state: mapping.StateDict, source: str) -> dict[str, Any]:
    """The arguments of `SimpleCNN` that a state dict describes; its scale from the last layer.

    Raises:
      UserError: what says the network's shape is missing or does not fit.
    """
    first, second, last = (
        mapping.shape_of(state, f"cnn.conv{i}.weight", source, 4)[0] for i in (1, 2, 3)
    )
    scale = round((last / 3) ** 0.5)
    if last != 3 * scale**2:
        raise UserError(f"{source}: cnn.conv3 makes {last} channels, not 3 for each pixel")
    return {"features": (first, second), "scale": scale}


def infer(state: mapping.StateDict, source: str) -> dict[str, Any]:
    """The arguments of `GuidedUNet` that a state dict describes.

    Norm groups and dropout cannot be told; they are the published ones.

    Raises:
      UserError: what says the network's shape is missing or does not fit.
    """
    shrinks = mapping.numbers(state, r"denoise_fn\.downs\.(\d+)\.conv\..*")
    residual = mapping.numbers(state, r"denoise_fn\.downs\.(\d+)\.res_block\..*")
    if not residual:
        raise UserError(f"{source}: lacks all residual blocks of denoise_fn.downs")
    blocks = (shrinks[0] if shrinks else residual[-1] + 1) - 1
    features = mapping.shape_of(state, "denoise_fn.downs.0.weight", source, 4)[0]
    firsts = range(1, 1 + (len(shrinks) + 1) * (blocks + 1), blocks + 1)
    widths = [
        mapping.shape_of(state, f"denoise_fn.downs.{i}.res_block.block1.block.3.weight", source, 4)[
            0
        ]
        for i in firsts
    ]
    if any(width % features for width in widths):
        raise UserError(f"{source}: widths {widths} are not multiples of the first, {features}")
    attending = mapping.numbers(state, r"denoise_fn\.downs\.(\d+)\.attn\..*")
    return {
        "features": features,
        "multipliers": tuple(width // features for width in widths),
        "blocks": blocks,
        "attention_levels": tuple(sorted({(i - 1) // (blocks + 1) for i in attending})),
        "splitter": "released",
    }


def load_cnn(state: mapping.StateDict, source: str) -> tuple[SimpleCNN, mapping.Variables]:
    """The CNN and its variables, from the entries that begin with `cnn.`.

    Raises:
      UserError: as `infer_cnn` and `mapping.load`.
    """
    network = SimpleCNN(**infer_cnn(state, source))
    own = {name: array for name, array in state.items() if name.startswith("cnn.")}
    channels = mapping.shape_of(own, "cnn.conv1.weight", source, 4)[1]
    x = mapping.image(16, 16, channels)
    return network, mapping.load(own, network, CNN_NAMES, x, source=source)


def load_denoiser(
    state: mapping.StateDict, source: str, **fields: Any
) -> tuple[GuidedUNet, mapping.Variables]:
    """The denoiser and its variables, from the entries that begin with `denoise_fn.`.

    Args:
      state: the state dict.
      source: the file, for messages.
      **fields: of the network, where they are not the published ones.

    Raises:
      UserError: as `infer` and `mapping.load`.
    """
    network = GuidedUNet(**(infer(state, source) | fields))
    own = {name: array for name, array in state.items() if name.startswith("denoise_fn.")}
    width = mapping.shape_of(own, "denoise_fn.fd_spliter.noise_func.weight", source, 2)[0]
    x = mapping.image(2 ** len(network.multipliers) * 8, width)
    level = mapping.level()
    return network, mapping.load(own, network, names_of(network), x, x, level, source=source)

"""ResShift's checkpoints: the network's `input_blocks`, and the autoencoder, two files."""

import re
from typing import Any

from lpdiff_jax.errors import UserError
from lpdiff_jax.models.baselines.swin_unet import SwinUNet
from lpdiff_jax.models.baselines.vq import VQAutoencoder
from lpdiff_jax.pytorch.baselines import mapping

_BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "embedding": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "shortcut": "skip_connection",
}
_SINGLE = {
    "embed/fc1": "time_embed.0",
    "embed/fc2": "time_embed.2",
    "stem": "input_blocks.0.0",
    "head_norm": "out.0",
    "head": "out.2",
}
_SWIN = {
    "embed": "patch_embed.proj",
    "unembed": "patch_unembed.proj",
    "norm1": "norm1",
    "norm2": "norm2",
    "attention": "attn",
    "attention/qkv": "attn.qkv",
    "attention/out": "attn.proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
# Computed by the program; the masks that it saves it never uses.
_BUFFERS = r".*\.(attn_mask|attn\.relative_position_index)"


def names_of(network: SwinUNet) -> mapping.Names:
    """The names of a network's variables, which number the blocks of all levels through."""
    levels, blocks = len(network.multipliers), network.blocks

    def torch_name(path: mapping.Path) -> str:
        *parts, leaf = path[1:]
        return f"{_module('/'.join(parts), levels, blocks)}.{mapping.LEAVES[leaf]}"

    return mapping.Names(torch_name, ignored=_BUFFERS)


def _module(module: str, levels: int, blocks: int) -> str:
    if module in _SINGLE:
        return _SINGLE[module]
    if match := re.fullmatch(r"condition_(shrink_)?(\d+)", module):
        index = 3 * int(match[2])
        return f"feature_extractor.{index + 2}.op" if match[1] else f"feature_extractor.{index}"
    if match := re.fullmatch(r"(shrink|grow)_(\d+)", module):
        level = int(match[2])
        if match[1] == "shrink":
            return f"input_blocks.{(level + 1) * (blocks + 1)}.0.op"
        # The last block of a level has no Swin layer, so the convolution comes second.
        return f"output_blocks.{(levels - level) * (blocks + 1) - 1}.1.conv"
    if match := re.fullmatch(r"mid_(\d|swin)/(.+)", module):
        index = {"0": 0, "swin": 1, "1": 2}[match[1]]
        return f"middle_block.{index}.{_part(match[1], match[2])}"
    if match := re.fullmatch(r"(down|up)_(\d+)_(\d+|swin)/(.+)", module):
        level, kind = int(match[2]), match[3]
        index = 0 if kind == "swin" else int(kind)
        if match[1] == "down":
            place = f"input_blocks.{1 + level * (blocks + 1) + index}"
        else:
            place = f"output_blocks.{(levels - 1 - level) * (blocks + 1) + index}"
        return f"{place}.{int(kind == 'swin')}.{_part(kind, match[4])}"
    raise KeyError(module)


def _part(kind: str, part: str) -> str:
    if kind != "swin":
        return _BLOCK[part]
    if match := re.fullmatch(r"block_(\d+)/(.+)", part):
        return f"blocks.{match[1]}.{_SWIN[match[2]]}"
    return _SWIN[part]


def recognise(state: mapping.StateDict) -> bool:
    """Whether the state dict is of ResShift's network."""
    return "input_blocks.0.0.weight" in state and "middle_block.1.patch_embed.proj.weight" in state


def recognise_autoencoder(state: mapping.StateDict) -> bool:
    """Whether the state dict is of the autoencoder."""
    return "quantize.embedding.weight" in state and "encoder.conv_in.weight" in state


def infer(state: mapping.StateDict, source: str) -> dict[str, Any]:
    """The arguments of `SwinUNet` that a state dict describes.

    The window follows from the tables of offsets, `nominal_size` from the masks that the program
    saves beside them.

    Raises:
      UserError: what says the network's shape is missing or does not fit.
    """

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        return mapping.shape_of(state, name, source, ndim)

    shrinks = mapping.numbers(state, r"input_blocks\.(\d+)\.0\.op\..*")
    residual = mapping.numbers(state, r"input_blocks\.(\d+)\.0\.in_layers\..*")
    if not residual:
        raise UserError(f"{source}: lacks all residual blocks of input_blocks")
    blocks = (shrinks[0] if shrinks else residual[-1] + 1) - 1
    features = shape("input_blocks.0.0.weight", 4)[0]
    firsts = list(range(1, 1 + (len(shrinks) + 1) * (blocks + 1), blocks + 1))
    widths = [shape(f"input_blocks.{i}.0.in_layers.2.weight", 4)[0] for i in firsts]
    if any(width % features for width in widths):
        raise UserError(f"{source}: widths {widths} are not multiples of the first, {features}")
    swin = "middle_block.1"
    swin_features = shape(f"{swin}.patch_embed.proj.weight", 4)[0]
    heads = shape(f"{swin}.blocks.0.attn.relative_position_bias_table", 2)[1]
    attending = mapping.numbers(state, r"input_blocks\.(\d+)\.1\.patch_embed\..*")
    window, nominal = _windows(state, source, blocks, len(firsts))
    return {
        "features": features,
        "multipliers": tuple(width // features for width in widths),
        "blocks": blocks,
        "attention_levels": tuple((i - 1) // (blocks + 1) for i in attending),
        "nominal_size": nominal,
        "window": window,
        "swin_features": swin_features,
        "swin_depth": len(mapping.numbers(state, rf"{swin}\.blocks\.(\d+)\..*")),
        "head_features": swin_features // heads,
        "mlp_ratio": shape(f"{swin}.blocks.0.mlp.fc1.weight", 4)[0] / swin_features,
        "condition_halvings": len(mapping.numbers(state, r"feature_extractor\.(\d+)\.op\.weight")),
        "mask": "released",
        "out_channels": shape("out.2.weight", 4)[0],
    }


def _windows(state: mapping.StateDict, source: str, blocks: int, levels: int) -> tuple[int, int]:
    """The window, and the nominal size of the first level.

    A shifted block's saved mask has an entry for each window of the nominal image. Where there is
    none, nothing is shifted, and the coarsest level is one window.
    """
    place = r"(?:input_blocks\.(\d+)\.1|middle_block\.1)\.blocks\.\d+\."
    sides, nominal = [], 0
    for name, array in state.items():
        if re.fullmatch(place + r"attn\.relative_position_bias_table", name) and array.ndim:
            sides.append((mapping.side_of(len(array), source) + 1) // 2)
        if (match := re.fullmatch(place + "attn_mask", name)) and array.ndim == 3:
            level = (int(match[1]) - 1) // (blocks + 1) if match[1] else levels - 1
            windows = round((array.shape[0] * array.shape[1]) ** 0.5)
            nominal = max(nominal, windows * 2**level)
    if not sides:
        raise UserError(f"{source}: lacks the attention of middle_block.1")
    return max(sides), nominal or min(sides) * 2 ** (levels - 1)


def load(
    state: mapping.StateDict, source: str, **fields: Any
) -> tuple[SwinUNet, mapping.Variables]:
    """The network and its variables.

    Args:
      state: the state dict.
      source: the file, for messages.
      **fields: of the network, where the file does not tell them.

    Raises:
      UserError: as `infer` and `mapping.load`.
    """
    network = SwinUNet(**(infer(state, source) | fields))
    channels = mapping.shape_of(state, "input_blocks.0.0.weight", source, 4)[1]
    latent = network.out_channels
    if network.condition_halvings:
        condition = mapping.shape_of(state, "feature_extractor.0.weight", source, 4)[1]
    else:
        condition = channels - latent
    size = network.nominal_size
    larger = size * 2**network.condition_halvings
    inputs = (
        mapping.image(larger, larger, condition), mapping.image(size, size, latent),
        mapping.level(),
    )  # fmt: skip
    return network, mapping.load(state, network, names_of(network), *inputs, source=source)


# --- autoencoder -----------------------------------------------------------------------------

_RESIDUAL = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "shortcut": "nin_shortcut",
}
_ATTENTION = {"norm": "norm", "query": "q", "key": "k", "value": "v", "out": "proj_out"}
_CODER = {"stem": "conv_in", "head_norm": "norm_out", "head": "conv_out"}


def _autoencoder_name(path: mapping.Path) -> str:
    *parts, leaf = path[1:]
    module = "/".join(parts)
    if leaf == "codebook":
        return "quantize.embedding.weight"
    return f"{_autoencoder_module(module)}.{mapping.LEAVES[leaf]}"


def _autoencoder_module(module: str) -> str:
    latent = {"to_latent": "quant_conv", "from_latent": "post_quant_conv"}
    if module in latent:
        return latent[module]
    coder, _, rest = module.partition("/")
    if rest in _CODER:
        return f"{coder}.{_CODER[rest]}"
    if match := re.fullmatch(r"mid_(\d)/(.+)", rest):
        return f"{coder}.mid.block_{int(match[1]) + 1}.{_RESIDUAL[match[2]]}"
    if match := re.fullmatch(r"mid_attention/(.+)", rest):
        return f"{coder}.mid.attn_1.{_ATTENTION[match[1]]}"
    if match := re.fullmatch(r"(down|up)_(\d+)_(\d+)/(.+)", rest):
        return f"{coder}.{match[1]}.{match[2]}.block.{match[3]}.{_RESIDUAL[match[4]]}"
    if match := re.fullmatch(r"shrink_(\d+)/conv", rest):
        return f"{coder}.down.{match[1]}.downsample.conv"
    if match := re.fullmatch(r"grow_(\d+)", rest):
        return f"{coder}.up.{match[1]}.upsample.conv"
    raise KeyError(module)


AUTOENCODER_NAMES = mapping.Names(_autoencoder_name)


def infer_autoencoder(state: mapping.StateDict, source: str) -> dict[str, Any]:
    """The arguments of `VQAutoencoder` that a state dict describes.

    Raises:
      UserError: what says the network's shape is missing or does not fit.
    """
    features = mapping.shape_of(state, "encoder.conv_in.weight", source, 4)[0]
    levels = mapping.numbers(state, r"encoder\.down\.(\d+)\..*")
    widths = [
        mapping.shape_of(state, f"encoder.down.{level}.block.0.conv1.weight", source, 4)[0]
        for level in levels
    ]
    if not widths or any(width % features for width in widths):
        raise UserError(f"{source}: widths {widths} are not multiples of the first, {features}")
    codes, channels = mapping.shape_of(state, "quantize.embedding.weight", source, 2)
    return {
        "features": features,
        "multipliers": tuple(width // features for width in widths),
        "blocks": len(mapping.numbers(state, r"encoder\.down\.0\.block\.(\d+)\..*")),
        "codes": codes,
        "latent_channels": channels,
        "out_channels": mapping.shape_of(state, "decoder.conv_out.weight", source, 4)[0],
    }


def load_autoencoder(
    state: mapping.StateDict, source: str
) -> tuple[VQAutoencoder, mapping.Variables]:
    """The autoencoder and its variables.

    Raises:
      UserError: as `infer_autoencoder` and `mapping.load`.
    """
    network = VQAutoencoder(**infer_autoencoder(state, source))
    x = mapping.image(32, 32)
    return network, mapping.load(state, network, AUTOENCODER_NAMES, x, source=source)

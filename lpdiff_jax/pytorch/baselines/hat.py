"""HAT's checkpoints: `layers.g.residual_group.blocks.b` and what stands around them."""

from typing import Any

from lpdiff_jax.errors import UserError
from lpdiff_jax.models.baselines.hat import HAT
from lpdiff_jax.pytorch.baselines import mapping

_GROUP = r"layers.\1.residual_group"
NAMES = mapping.Names(
    mapping.simple_names(
        [
            (r"(conv_first|norm|conv_after_body|conv_last)", r"\1"),
            (r"conv_before_upsample", r"conv_before_upsample.0"),
            (r"upsample_0", r"upsample.0"),
            (r"upsample_1", r"upsample.2"),
            (r"upsample_2", r"upsample.4"),
            (r"embed_norm", r"patch_embed.norm"),
            (r"group_(\d+)/conv", r"layers.\1.conv"),
            (r"group_(\d+)/block_(\d+)/(norm\d)", _GROUP + r".blocks.\2.\3"),
            (r"group_(\d+)/block_(\d+)/mlp/(fc\d)", _GROUP + r".blocks.\2.mlp.\3"),
            (r"group_(\d+)/block_(\d+)/attention", _GROUP + r".blocks.\2.attn"),
            (r"group_(\d+)/block_(\d+)/attention/qkv", _GROUP + r".blocks.\2.attn.qkv"),
            (r"group_(\d+)/block_(\d+)/attention/out", _GROUP + r".blocks.\2.attn.proj"),
            (r"group_(\d+)/block_(\d+)/channel/narrow", _GROUP + r".blocks.\2.conv_block.cab.0"),
            (r"group_(\d+)/block_(\d+)/channel/widen", _GROUP + r".blocks.\2.conv_block.cab.2"),
            (
                r"group_(\d+)/block_(\d+)/channel/squeeze",
                _GROUP + r".blocks.\2.conv_block.cab.3.attention.1",
            ),
            (
                r"group_(\d+)/block_(\d+)/channel/excite",
                _GROUP + r".blocks.\2.conv_block.cab.3.attention.3",
            ),
            (r"group_(\d+)/overlapping", _GROUP + r".overlap_attn"),
            (r"group_(\d+)/overlapping/out", _GROUP + r".overlap_attn.proj"),
            (r"group_(\d+)/overlapping/(qkv|norm\d)", _GROUP + r".overlap_attn.\2"),
            (r"group_(\d+)/overlapping/mlp/(fc\d)", _GROUP + r".overlap_attn.mlp.\2"),
        ]
    ),
    ignored=r"relative_position_index_(SA|OCA)|layers\.\d+\.residual_group\.blocks\.\d+\.attn_mask",
)
_BLOCK = "layers.0.residual_group.blocks.0"


def recognise(state: mapping.StateDict) -> bool:
    """Whether the state dict has HAT's groups."""
    return any(name.startswith("layers.0.residual_group.") for name in state)


def infer(state: mapping.StateDict, source: str) -> dict[str, Any]:
    """The arguments of `HAT` that a state dict describes.

    The window follows from the table of offsets, the overlap from the second table.

    Raises:
      UserError: what says the network's shape is missing or does not fit.
    """

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        return mapping.shape_of(state, name, source, ndim)

    offsets, heads = shape(f"{_BLOCK}.attn.relative_position_bias_table", 2)
    window = (mapping.side_of(offsets, source) + 1) // 2
    overlap_table = "layers.0.residual_group.overlap_attn.relative_position_bias_table"
    reach = mapping.side_of(shape(overlap_table, 2)[0], source) - window + 1
    features = shape("conv_first.weight", 4)[0]
    depths = _depths(state, source)
    return {
        "features": features,
        "depths": depths,
        "heads": heads,
        "window": window,
        "compress": features // shape(f"{_BLOCK}.conv_block.cab.0.weight", 4)[0],
        "squeeze": features // shape(f"{_BLOCK}.conv_block.cab.3.attention.1.weight", 4)[0],
        "overlap": (reach - window) / window,
        "mlp_ratio": shape(f"{_BLOCK}.mlp.fc1.weight", 2)[0] / features,
        "scale": _scale(state, source),
        "out_channels": shape("conv_last.weight", 4)[0],
    }


def _depths(state: mapping.StateDict, source: str) -> tuple[int, ...]:
    groups = mapping.numbers(state, r"layers\.(\d+)\..*")
    depths = [
        len(mapping.numbers(state, rf"layers\.{g}\.residual_group\.blocks\.(\d+)\..*"))
        for g in groups
    ]
    if not all(depths):
        raise UserError(f"{source}: groups {groups} have {depths} blocks")
    return tuple(depths)


def _scale(state: mapping.StateDict, source: str) -> int:
    stages = len(mapping.numbers(state, r"upsample\.(\d+)\.weight"))
    if stages == 1 and mapping.shape_of(state, "upsample.0.weight", source, 4)[0] == 576:
        return 3
    return 2**stages


def load(state: mapping.StateDict, source: str) -> tuple[HAT, mapping.Variables]:
    """The network and its variables.

    Raises:
      UserError: as `infer` and `mapping.load`.
    """
    network = HAT(**infer(state, source))
    channels = mapping.shape_of(state, "conv_first.weight", source, 4)[1]
    x = mapping.image(network.window, network.window, channels)
    return network, mapping.load(state, network, NAMES, x, source=source)

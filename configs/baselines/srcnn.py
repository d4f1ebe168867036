"""SRCNN: three convolutions, 9-1-5 as in the paper, or its best, 9-5-5.

    python train.py --config configs/baselines/srcnn.py --workdir runs/srcnn
    python train.py --config configs/baselines/srcnn.py:955 --workdir runs/srcnn_955
    python train.py --config configs/baselines/srcnn.py:compact --workdir runs/srcnn_compact

Published (Dong et al., TPAMI 2016, and the usual program): squared error, Adam at 1e-4, the last
layer at a tenth of it, batch 16; whole plates here, not patches. 0.020 M parameters (9-5-5: 0.069).
`compact` is 9-5-5 at 48 x 96, trained for the same operations as configs/compact.py's two stages.
Cost of `compact`: 16,030 TFLOP of training, then 9 ms of one CPU core a plate; not yet trained to
the end by us, so that there is no figure (docs/baselines.md).
"""

from ml_collections import ConfigDict

from configs.baselines import common


def get_config(text: str = "") -> ConfigDict:
    """SRCNN as a regression.

    Args:
      text: '955', 'compact', both or none, parted by a comma.
    """
    chosen = common.read(text, ("955", "compact"))
    compact = "compact" in chosen
    config = common.base("regression", ("regression",), compact)
    # Fields of models/baselines/srcnn.py:SRCNN.
    kernels = (9, 5, 5) if chosen else (9, 1, 5)
    config.model.network = ConfigDict(
        {"name": "srcnn", "features": (64, 32), "kernels": kernels, "out_channels": 3}
    )
    config.regression = common.published(
        steps=200_000, batch_size=16, learning_rate=1e-4, ema_decay=0.0,
        # 'l1' or 'l2'.
        loss="l2",
        # Layers that learn more slowly, and by what factor.
        layer_rates={"conv3": 0.1},
    )  # fmt: skip
    if compact:
        common.compact_stage(config.regression, 295_000)
    return config

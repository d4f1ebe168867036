"""HAT, or the smaller HAT-S: window attention beside channel attention, trained by L1.

    python train.py --config configs/baselines/hat.py --workdir runs/hat
    python train.py --config configs/baselines/hat.py:small --workdir runs/hat_s
    python train.py --config configs/baselines/hat.py:compact --workdir runs/hat_compact

Published (Chen et al., CVPR 2023): L1, Adam (0.9, 0.99) at 2e-4, halved at 250, 400, 450 and 475 of
500 thousand steps, batch 32, average 0.999. Scale 1: plates keep their size. 20.5 M parameters and
1,234 GFLOP a plate at 112 x 224 (HAT-S: 9.3 M, 631). `compact` has 48 channels and two groups of
four blocks at 48 x 96 (0.41 M; with `small` 0.31 M), trained for the same operations as
configs/compact.py's two stages. Cost of `compact`: 15,689 TFLOP of training (`small`: 15,634), then
97 ms of one CPU core a plate; not yet trained to the end by us, so that there is no figure
(docs/baselines.md).
"""

from ml_collections import ConfigDict

from configs.baselines import common


def get_config(text: str = "") -> ConfigDict:
    """HAT as a regression.

    Args:
      text: 'small', 'compact', both or none, parted by a comma.
    """
    chosen = common.read(text, ("small", "compact"))
    small, compact = "small" in chosen, "compact" in chosen
    config = common.base("regression", ("regression",), compact)
    # Fields of models/baselines/hat.py:HAT.
    network = {
        "name": "hat", "features": 144 if small else 180, "depths": (6,) * 6, "heads": 6,
        "window": 16, "compress": 24 if small else 3, "squeeze": 24 if small else 30,
        "overlap": 0.5, "mlp_ratio": 2.0, "scale": 1, "nominal_size": 64, "drop_path": 0.1,
    }  # fmt: skip
    if compact:
        network |= {"features": 48, "depths": (4, 4), "window": 8, "squeeze": 24 if small else 12}
    config.model.network = ConfigDict(network)
    config.regression = common.published(
        steps=500_000, batch_size=32, learning_rate=2e-4, b2=0.99, ema_decay=0.999, loss="l1",
        # The learning rate is halved at each of these steps.
        decay="halving", halve_at=(250_000, 400_000, 450_000, 475_000),
    )  # fmt: skip
    if compact:
        common.compact_stage(config.regression, 46_000 if small else 37_000)
    return config

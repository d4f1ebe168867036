"""The plain multi-frame regression: one U-Net from frames to plate, trained by L1. The floor.

    python train.py --config configs/baselines/regression.py --workdir runs/regression
    python train.py --config configs/baselines/regression.py:compact --workdir runs/regression

Without an argument it has the size of LP-Diff's denoiser at 112 x 224 (92 M parameters), with
`:compact` that of configs/compact.py's at 48 x 96. `--config.model.frames=mean` gives it the mean
frame instead of all frames side by side. Cost of `compact`: 16,091 TFLOP of training; not yet
trained to the end by us, so that there is no figure (docs/baselines.md).
"""

from ml_collections import ConfigDict

from configs import common, compact, lpdiff


def get_config(size: str = "") -> ConfigDict:
    """The U-Net of LP-Diff's denoiser, as a regression.

    Args:
      size: 'compact', or empty for the paper's size.
    """
    source = {"": lpdiff, "compact": compact}[size].get_config()
    config = common.get_config()
    config.method = "regression"
    config.stages = ("regression",)
    network = source.model.denoiser.copy_and_resolve_references()
    # An embedding of the noise level is the denoiser's alone.
    network.unlock()
    del network["embedding"]
    network.name = "unet"
    config.model = ConfigDict(
        {
            "image_size": source.model.image_size,
            # Precision of the computation; parameters, norms and losses are float32.
            "dtype": "float32",
            # How the frames become one input: 'stacked' in channels, their 'mean', the 'nearest'.
            "frames": "stacked",
            # Frames that are stacked: the nearest ones.
            "count": 3,
            # 'unet', with the fields of models/unet.py:UNet.
            "network": network,
        }
    )
    config.regression = common.get_optimisation()
    # 'l1' or 'l2'.
    config.regression.loss = "l1"
    for name in ("steps", "learning_rate", "warmup_steps", "ema_decay"):
        config.regression[name] = source.diffusion[name]
    if size == "compact":
        # As many operations as both stages of configs/compact.py.
        config.regression.steps = 81_000
    config.eval = source.eval
    return config

"""ResDiff: a small CNN, trained by losses of its frequencies; then the diffusion of what it misses.

    python train.py --config configs/baselines/resdiff.py --workdir runs/resdiff
    python train.py --config configs/baselines/resdiff.py:released --workdir runs/resdiff_released
    python train.py --config configs/baselines/resdiff.py:compact --workdir runs/resdiff_compact

Published (Shang et al., AAAI 2024): the CNN by Adam at 1e-4, batch 1, one epoch; the denoiser (98.9
M parameters) by Adam at 1e-4, batch 4, 100 thousand steps, one noise level a batch, no average;
linear schedule, 1000 steps of sampling. By default what is wrong in the published program is
mended: the splitter of frequencies looks at each image alone, each sample has its own noise level,
the plate is clipped and not the residual; `released` has all as published. The denoiser's first
weights are orthogonal. `compact` (2.7 M) works at 48 x 96, begins as LP-Diff does, and samples in
20 steps of DDIM; it is trained for the same operations as configs/compact.py's two stages. Cost of
`compact`: 15,978 TFLOP of training, then 468 ms of one CPU core a plate; not yet trained to the end
by us, so that there is no figure (docs/baselines.md).
"""

from ml_collections import ConfigDict

from configs.baselines import common


def get_config(text: str = "") -> ConfigDict:
    """ResDiff's two stages.

    Args:
      text: 'released', 'compact', both or none, parted by a comma.
    """
    chosen = common.read(text, ("released", "compact"))
    released, compact = "released" in chosen, "compact" in chosen
    config = common.base("resdiff", ("cnn", "diffusion"), compact)
    # Fields of models/baselines/resdiff.py:SimpleCNN and GuidedUNet.
    config.model.cnn = ConfigDict({"features": (64, 32)})
    config.model.denoiser = ConfigDict(
        {
            "features": 64, "multipliers": (1, 2, 4, 8, 8), "blocks": 2, "norm_groups": 32,
            "attention_levels": (3,), "dropout": 0.2,
            # How the prediction is split by frequency: 'per_image', or 'released'.
            "splitter": "released" if released else "per_image",
        }
    )  # fmt: skip
    # Arguments of diffusion/schedule.py:make_schedule.
    config.model.schedule = ConfigDict(
        {"name": "linear", "steps": 1000, "start": 1e-6, "end": 1e-2}
    )
    # What the denoiser predicts, the residual's unit, and what is clipped to [-1, 1]: the 'image',
    # or the 'residual' as published.
    config.model.prediction = "noise"
    config.model.residual_scale = 1.0
    config.model.clip = "residual" if released else "image"
    # The denoiser's first weights: 'orthogonal' as published, or 'usual', which begin as LP-Diff's.
    config.model.initial = "usual" if compact else "orthogonal"
    config.sampler = ConfigDict(
        {"name": "ddpm", "steps": 1000, "eta": 0.0, "spacing": "uniform", "start": 1.0}
    )
    adam = {"learning_rate": 1e-4, "ema_decay": 0.0}
    config.cnn = common.published(steps=10_000, batch_size=1, **adam)
    config.diffusion = common.published(
        steps=100_000, batch_size=4, **adam,
        # Noise levels in a batch: 'stratified' (one a sample), or 'shared' as published.
        levels="shared" if released else "stratified",
        # Weighting of the loss over noise levels: 'none' or 'min_snr'.
        weighting="none",
    )  # fmt: skip
    if compact:
        config.model.denoiser.update(
            features=32, multipliers=(1, 2, 4), blocks=1, attention_levels=(2,), dropout=0.0
        )
        config.sampler.update(name="ddim", steps=20)
        common.compact_stage(config.cnn, 20_000)
        common.compact_stage(config.diffusion, 43_000)
    return config

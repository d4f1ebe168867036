"""A few million parameters at 48 x 96: for a CPU, or a GPU in an hour.

python train.py --config configs/compact.py --workdir runs/compact
"""

from ml_collections import ConfigDict

from configs import lpdiff


def get_config() -> ConfigDict:
    """The paper's configuration, smaller."""
    config = lpdiff.get_config()
    model = config.model
    # Enough to be read at the recogniser's ceiling.
    model.image_size = (48, 96)
    model.condition.features = (48, 96, 160)
    model.condition.strides = (1, 2, 2)
    # Both networks work on 2 x 2 pixel-unshuffled images: a quarter of the cost.
    model.denoiser.update(
        features=48,
        multipliers=(1, 2, 3),
        norm_groups=16,
        attention_resolutions=(32,),
        dropout=0.0,
        patch=2,
    )
    for stage in (config.psi, config.diffusion):
        stage.steps = 40_000
        stage.learning_rate = 3e-4
        stage.warmup_steps = 500
        stage.ema_decay = 0.999
    config.sketch.update(steps=4_000, batch_size=64, warmup_steps=100, ema_decay=0.995)
    config.eval.batch_size = 32
    return config

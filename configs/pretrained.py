r"""The packaged model's networks, cheap enough for CPU cores (its model card says how it was made).

python train.py --config configs/pretrained.py --workdir runs/pretrained

It draws plates of many kinds, and augments them strongly, as for its last pieces: plates that look
all alike teach a model to read these alone.
"""

from ml_collections import ConfigDict

from configs import compact


def get_config() -> ConfigDict:
    """The compact configuration, cheap enough for two CPU cores."""
    config = compact.get_config()
    config.data.synthetic.update(groups=40_000, preset="varied")
    config.data.augment.update(rotation=3.0, scale=0.12, shift=0.03, contrast=0.45, brightness=0.15)
    config.model.condition.update(features=(32, 64, 128))
    config.model.denoiser.update(features=32, blocks=1)
    config.model.sketch.layers = 2
    config.stages = ("psi", "sketch", "diffusion")
    config.psi.update(learning_rate=1e-3, warmup_steps=100, ema_decay=0.995)
    config.diffusion.update(learning_rate=1e-3, warmup_steps=100, ema_decay=0.995)
    return config

"""The main job in ten minutes on two CPU cores: draw a data set, train, evaluate, restore.

    python train.py --config configs/quickstart.py --workdir runs/quickstart

Too short a training to read plates by; it shows that everything works.
"""

from ml_collections import ConfigDict

from configs import compact


def get_config() -> ConfigDict:
    """The compact configuration, narrower, for a few hundred steps."""
    config = compact.get_config()
    config.data.synthetic.groups = 2_000
    config.data.synthetic.val_groups = 64
    config.model.condition.update(features=(32, 64, 96), frame_blocks=0, blocks=1)
    config.model.denoiser.update(features=32, blocks=1)
    config.model.sketch.layers = 2
    config.stages = ("psi", "sketch", "diffusion")
    config.psi.update(steps=450, batch_size=16, learning_rate=1e-3, warmup_steps=50, ema_decay=0.98)
    config.sketch.update(steps=300, batch_size=16, warmup_steps=30, ema_decay=0.98)
    config.diffusion.update(
        steps=300, batch_size=16, learning_rate=1e-3, warmup_steps=50, ema_decay=0.98
    )
    # Ten minutes are too few to gain by augmentation, or to spend on sheets before the last one.
    config.data.augmented = False
    config.sheet_plates = 0
    config.log_every = 25
    config.checkpoint_every = 150
    config.validate_every = 150
    config.note = (
        "A few hundred steps are too few to read plates by. configs/compact.py is the one to train "
        "for longer."
    )
    config.eval.update(limit=64, batch_size=16)
    return config

"""The main job in ten minutes on two CPU cores: draw a data set, train, evaluate, restore.

    python train.py --config configs/quickstart.py --workdir runs/quickstart

Too short a training to read plates by; it shows that everything works.
"""

from ml_collections import ConfigDict

from configs import compact


def get_config() -> ConfigDict:
    """The compact configuration, narrower, for a few hundred steps."""
    config = compact.get_config()
    config.data.synthetic.groups = 3_000
    config.data.synthetic.val_groups = 64
    # A psi twice as wide reads worse after so few minutes: docs/training.md.
    config.model.condition.update(features=(16, 32, 48), frame_blocks=0, blocks=1)
    config.model.denoiser.update(features=32, blocks=1)
    config.model.sketch.layers = 2
    config.stages = ("psi", "sketch", "diffusion")
    config.psi.update(
        steps=1_000, batch_size=16, learning_rate=1e-3, warmup_steps=100, ema_decay=0.98
    )
    config.sketch.update(steps=300, batch_size=16, warmup_steps=30, ema_decay=0.98)
    config.diffusion.update(
        steps=300, batch_size=16, learning_rate=1e-3, warmup_steps=50, ema_decay=0.98
    )
    # Ten minutes are too few to gain by augmentation, or to spend on sheets before the last one.
    config.data.augmented = False
    config.sheet_plates = 0
    config.log_every = 25
    config.checkpoint_every = 250
    config.validate_every = 250
    config.note = (
        "A few hundred steps are too few to read plates by. configs/compact.py is the one to train "
        "for longer."
    )
    config.eval.update(limit=64, batch_size=16)
    return config

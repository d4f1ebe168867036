r"""The published model and recipe, wrongs included: for comparison, not for use.

    python train.py --config configs/released.py --workdir runs/released \
        --config.data.root=data/mdlp

Users report that it does not learn (6.4 dB, flat, in a published curve).
"""

from ml_collections import ConfigDict

from configs import lpdiff
from lpdiff_jax.methods.lpdiff.released import released_model


def get_config() -> ConfigDict:
    """What the published program trains: no loss on psi, one step a batch, lr 5e-3."""
    config = lpdiff.get_config()
    config.model = ConfigDict(released_model())
    config.stages = ("diffusion",)
    config.sampler.update(name="ddpm", steps=1000)
    config.diffusion.update(
        condition="unsupervised",
        levels="shared",
        steps=1_000_000,
        batch_size=20,
        learning_rate=5e-3,
        warmup_steps=0,
        decay="none",
        weight_decay=0.0,
        clip_norm=0.0,
        ema_decay=0.0,
    )
    return config

r"""Restoring in 4, 2 or 1 steps: a trained compact model, distilled progressively.

    python train.py --config configs/distill.py --workdir runs/distilled \
        --config.init=runs/compact --config.data.root=data/mdlp

The stages take the steps from 8 to 4, to 2, to 1; a checkpoint of each stays in
`checkpoints/distill_<steps>`, and `lpdiff restore --model WORKDIR/checkpoints/distill_4/STEP
--steps 4` restores with it. Cost: a step calls the denoiser three times, once with gradients; it
takes about as long as two steps of the diffusion.
"""

from ml_collections import ConfigDict

from configs import compact


def get_config() -> ConfigDict:
    """The compact configuration with three stages of distillation."""
    config = compact.get_config()
    config.stages = ("distill_4", "distill_2", "distill_1")
    # The student is sampled as it was trained: deterministic DDIM, in the last stage's steps.
    config.sampler.update(name="ddim", steps=1, eta=0.0)
    for name in config.stages:
        config[name].update(steps=10_000, learning_rate=1e-4, warmup_steps=200, ema_decay=0.999)
    return config

"""The compared systems, as small as they can be, for tests.

python -m tests.methods.baselines NAME WORKDIR DATA MODE [PORT INDEX COUNT] trains one.
"""

import sys
from pathlib import Path

from ml_collections import ConfigDict

from configs.baselines import hat, real_esrgan, resdiff, resshift, srcnn

TINY = {
    "srcnn": (srcnn, "955", {"model.network.features": (4, 4)}),
    "hat": (
        hat,
        "",
        {
            "model.network.features": 8,
            "model.network.depths": (2,),
            "model.network.heads": 2,
            "model.network.window": 4,
            "model.network.compress": 2,
            "model.network.squeeze": 1,
            "model.frames": "stacked",
            "model.count": 2,
        },
    ),
    "real_esrgan": (
        real_esrgan,
        "",
        {
            "model.network.features": 4,
            "model.network.blocks": 1,
            "model.network.growth": 2,
            "model.discriminator.features": 2,
            "adversarial.perceptual_weight": 0.0,
            "adversarial.sharpen": False,
        },
    ),
    "resdiff": (
        resdiff,
        "",
        {
            "model.cnn.features": (4, 4),
            "model.denoiser.features": 4,
            "model.denoiser.multipliers": (1, 2),
            "model.denoiser.blocks": 1,
            "model.denoiser.norm_groups": 2,
            "model.denoiser.attention_levels": (),
            "model.schedule.steps": 50,
            "sampler.name": "ddim",
            "sampler.steps": 2,
        },
    ),
    "resshift": (resshift, "4", {}),
    "resshift_latent": (
        resshift,
        "4,latent",
        {
            "model.autoencoder.features": 4,
            "model.autoencoder.blocks": 1,
            "model.autoencoder.norm_groups": 2,
            "model.autoencoder.codes": 8,
            "autoencoder.perceptual_weight": 0.0,
            "model.denoiser.nominal_size": 2,
        },
    ),
}
_SWIN = {
    "model.denoiser.features": 4,
    "model.denoiser.multipliers": (1,),
    "model.denoiser.blocks": 1,
    "model.denoiser.norm_groups": 2,
    "model.denoiser.attention_levels": (),
    "model.denoiser.nominal_size": 8,
    "model.denoiser.window": 2,
    "model.denoiser.swin_features": 4,
    "model.denoiser.head_features": 2,
    "diffusion.perceptual_weight": 0.0,
    "sampler.steps": 2,
}
_SHARED = {
    "data.num_frames": 2,
    "model.image_size": (8, 16),
    "log_every": 2,
    "checkpoint_every": 2,
    "validate_every": 4,
    "validation_batches": 1,
    "sheet_plates": 0,
    "eval.limit": 2,
    "eval.batch_size": 2,
}


def tiny(name: str, root: Path | str = "", **fields) -> ConfigDict:
    """A system's configuration at 8 x 16, four steps a stage."""
    module, argument, own = TINY[name]
    config = module.get_config(argument)
    shared = _SHARED | (_SWIN if name.startswith("resshift") else {})
    for stage in config.stages:
        shared |= {f"{stage}.steps": 4, f"{stage}.batch_size": 4, f"{stage}.warmup_steps": 0}
    with config.unlocked():
        config.update_from_flattened_dict(shared | own | {"data.root": str(root)} | fields)
    return config


def main(name: str, workdir: str, root: str, mode: str, *process: str) -> None:
    """Trains and evaluates one of them, alone or as one of several processes."""
    from lpdiff_jax.evaluation.judges import Judges
    from lpdiff_jax.evaluation.run import evaluate_run
    from lpdiff_jax.parallel import processes
    from lpdiff_jax.training.loop import train

    if process:
        port, index, count = map(int, process)
        processes.initialize(f"127.0.0.1:{port}", index, count)
    config = tiny(name, root, parallel=mode)
    train(config, Path(workdir))
    evaluate_run(config, Path(workdir), judges=Judges(), together=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

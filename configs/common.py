"""What the configurations of all methods share: seed, data, intervals, evaluation, optimisation."""

import dataclasses

from ml_collections import ConfigDict

from data_pipeline.augment import AugmentConfig


def get_config() -> ConfigDict:
    """Every field but those of one method: its `method`, `stages`, `model` and stages' sections."""
    config = ConfigDict()

    # What is trained: a name of lpdiff_jax/methods/registry.py.
    config.method = "lpdiff"
    # Seed of everything random: initial weights, order of the data, noise.
    config.seed = 0
    # Stages to train, in order; each continues from the one before.
    config.stages = ()
    # A trained model (work directory, model directory, `..._gen.pth`) whose networks the first
    # stage begins with; empty: fresh ones.
    config.init = ""
    # How a step is spread over devices: 'pmap', or 'jit' with sharded arrays.
    config.parallel = "pmap"

    # The data set.
    config.data = ConfigDict()
    # MDLP tree or shards; empty: a synthetic set is drawn below the work directory.
    config.data.root = ""
    # What is trained on instead, mixed by weights (empty: the root's train split): name -> kind
    # ('root', 'drawn', 'pictures'), weight and the kind's own fields, see data_pipeline/mixing.py.
    # The root, or the synthetic set, then serves validation alone.
    config.data.sources = ConfigDict()
    # Frames per group: of more, the nearest are taken; fewer are padded and masked.
    config.data.num_frames = 3
    # Reader processes; 0 reads with threads in this process.
    config.data.workers = 0
    # Whether training groups are augmented, and how much: data_pipeline/augment.py explains each.
    config.data.augmented = True
    config.data.augment = ConfigDict(dataclasses.asdict(AugmentConfig()))
    # Groups of the synthetic set (train, val), its seed, its camera, and its plates' styles (none
    # named: the mix of Chinese traffic).
    config.data.synthetic = ConfigDict(
        {"groups": 20_000, "val_groups": 500, "seed": 0, "preset": "real-like", "styles": ()}
    )

    # Steps between lines of progress, checkpoints, and validations.
    config.log_every = 100
    config.checkpoint_every = 2_000
    config.validate_every = 2_000
    # Checkpoints that are kept of each stage, besides the best; at least 2.
    config.keep = 3
    # Batches that a validation takes, and plates on its sample sheet (0: no sheet).
    config.validation_batches = 8
    config.sheet_plates = 4
    # What a device can do at most, in TFLOP/s, for the MFU (0: it is not reported). An H100 does
    # 989 in bfloat16, a TPU v5e 197, a v5p 459.
    config.peak_tflops = 0.0
    # Where curves go beside TensorBoard: 'wandb' (Weights & Biases), or '' (nowhere else).
    config.tracker = ""
    # The steps of each stage that are profiled: their number (0: none), and the first one.
    config.profile = ConfigDict({"first": 10, "steps": 0})

    # What to tell whoever trains it, beside the table at the end.
    config.note = ""
    # The evaluation at the end of training.
    config.eval = ConfigDict({"limit": 200, "batch_size": 16, "samples": 1})
    return config


def get_optimisation() -> ConfigDict:
    """How one stage is optimised."""
    return ConfigDict(
        {
            # Optimiser steps of the stage.
            "steps": 200_000,
            # Global batch, over all devices and processes.
            "batch_size": 32,
            # Parts of the batch that gradients are accumulated over, to save memory.
            "accumulate": 1,
            # 'adamw', or 'muon': fewer steps to the same loss (docs/training.md).
            "optimizer": "adamw",
            # Peak learning rate after the warm-up, then a cosine to zero.
            "learning_rate": 1e-4,
            "warmup_steps": 1_000,
            "decay": "cosine",
            "weight_decay": 1e-4,
            # Gradients are scaled down to this global norm (0: never).
            "clip_norm": 1.0,
            # Decay of the exponential moving average of the parameters that inference uses.
            "ema_decay": 0.9999,
        }
    )

"""The plain regression, as small as it can be."""

from configs.baselines import regression
from tests.training.tiny import TINY

SHARED = ("data.num_frames", "log_every", "checkpoint_every", "validate_every", "sheet_plates")


def regression_config(root="", **changes):
    """The compact configuration, tiny."""
    config = regression.get_config("compact")
    fields = {name: TINY[name] for name in SHARED} | {
        "data.root": str(root),
        "model.image_size": (8, 16),
        "model.count": 2,
        "model.network.features": 4,
        "model.network.multipliers": (1,),
        "model.network.blocks": 1,
        "model.network.norm_groups": 2,
        "model.network.attention_resolutions": (),
        "regression.steps": 6,
        "regression.batch_size": 8,
        "regression.warmup_steps": 0,
        "regression.ema_decay": 0.5,
        "eval.limit": 2,
        "eval.batch_size": 2,
        "validation_batches": 1,
    }
    with config.unlocked():
        config.update_from_flattened_dict(fields | changes)
    return config

"""ResShift: a chain of 15 or 4 steps that begins at the nearest frame and ends at the plate.

    python train.py --config configs/baselines/resshift.py --workdir runs/resshift
    python train.py --config configs/baselines/resshift.py:latent,4 --workdir runs/resshift_latent
    python train.py --config configs/baselines/resshift.py:compact --workdir runs/resshift_compact

Published (Yue et al., NeurIPS 2023): 15 steps, squared error, AdamW at 5e-5 after 5,000 steps of
warm-up, no decay, batch 64, 500 thousand steps, average 0.999. `4` is the journal version: 4 steps,
LPIPS beside the squared error (`lpdiff fetch-weights lpips`), batch 96, 400 thousand steps, a
cosine to 2e-5. In pixels (118.6 M parameters, 619 GFLOP a call at 112 x 224), or with `latent` in
the latents of an autoencoder, a stage of its own (48 M, 36 GFLOP, and 373 both ways through the
autoencoder), which the published program takes ready-made; its recipe here is ours. The mask of
shifted windows is the right one, not the published. `compact` (3.2 M; with `latent` 4.5 and 2.7 M)
works at 48 x 96, trained for the same operations as configs/compact.py's two stages. Cost of
`compact`: 15,820 TFLOP of training (`4`: 16,761; `latent`: 15,993), then 431 ms of one CPU core a
plate; not yet trained to the end by us, so that there is no figure (docs/baselines.md).
"""

from ml_collections import ConfigDict

from configs.baselines import common


def get_config(text: str = "") -> ConfigDict:
    """ResShift in pixels or latents.

    Args:
      text: any of 'latent', '4', 'compact', parted by commas.
    """
    chosen = common.read(text, ("latent", "4", "compact"))
    latent, journal, compact = (name in chosen for name in ("latent", "4", "compact"))
    stages = ("autoencoder", "diffusion") if latent else ("diffusion",)
    config = common.base("resshift", stages, compact)
    # Fields of models/baselines/swin_unet.py:SwinUNet.
    config.model.denoiser = ConfigDict(_denoiser(latent, compact))
    # Fields of diffusion/residual_shift.py:ShiftSchedule.
    config.model.schedule = ConfigDict(
        {"steps": 4 if journal else 15, "start": 0.2 if journal else 0.04, "kappa": 2.0,
         "end": 0.99, "power": 0.3, "capped": False}
    )  # fmt: skip
    config.model.autoencoder = None
    if latent:
        # Fields of models/baselines/vq.py:VQAutoencoder.
        config.model.autoencoder = ConfigDict(
            {"features": 32 if compact else 128, "multipliers": (1, 2, 4),
             "blocks": 1 if compact else 2, "norm_groups": 32, "codes": 8192,
             "latent_channels": 3}
        )  # fmt: skip
        config.autoencoder = common.published(
            steps=200_000, batch_size=16, learning_rate=1e-4, ema_decay=0.999,
            # Weights of LPIPS and of the codebook's loss, beside the pixels' 1.
            perceptual_weight=1.0, codebook_weight=1.0,
        )  # fmt: skip
    # Steps of the chain when plates are restored.
    config.sampler = ConfigDict({"steps": config.model.schedule.steps})
    config.diffusion = common.published(
        steps=400_000 if journal else 500_000, batch_size=96 if journal else 64,
        learning_rate=5e-5, warmup_steps=5_000, ema_decay=0.999,
        decay="cosine" if journal else "none", final_learning_rate=2e-5 if journal else 0.0,
        # Weight of LPIPS of the decoded plate, beside the squared error's 1.
        perceptual_weight=1.0 if journal else 0.0,
    )  # fmt: skip
    if compact:
        _make_compact(config, latent, journal)
    return config


def _denoiser(latent: bool, compact: bool) -> dict[str, object]:
    """The published network on a plate of the size, whose coarsest windows are whole levels."""
    fields: dict[str, object] = {
        "features": 160, "multipliers": (1, 2, 2) if latent else (1, 2, 2, 4), "blocks": 2,
        "norm_groups": 32, "attention_levels": (0, 1, 2) if latent else (0, 1, 2, 3),
        "nominal_size": 28 if latent else 112, "window": 7, "swin_features": 192, "swin_depth": 2,
        "head_features": 32, "mlp_ratio": 4.0, "dropout": 0.0,
        "condition_halvings": 2 if latent else 0,
        # The mask of shifted windows: 'regions', or the published program's, 'released'.
        "mask": "regions",
    }  # fmt: skip
    if compact and latent:
        fields |= {"features": 64, "multipliers": (1, 2), "attention_levels": (0, 1)}
        fields |= {"nominal_size": 12}
    elif compact:
        fields |= {"features": 32, "multipliers": (1, 2, 4), "attention_levels": (1, 2)}
        fields |= {"nominal_size": 48, "blocks": 1}
    if compact:
        fields |= {"window": 6, "swin_features": 64, "head_features": 16}
    return fields


def _make_compact(config: ConfigDict, latent: bool, journal: bool) -> None:
    """As many operations as every compact system; LPIPS costs some of the steps."""
    if latent:
        common.compact_stage(config.autoencoder, 6_000 if journal else 7_000)
        common.compact_stage(config.diffusion, 13_500 if journal else 49_000)
    else:
        common.compact_stage(config.diffusion, 24_000 if journal else 42_000)

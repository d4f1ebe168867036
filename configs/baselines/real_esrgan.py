"""Real-ESRGAN: pixels first, then features of VGG and a discriminator.

    lpdiff fetch-weights lpips
    python train.py --config configs/baselines/real_esrgan.py --workdir runs/real_esrgan
    python train.py --config configs/baselines/real_esrgan.py:compact --workdir runs/esrgan_compact

Published (Wang et al., ICCVW 2021): stage one L1 alone, Adam (0.9, 0.99) at 2e-4, a million steps;
stage two generator and discriminator at 1e-4, 400 thousand; batch 48, average 0.999. Scale 1: the
body works at a quarter of each side; 16.7 M parameters, 56 GFLOP a plate at 112 x 224. The
perceptual loss has VGG-16, for which LPIPS' weights can be fetched, in place of the published
VGG-19. `compact` has 6 blocks (4.5 M) at 48 x 96, trained for the same operations as
configs/compact.py's two stages. Trained on pairs, as by the table's authors; the published
degradation is a source of data (kind `second_order`, docs/data.md). A GAN draws characters that are
not there: look at how its plates are read, not at how they look. Cost of `compact`: 15,850 TFLOP of
training, then 23 ms of one CPU core a plate; not yet trained to the end by us, so that there is no
figure (docs/baselines.md).
"""

from ml_collections import ConfigDict

from configs.baselines import common


def get_config(text: str = "") -> ConfigDict:
    """Real-ESRGAN for pairs, without its synthetic degradation.

    Args:
      text: the size: 'compact', or empty.
    """
    compact = "compact" in common.read(text, ("compact",))
    config = common.base("real_esrgan", ("regression", "adversarial"), compact)
    # Fields of models/baselines/rrdb.py:RRDBNet, and of discriminator.py:UNetDiscriminator.
    config.model.network = ConfigDict(
        {"name": "rrdb", "features": 64, "blocks": 6 if compact else 23, "growth": 32, "scale": 1}
    )
    config.model.discriminator = ConfigDict({"features": 32 if compact else 64, "skips": True})
    adam = {"b2": 0.99, "batch_size": 48, "ema_decay": 0.999}
    config.regression = common.published(steps=1_000_000, learning_rate=2e-4, loss="l1", **adam)
    config.adversarial = common.published(
        steps=400_000, learning_rate=1e-4, **adam,
        # Weights of the features' differences (0: no VGG is needed) and of the discriminator's
        # opinion, beside the pixels' 1.
        perceptual_weight=1.0, adversarial_weight=0.1,
        # Whether pixels and features are compared with a sharpened plate, as published; strokes
        # of text get dark rims from it.
        sharpen=True,
        # The discriminator's gradients are not clipped together with the generator's.
        own={"discriminator": {}},
    )  # fmt: skip
    if compact:
        common.compact_stage(config.regression, 22_000)
        common.compact_stage(config.adversarial, 12_000)
        config.adversarial.update(learning_rate=1e-4, sharpen=False)
    return config
